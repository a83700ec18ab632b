"""The catalogs that every test of `catalog` runs on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_sync.catalog.catalog import Catalog
from tests.conformance.catalogs import CATALOGS, SETS, DialClock, Open


@pytest.fixture
def clock() -> DialClock:
    return DialClock()


@pytest.fixture(params=CATALOGS)
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: DialClock) -> Iterator[Open]:
    opened: list[Catalog] = []
    open_ = CATALOGS[request.param](request, tmp_path, clock)

    def make() -> Catalog:
        for old in opened:
            old.close()
        opened[:] = [open_()]
        return opened[0]

    yield make
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(reopen: Open) -> Catalog:
    return reopen()


@pytest.fixture
def ready(catalog: Catalog) -> Catalog:
    """A catalog that knows both series sets for gw-a and gw-b."""
    catalog.put_series_sets("gw-a", SETS)
    catalog.put_series_sets("gw-b", SETS)
    return catalog
