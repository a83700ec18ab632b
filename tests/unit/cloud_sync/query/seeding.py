"""A real catalog and object store with real segments in them, for tests of the read path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cloud_sync.catalog.catalog import PackEntry
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.query.engine import QueryEngine
from cloud_sync.storage.local_store import LocalStore
from cloud_sync.storage.pack import PackRecord, encode_pack
from wire.alarm import Alarm, Phase, alarm_id
from wire.clock import Anchor, Clock, SyncState
from wire.codec import encode, read_header, zone
from wire.ranges import RangeSet
from wire.reading import Kind, Priority, Tick, Tombstone
from wire.segment import AtomRef, Block, Segment
from wire.series import DTYPES, SeriesDef, SeriesSet
from wire.sync.frames import EpochOffer, Hello
from wire.sync.outcomes import CatalogOutcome, Stored

NOW_US = 1_780_000_000_000_000  # 2026-05-28T20:26:40Z
BOOT_US = 1_000_000_000  # boottime at NOW_US on every gateway here
ANCHOR = Anchor(BOOT_US, NOW_US, True, 2_000)
ZERO = BOOT_US - NOW_US  # add to wall microseconds to get boot time

CLIMATE = SeriesSet(
    (
        SeriesDef("room", "temperature", "Cel", num=1, den=100),
        SeriesDef("room", "humidity", "%RH", num=1, den=100),
        SeriesDef("room", "pressure", "Pa"),
    )
)
FLOATS = SeriesSet((SeriesDef("opaque", "level", "", value_type=2),))  # type: ignore[arg-type]


@dataclass
class HandClock:
    """A clock that moves when told."""

    wall_us: int = NOW_US

    def wall_ns(self) -> int:
        return self.wall_us * 1000

    def boottime_ns(self) -> int:
        return (self.wall_us + ZERO) * 1000

    def sync_state(self) -> SyncState:
        return SyncState(True, 0)

    def sleep(self, seconds: float) -> None:
        self.wall_us += round(seconds * 1e6)


def block_of(series_set: SeriesSet, ticks: Sequence[Tick]) -> Block:
    """Ticks of one set as a block, in the order given."""
    width = len(series_set.series)
    columns = [
        np.array([tick.raw[column] for tick in ticks], dtype=DTYPES[kind])
        for column, kind in enumerate(series_set.value_types)
    ]

    def plane(name: str) -> np.ndarray | None:
        rows = [getattr(tick, name) or bytes(width) for tick in ticks]
        grid = np.array([list(row) for row in rows], dtype=np.uint8).reshape(len(ticks), width).T
        return grid.copy() if grid.any() else None

    stamps = np.array([tick.stamp for tick in ticks], dtype=np.int64)
    return Block(series_set.id, stamps, columns, plane("states"), plane("quality"), stamp_unit=series_set.stamp_unit)


@dataclass
class Cloud:
    """One cloud in a folder. `push` stores a message as the ingest path does: pack, then catalog."""

    root: Path
    clock: Clock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.catalog = SqlCatalog.open(self.root / "catalog.sqlite", self.clock)
        self.store = LocalStore(self.root / "objects")
        self.query = QueryEngine(self.catalog, self.store)
        self._next: dict[tuple[str, int], int] = {}
        self._told: set[tuple[str, int]] = set()

    def hello(self, gateway: str, *epochs: tuple[int, int], version: str = "0.1.0") -> None:
        """The gateway names its epochs as (id, next_seq)."""
        offers = tuple(EpochOffer(epoch, next_seq, RangeSet()) for epoch, next_seq in epochs)
        self.catalog.hello(gateway, Hello(b"\x01" * 16, version, "c0ffee", 0, offers))

    def push(self, gateway: str, epoch: int, batches: dict[SeriesSet, Sequence[Tick]], anchor: Anchor = ANCHOR) -> None:
        """Store one message of one atom with these ticks."""
        for series_set in batches:
            if (gateway, series_set.id) not in self._told:
                self.catalog.put_series_sets(gateway, [series_set])
                self._told.add((gateway, series_set.id))
        ordered = sorted((s for s in batches if batches[s]), key=lambda s: s.id)
        blocks = [block_of(s, batches[s]) for s in ordered]
        first = self._next.get((gateway, epoch), 0)
        atom = AtomRef(first, sum(block.cells for block in blocks), tuple(block.ticks for block in blocks))
        self._next[gateway, epoch] = atom.end
        assert (
            self.store_segment(gateway, epoch, Segment(Priority.NORMAL, Kind.RAW, anchor, (atom,), blocks)) == Stored()
        )

    def segment_of(self, first: int, series_set: SeriesSet, ticks: Sequence[Tick]) -> Segment:
        """One raw atom from Seq `first` on."""
        block = block_of(series_set, ticks)
        return Segment(Priority.NORMAL, Kind.RAW, ANCHOR, (AtomRef(first, block.cells, (block.ticks,)),), [block])

    def store_segment(self, gateway: str, epoch: int, segment: Segment) -> CatalogOutcome:
        """As it is, in a pack of its own."""
        (atom,) = segment.atoms
        data = encode(segment)
        t_min_us, t_max_us = zone(segment)
        ticket = self.catalog.open_pack()
        record = PackRecord(gateway, epoch, atom.end, t_min_us, t_max_us, data)
        pack, (offset,) = encode_pack(ticket.pack_id, self.catalog.generation(), ticket.deadline_us, [record])
        self.store.put(ticket.key, pack)
        entry = PackEntry(gateway, epoch, atom.end, read_header(data), offset, len(data), t_min_us, t_max_us)
        (outcome,) = self.catalog.commit_pack(ticket, len(pack), [entry])
        return outcome

    def lose(self, gateway: str, tombstone: Tombstone) -> None:
        """The gateway gave a range up."""
        self.catalog.record_tombstones(gateway, [tombstone])
        key = (gateway, tombstone.epoch)
        self._next[key] = max(self._next.get(key, 0), tombstone.end)

    def alarm(
        self, gateway: str, epoch: int, onset_us: int, *, cleared_us: int | None = None, peak: float = 4.0, **more: Any
    ) -> int:
        """An alarm of room/temperature with its onset at a wall-clock time: raised, grown to `peak`, perhaps cleared.

        Returns its id. `more` replaces fields of `Alarm`.
        """
        onset = onset_us + ZERO
        name = alarm_id(epoch, str(more.get("series", "room/temperature")), "value-novelty", onset)
        raised = Alarm(
            name,
            "room/temperature",
            "value-novelty",
            Phase.RAISED,
            onset,
            onset,
            1.5,
            1.0,
            31.5,
            21.4,
            20.0,
            23.0,
            "Cel",
        )
        raised = replace(raised, **more)
        changes = [raised, replace(raised, phase=Phase.GREW, stamp_us=onset + 1_000_000, score=peak)]
        if cleared_us is not None:
            changes.append(replace(raised, phase=Phase.CLEARED, stamp_us=cleared_us + ZERO, score=0.2, value=21.5))
        self.catalog.record_alarms(gateway, [(epoch, change) for change in changes])
        return name

    def close(self) -> None:
        self.catalog.close()


def tick(series_set: SeriesSet, wall_us: int, *raw: float, states: bytes = b"", quality: bytes = b"") -> Tick:
    """A tick at a wall-clock time that a synchronised anchor (`ANCHOR`) gives back."""
    stamp = (wall_us + ZERO) // series_set.stamp_unit.us
    return Tick(series_set.id, stamp, raw, states or None, quality or None)
