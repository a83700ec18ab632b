"""The oldest readings of a class become a roll-up: `wire.rollup` says what is left of them.

Atoms that follow each other without a gap are rolled up together, up to ATOMS_MAX, so that a minute's atoms become one
row. The readings themselves are lost then: a THINNED tombstone names them, and the roll-up is sent under their range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from edge_agent.outbox.keys import first_of, number_of
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.pages import growth_of
from edge_agent.outbox.rows import NewAtom
from wire.codec import decode, encode
from wire.errors import WireError
from wire.ranges import Range
from wire.reading import LossReason, Priority, Tombstone
from wire.rollup import roll_up
from wire.segment import Segment

ATOMS_MAX = 240  # twenty minutes of commits each 5 s
CELLS_MAX = 1 << 16  # decoded in one commit: some 10 ms on a PC
ROOM_SHARE = 8  # of what waits as it was taken, at most one part in so many goes at once: the newest stay
SHRINK_MIN = 2  # a roll-up takes at most half the room of what it stands for

Row = tuple[int, int, int, int, int]  # id, epoch, count, span


@dataclass(frozen=True, slots=True)
class _Run:
    """Raw atoms that follow each other, of one anchor, and the room they take."""

    rows: list[Row]
    segments: list[Segment]
    room: int

    @property
    def range(self) -> Range:
        return first_of(self.rows[0][0]), first_of(self.rows[-1][0]) + self.rows[-1][2]

    @property
    def span(self) -> Range:
        return min(row[3] for row in self.rows), max(row[4] for row in self.rows)


def thin(outbox: Outbox, priority: Priority, idle: Callable[[Row], bool]) -> int:
    """Roll up the oldest atoms of a class that are `idle` (not under way). Returns how many went; 0: not worth it.

    For a transaction.
    """
    rows = (row for row in outbox.owed(priority) if idle(row))
    totals = outbox.totals()
    run = _run(outbox, islice(rows, ATOMS_MAX), (totals.bytes - totals.rollup_bytes) // ROOM_SHARE)
    rows.close()
    rolled = None if run is None else roll_up(run.segments)
    if run is None or rolled is None:
        return 0
    data = encode(rolled)
    if SHRINK_MIN * growth_of(len(data)) > run.room:
        return 0
    number, (first, end) = number_of(run.rows[0][0]), run.range
    epoch = outbox.epoch(number)
    outbox.replace(epoch, NewAtom(priority, first, end - first, run.span, data, thinned=True))
    outbox.add_tombstone(Tombstone(epoch.epoch, first, end, LossReason.THINNED, end - first, *run.span))
    return len(run.rows)


def _run(outbox: Outbox, rows: Iterable[Row], room_max: int) -> _Run | None:
    """From the first row on, as far as they follow each other, agree in anchor and can be read."""
    taken: list[Row] = []
    segments: list[Segment] = []
    room = cells = 0
    for row, data in _with_data(outbox, rows):
        if taken and (number_of(row[0]), first_of(row[0])) != (
            number_of(taken[0][0]),
            first_of(taken[-1][0]) + taken[-1][2],
        ):
            break
        try:
            segment = decode(data)
        except WireError:
            break  # evicted when it is its turn
        cells += sum(block.ticks * len(block.columns) for block in segment.blocks)
        if taken and (segment.anchor != segments[0].anchor or cells > CELLS_MAX or room > room_max):
            break
        taken.append(row)
        segments.append(segment)
        room += growth_of(len(data))
    return _Run(taken, segments, room) if taken else None


def _with_data(outbox: Outbox, rows: Iterable[Row]) -> Iterator[tuple[Row, bytes]]:
    for row in rows:
        (data,) = outbox.database.connection.execute("SELECT data FROM atoms WHERE id = ?", (row[0],)).fetchone()
        yield row, data
