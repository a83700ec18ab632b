"""Readings as taken, in pages: each row exactly once, by time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cloud_sync.catalog.catalog import MessageRow
from cloud_sync.errors import QueryInvalid
from cloud_sync.query.blocks import Slice
from cloud_sync.query.parameters import MESSAGES_MAX
from wire.reading import CellState

MESSAGES_PER_PAGE = 2_000  # a page ends early after so many, when it has anything

Slicer = Callable[[MessageRow], Sequence[Slice]]  # the slices of one message that answer the question


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Cells in order of time, then of the plan's lines. `values` are NaN where `states` is not VALUE (a gap).

    `counts` is 0 for a reading as it was taken. Else the row is a roll-up of a minute, of so many values (-1: of none),
    and `lows` and `highs` are the least and the greatest.
    """

    times: NDArray[np.int64]
    lines: NDArray[np.intp]
    values: NDArray[np.float64]
    states: NDArray[np.uint8]
    quality: NDArray[np.uint8]
    counts: NDArray[np.int64]
    lows: NDArray[np.float64]
    highs: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


@dataclass(slots=True)
class _Gathered:
    """Flat arrays of the messages read so far."""

    times: list[NDArray[np.int64]] = field(default_factory=list)
    lines: list[NDArray[np.intp]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    states: list[NDArray[np.uint8]] = field(default_factory=list)
    quality: list[NDArray[np.uint8]] = field(default_factory=list)
    messages: list[NDArray[np.int64]] = field(default_factory=list)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    lows: list[NDArray[np.float64]] = field(default_factory=list)
    highs: list[NDArray[np.float64]] = field(default_factory=list)
    cells: int = 0

    def add(self, part: Slice) -> None:
        taken = part.states != CellState.ABSENT
        count = int(np.count_nonzero(taken))
        self.times.append(np.broadcast_to(part.times, taken.shape)[taken])
        self.lines.append(np.broadcast_to(part.lines[:, None], taken.shape)[taken])
        self.values.append(part.values[taken])
        self.states.append(part.states[taken])
        self.quality.append(part.quality[taken])
        self.messages.append(np.full(count, part.message_id, dtype=np.int64))
        rolled = part.rolled
        self.lows.append((part.values if rolled is None else rolled.lows)[taken])
        self.highs.append((part.values if rolled is None else rolled.highs)[taken])
        self.counts.append(
            np.zeros(count, np.int64) if rolled is None else np.where(rolled.counts > 0, rolled.counts, -1)[taken]
        )
        self.cells += count

    def before(self, time_us: int) -> int:
        """How many cells are earlier than `time_us`."""
        return sum(int(np.count_nonzero(times < time_us)) for times in self.times)

    def rows(self, horizon_us: int, first: int, count: int) -> Rows:
        """Cells before the horizon in order, `count` of them from number `first` on."""
        if not self.times:
            nothing = np.empty(0)
            planes = (np.empty(0, np.uint8),) * 2
            return Rows(
                np.empty(0, np.int64), np.empty(0, np.intp), nothing, *planes, np.empty(0, np.int64), *[nothing] * 2
            )
        times, lines = np.concatenate(self.times), np.concatenate(self.lines)
        order = np.lexsort((np.concatenate(self.messages), lines, times))
        complete = int(np.count_nonzero(times < horizon_us))
        order = order[:complete][first : first + count]
        values, lows, highs = (np.concatenate(part)[order] for part in (self.values, self.lows, self.highs))
        states, quality = (np.concatenate(part)[order] for part in (self.states, self.quality))
        counts = np.concatenate(self.counts)[order]
        return Rows(times[order], lines[order], values, states, quality, counts, lows, highs)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page starts: the first `given` rows at `time_us` were delivered before."""

    time_us: int
    given: int


def read_page(
    messages: Sequence[MessageRow], slicer: Slicer, place: Place, end_us: int, limit: int
) -> tuple[Rows, Place | None]:
    """At most `limit` rows from the place on, and where the next page starts (None: nothing is left).

    Reads messages by their first stamp, and stops once no later message can hold an earlier row. Raises
    QueryInvalid when so many messages overlap that no row is certain within the bound.
    """
    gathered = _Gathered()
    horizon = end_us
    stopped = False
    for number, message in enumerate(sorted(messages, key=lambda m: (m.t_min_us, m.id))):
        enough = gathered.cells >= place.given + limit
        if (enough or number >= MESSAGES_PER_PAGE) and message.t_min_us > place.time_us:
            certain = gathered.before(message.t_min_us)
            if certain >= place.given + limit or (number >= MESSAGES_PER_PAGE and certain > place.given):
                horizon, stopped = message.t_min_us, True
                break
        if number >= MESSAGES_MAX:
            raise QueryInvalid(
                f"More than {MESSAGES_MAX} messages overlap at one moment; no row order is certain. "
                "Ask for a shorter range or fewer series"
            )
        for part in slicer(message):
            gathered.add(part)
    rows = gathered.rows(horizon, place.given, limit)
    more = stopped or gathered.cells > place.given + len(rows)
    if not more or not len(rows):
        return rows, None
    last = int(rows.times[-1])
    given = int(np.count_nonzero(rows.times == last)) + (place.given if last == place.time_us else 0)
    return rows, Place(last, given)
