"""One block of a segment, cut to a plan and a wall-clock range, as two-dimensional arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_sync.catalog.catalog import MessageRow
from cloud_sync.query.plan import Column, Plan
from wire.errors import SegmentCorrupt
from wire.reading import CellState, Kind, Quality
from wire.rollup import RollupColumns, rollup_columns
from wire.segment import Block, Segment

GAP_CODES = 256
NOT_FINITE = "not_finite"  # a float series gave NaN or infinity: no gap in the record, but nothing to average


def gap_name(state: int) -> str:
    """A gap's reason as the API spells it; a code of a newer agent keeps its number."""
    return CellState(state).name.lower() if state in CellState._value2member_map_ else f"gap_{state}"


@dataclass(frozen=True, slots=True, eq=False)
class Rolled:
    """What a roll-up's cells stand for, (k, n) each: least and greatest value, and how many values (int64)."""

    lows: NDArray[np.float64]
    highs: NDArray[np.float64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """k lines by n ticks. times: int64 (n,), wall-clock microseconds, ascending. The others are (k, n).

    values hold NaN where states is not VALUE. ABSENT cells are not readings: skip them. Values of a
    roll-up are means.
    """

    message_id: int
    lines: NDArray[np.intp]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    states: NDArray[np.uint8]
    quality: NDArray[np.uint8]
    rolled: Rolled | None = None


def slices(segment: Segment, row: MessageRow, plan: Plan, start_us: int, end_us: int) -> Iterator[Slice]:
    """The parts of a message that answer the plan within start..end (half-open)."""
    for block in segment.blocks:
        columns = plan.columns.get(block.set_id)
        if columns is None:
            continue
        rollup = None if segment.kind is Kind.RAW else rollup_columns(block)
        series = block.columns if rollup is None else rollup.means
        if any(column.index >= len(series) for column in columns):
            raise SegmentCorrupt(f"message {row.id}: a block has {len(series)} columns, fewer than its set")
        times = block.stamps * block.stamp_unit.us + row.offset_us
        keep = (times >= start_us) & (times < end_us)
        count = int(np.count_nonzero(keep))
        if not count:
            continue
        ticks = np.flatnonzero(keep)
        times = times[ticks]
        if np.any(np.diff(times) < 0):
            order = np.argsort(times, kind="stable")
            ticks, times = ticks[order], times[order]
        yield _cut(block, series, columns, ticks, times, row, rollup)


def _cut(
    block: Block,
    series: Sequence[NDArray[np.generic]],
    columns: tuple[Column, ...],
    ticks: NDArray[np.intp],
    times: NDArray[np.int64],
    row: MessageRow,
    rollup: RollupColumns | None,
) -> Slice:
    picked = np.array([column.index for column in columns], dtype=np.intp)
    shape = (len(picked), len(ticks))
    values = _values(series, columns, ticks)
    grid = np.ix_(picked, ticks)
    states = np.zeros(shape, dtype=np.uint8) if block.states is None else block.states[grid]
    quality = np.zeros(shape, dtype=np.uint8) if block.quality is None else block.quality[grid]
    if not row.synchronised:
        quality = quality | np.uint8(Quality.CLOCK_UNSURE)
    values[states != CellState.VALUE] = np.nan
    lines = np.array([column.line for column in columns], dtype=np.intp)
    rolled = None if rollup is None else _rolled(rollup, columns, ticks)
    return Slice(row.id, lines, times, values, states, quality, rolled)


def _values(
    series: Sequence[NDArray[np.generic]], columns: tuple[Column, ...], ticks: NDArray[np.intp]
) -> NDArray[np.float64]:
    values = np.empty((len(columns), len(ticks)), dtype=np.float64)
    for place, column in enumerate(columns):
        values[place] = column.definition.values(series[column.index][ticks])
    return values


def _rolled(rollup: RollupColumns, columns: tuple[Column, ...], ticks: NDArray[np.intp]) -> Rolled:
    """A negative factor of the definition swaps least and greatest."""
    one, other = _values(rollup.lows, columns, ticks), _values(rollup.highs, columns, ticks)
    counts = np.array([rollup.counts[column.index][ticks] for column in columns], dtype=np.int64)
    return Rolled(np.minimum(one, other), np.maximum(one, other), counts)
