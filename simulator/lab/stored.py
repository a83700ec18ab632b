"""Every value that a cloud stores of a gateway, read back from its packs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.storage.object_store import ObjectStore
from wire.codec import decode
from wire.reading import CellState, Kind
from wire.rollup import rollup_columns
from wire.segment import Segment


@dataclass(frozen=True, slots=True)
class Point:
    """A stored value and where it stands."""

    epoch: int
    series: int
    stamp_us: int
    value: float


@dataclass(slots=True)
class Stored:
    """How often each value is stored, and each one's place."""

    values: Counter[float] = field(default_factory=Counter)
    points: list[Point] = field(default_factory=list)
    bounds: set[float] = field(default_factory=set)  # least and greatest values of roll-ups
    rolled_up: int = 0  # values that roll-ups stand for


def stored_of(catalog: SqlCatalog, store: ObjectStore, gateway: str) -> Stored:
    """Look at every message of a gateway."""
    found = Stored()
    sets = [one.id for one in catalog.series_sets(gateway)]
    for row in catalog.messages(gateway, sets, -(1 << 62), 1 << 62):
        segment = decode(store.get(row.pack_key, row.offset, row.length))
        if segment.kind is not Kind.RAW:
            found.bounds |= _bounds(segment)
            found.rolled_up += _stands_for(segment)
            continue
        for block in segment.blocks:
            for place, column in enumerate(block.columns):
                good = slice(None) if block.states is None else block.states[place] == CellState.VALUE
                stamps = (block.stamps[good] * block.stamp_unit.us).tolist()
                values = [float(value) for value in column[good].tolist()]
                found.values.update(values)
                series = block.set_id ^ place
                found.points += [Point(row.epoch, series, stamp, value) for stamp, value in zip(stamps, values)]
    return found


def _bounds(segment: Segment) -> set[float]:
    bounds: set[float] = set()
    for block in segment.blocks:
        columns = rollup_columns(block)
        for lows, highs, counts in zip(columns.lows, columns.highs, columns.counts):
            bounds.update(float(value) for values in (lows, highs) for value in values[counts.astype(int) > 0].tolist())
    return bounds


def _stands_for(segment: Segment) -> int:
    return sum(int(counts.sum()) for block in segment.blocks for counts in rollup_columns(block).counts)
