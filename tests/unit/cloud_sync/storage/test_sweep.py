"""A crash between PUT and commit leaves an orphan and nothing else; the sweeper takes it a day later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_sync.catalog.catalog import PackTicket
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import PackExpired
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.ingest.reindex import Reindexed, reindex
from cloud_sync.metrics import Metrics
from cloud_sync.storage.local_store import LocalStore
from cloud_sync.storage.pack_keys import pack_key, pack_key_opened_us
from cloud_sync.storage.sweep import ORPHAN_AGE_US_MIN, sweep_orphans
from tests.unit.cloud_sync.gateway import EPOCH, ROOM, DialClock, hello, message
from wire.sync.outcomes import Stored


class Crash(Exception):
    """The process is gone."""


@pytest.fixture
def clock() -> DialClock:
    return DialClock()


@pytest.fixture
def catalog(tmp_path: Path, clock: DialClock) -> Iterator[SqlCatalog]:
    catalog = SqlCatalog.open(tmp_path / "catalog.sqlite", clock)
    catalog.put_series_sets("gw-a", [ROOM])
    yield catalog
    catalog.close()


def test_a_crash_after_the_put_leaves_an_orphan_only(
    tmp_path: Path, catalog: SqlCatalog, clock: DialClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "objects")
    ingestor = Ingestor(catalog, store, clock, Metrics())

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "commit_pack", crash)
        with pytest.raises(Crash):
            ingestor.write([("gw-a", message(0, 0))])
    [orphan] = store.list("packs/")
    assert list(catalog.hello("gw-a", hello()).coverage[0].stored) == []
    ingestor.write([("gw-a", message(0, 0))])  # the gateway comes again
    [kept] = set(store.list("packs/")) - {orphan}
    store.put("packs/not-a-pack", b"")
    clock.now_us += ORPHAN_AGE_US_MIN - 1
    assert sweep_orphans(catalog, store) == 0
    clock.now_us += 2
    assert sweep_orphans(catalog, store) == 1
    assert sorted(store.list("packs/")) == sorted([kept, "packs/not-a-pack"])
    [row] = catalog.messages("gw-a", [ROOM.id], 0, 2**62)
    assert store.get(row.pack_key, row.offset, row.length) == message(0, 0).segment
    assert row.epoch == EPOCH


def test_the_only_copy_of_a_message_is_never_swept(
    tmp_path: Path, catalog: SqlCatalog, clock: DialClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "objects")
    ingestor = Ingestor(catalog, store, clock, Metrics())
    real = catalog.open_pack
    for first, pack_id in ((0, 1), (10, 70_000)):  # of this catalog, and of the copy that an older one replaced
        with monkeypatch.context() as patch:
            patch.setattr(catalog, "commit_pack", lambda *_: [Stored()])
            patch.setattr(catalog, "open_pack", lambda at=pack_id: _ticket(real(), at))
            ingestor.write([("gw-a", message(0, first))])
    ingestor.write([("gw-a", message(0, 10))])  # the second is there again, under another pack
    clock.now_us += ORPHAN_AGE_US_MIN + 1
    before = list(store.list("packs/"))
    assert sweep_orphans(catalog, store) == 0
    assert list(store.list("packs/")) == before
    assert reindex(catalog, store) == Reindexed(1, 1)
    assert list(catalog.hello("gw-a", hello()).coverage[0].stored) == [(0, 20)]
    assert sweep_orphans(catalog, store) == 1  # what the catalog has elsewhere, now that it has come so far


def _ticket(ticket: PackTicket, pack_id: int) -> PackTicket:
    opened_us = pack_key_opened_us(ticket.key)
    assert opened_us is not None
    return PackTicket(pack_id, pack_key(pack_id, opened_us), ticket.deadline_us)


def test_what_the_sweeper_may_delete_can_no_longer_be_committed(catalog: SqlCatalog, clock: DialClock) -> None:
    ticket = catalog.open_pack()
    clock.now_us += ORPHAN_AGE_US_MIN + 1
    with pytest.raises(PackExpired):
        catalog.commit_pack(ticket, 1, [])
