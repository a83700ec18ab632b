"""Catalogs of every kind for the tests of what they must do, and what to put into them. A new one joins `CATALOGS`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_sync.catalog.catalog import Catalog, PackEntry
from cloud_sync.catalog.sql_catalog import SqlCatalog
from wire.clock import Anchor, SyncState
from wire.ranges import RangeSet
from wire.reading import Kind, LossReason, Priority, Tombstone
from wire.segment import AtomRef, BlockHeader, Header
from wire.series import SeriesDef, SeriesSet
from wire.sync.frames import EpochOffer, Hello
from wire.sync.outcomes import CatalogOutcome

T0_US = 1_800_000_000_000_000
S = 1_000_000
SETS = SeriesSet((SeriesDef("room", "temperature", "Cel"),)), SeriesSet((SeriesDef("room", "humidity", "%RH"),))
TRUSTED = Anchor(10 * S, T0_US + 10 * S, True, 500)


class DialClock:
    """A clock that a test turns."""

    turned: Callable[[int], object] = staticmethod(lambda now_us: None)  # tells a server

    def __init__(self) -> None:
        self._now_us = T0_US

    @property
    def now_us(self) -> int:
        return self._now_us

    @now_us.setter
    def now_us(self, now_us: int) -> None:
        self._now_us = now_us
        self.turned(now_us)

    def wall_ns(self) -> int:
        return self.now_us * 1000

    def boottime_ns(self) -> int:
        return self.wall_ns()

    def sync_state(self) -> SyncState:
        return SyncState(True, 0)

    def sleep(self, seconds: float) -> None:
        self.now_us += int(seconds * S)


Open = Callable[[], Catalog]


def sqlite(request: pytest.FixtureRequest, folder: Path, clock: DialClock) -> Open:
    return lambda: SqlCatalog.open(folder / "catalog.sqlite", clock)


def postgresql(request: pytest.FixtureRequest, folder: Path, clock: DialClock) -> Open:
    """A schema of its own, in which `clock_timestamp` is the test's dial instead of the server's clock."""
    server = request.getfixturevalue("postgresql_server")
    schema, dial = f"t{secrets.token_hex(6)}", server.folder / f"dial-{secrets.token_hex(6)}"
    server.execute(
        f"CREATE SCHEMA {schema}",
        f"""CREATE FUNCTION {schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
            SELECT timestamptz 'epoch' + pg_read_file('{dial}')::bigint * interval '1 microsecond' $$""",
    )
    clock.turned = lambda now_us: dial.write_text(str(now_us))
    clock.turned(clock.now_us)
    url = server.url(options=f"-csearch_path%3D{schema},pg_catalog")
    return lambda: SqlCatalog.open_postgresql(url, clock, create=True)


CATALOGS = {"sqlite": sqlite, "postgresql": postgresql}


def hello(*offers: EpochOffer, sets: tuple[int, ...] = ()) -> Hello:
    return Hello(b"m" * 16, "1.0", "cfg", 0, offers or (EpochOffer(7, 0, RangeSet()),), sets)


def entry(
    *ranges: tuple[int, int],
    gateway: str = "gw-a",
    epoch: int = 7,
    anchor: Anchor = TRUSTED,
    span: tuple[int, int] = (10 * S, 20 * S),
    sets: tuple[SeriesSet, ...] = SETS[:1],
    next_seq: int = 0,
    offset: int = 100,
) -> PackEntry:
    atoms = tuple(AtomRef(first, end - first, (end - first,)) for first, end in ranges)
    blocks = tuple(BlockHeader(s.id, 1, 1) for s in sets)
    header = Header(Priority.NORMAL, Kind.RAW, anchor, atoms, blocks)
    return PackEntry(gateway, epoch, next_seq, header, offset, 50, *span)


def commit(catalog: Catalog, *entries: PackEntry) -> list[CatalogOutcome]:
    return catalog.commit_pack(catalog.open_pack(), 1000, entries)


def stored(catalog: Catalog, gateway: str = "gw-a", epoch: int = 7) -> list[tuple[int, int]]:
    return list(catalog.hello(gateway, hello(EpochOffer(epoch, 0, RangeSet()))).coverage[0].stored)


def lost(first: int, end: int, reason: LossReason = LossReason.EVICTED, count: int | None = None) -> Tombstone:
    return Tombstone(7, first, end, reason, end - first if count is None else count, 1, 2)
