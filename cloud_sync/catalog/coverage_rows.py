"""`Coverage` in rows: loaded for what a transaction touches, changed by the rule in `wire.coverage`, written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog.database import portions
from cloud_sync.catalog.schema import ROLLED_UP, STORED, TOMBSTONED, coverage
from wire.coverage import Coverage
from wire.ranges import Range, RangeSet

FRAGMENTS_WHOLE_MAX = 64  # rows per epoch up to which all are read in one statement for many epochs

_Row = tuple[int, int, int]  # first, end, state

_whole = sa.select(coverage.c.epoch_id, coverage.c.first, coverage.c.end, coverage.c.state).where(
    coverage.c.epoch_id.in_(sa.bindparam("ids", expanding=True))
)
_window = _whole.where(coverage.c.end >= sa.bindparam("low"), coverage.c.first <= sa.bindparam("high"))
_delete = coverage.delete().where(
    coverage.c.epoch_id == sa.bindparam("b_epoch"), coverage.c.first == sa.bindparam("b_first")
)


@dataclass(slots=True)
class CoverageRows:
    """The rows of one epoch that touch a window of Seq, and the `Coverage` they make."""

    before: set[_Row] = field(default_factory=set)
    coverage: Coverage = field(default_factory=Coverage)

    def after(self) -> set[_Row]:
        """The rows that should be there now."""
        of_state = {
            STORED: self.coverage.stored,
            TOMBSTONED: self.coverage.tombstoned - self.coverage.rolled,
            ROLLED_UP: self.coverage.rolled,
        }
        return {(first, end, state) for state, ranges in of_state.items() for first, end in ranges}


def load(connection: Connection, fragments: Mapping[int, int], windows: Mapping[int, Range]) -> dict[int, CoverageRows]:
    """Rows of each epoch id that touch its window or border on it. `fragments` tells how many rows an epoch has.

    A window is exact: classifying and storing inside it comes out as with the whole coverage.
    """
    rows = {epoch_id: CoverageRows() for epoch_id in windows}
    whole = [epoch_id for epoch_id in windows if fragments[epoch_id] <= FRAGMENTS_WHOLE_MAX]
    found = [row for ids in portions(whole) for row in connection.execute(_whole, {"ids": ids})]
    for epoch_id in windows.keys() - set(whole):
        low, high = windows[epoch_id]
        found += connection.execute(_window, {"ids": [epoch_id], "low": low, "high": high})
    for epoch_id, first, end, state in found:
        rows[epoch_id].before.add((first, end, state))
    for entry in rows.values():
        entry.coverage = from_rows(entry.before)
    return rows


def load_whole(connection: Connection, epoch_ids: Sequence[int]) -> dict[int, Coverage]:
    """All that the catalog has of these epochs."""
    rows: dict[int, set[_Row]] = {epoch_id: set() for epoch_id in epoch_ids}
    for ids in portions(epoch_ids):
        for epoch_id, first, end, state in connection.execute(_whole, {"ids": ids}):
            rows[epoch_id].add((first, end, state))
    return {epoch_id: from_rows(found) for epoch_id, found in rows.items()}


def from_rows(rows: set[_Row]) -> Coverage:
    """Rows to sets."""
    sets = {STORED: RangeSet(), TOMBSTONED: RangeSet(), ROLLED_UP: RangeSet()}
    for first, end, state in sorted(rows):
        sets[state].add(first, end)
    return Coverage(sets[STORED], sets[TOMBSTONED], sets[ROLLED_UP])


@dataclass(frozen=True, slots=True)
class Growth:
    """By how many rows and by how many Seq of each state an epoch's coverage grew."""

    fragments: int
    stored: int
    tombstoned: int


def save(connection: Connection, rows: Mapping[int, CoverageRows]) -> dict[int, Growth]:
    """Write what changed; returns by how much each epoch grew."""
    gone, new, growth = [], [], {}
    for epoch_id, entry in rows.items():
        after = entry.after()
        gone += [{"b_epoch": epoch_id, "b_first": first} for first, _, _ in entry.before - after]
        new += [
            {"epoch_id": epoch_id, "first": first, "end": end, "state": state}
            for first, end, state in after - entry.before
        ]
        stored, tombstoned, rolled = (
            _count(after, state) - _count(entry.before, state) for state in (STORED, TOMBSTONED, ROLLED_UP)
        )
        growth[epoch_id] = Growth(len(after) - len(entry.before), stored, tombstoned + rolled)
    if gone:
        connection.execute(_delete, gone)
    if new:
        connection.execute(coverage.insert(), new)
    return growth


def _count(rows: set[_Row], state: int) -> int:
    return sum(end - first for first, end, found in rows if found == state)
