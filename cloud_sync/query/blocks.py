"""One block of a segment, cut to a plan and a wall-clock range, as two-dimensional arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_sync.catalog.catalog import MessageRow
from cloud_sync.query.plan import Column, Plan
from wire.errors import SegmentCorrupt
from wire.reading import CellState, Quality
from wire.segment import Block, Segment

GAP_CODES = 256
NOT_FINITE = "not_finite"  # a float series gave NaN or infinity: no gap in the record, but nothing to average


def gap_name(state: int) -> str:
    """A gap's reason as the API spells it; a code of a newer agent keeps its number."""
    return CellState(state).name.lower() if state in CellState._value2member_map_ else f"gap_{state}"


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """k lines by n ticks. times: int64 (n,), wall-clock microseconds, ascending. The others are (k, n).

    values hold NaN where states is not VALUE. ABSENT cells are not readings: skip them.
    """

    message_id: int
    lines: NDArray[np.intp]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    states: NDArray[np.uint8]
    quality: NDArray[np.uint8]


def slices(segment: Segment, row: MessageRow, plan: Plan, start_us: int, end_us: int) -> Iterator[Slice]:
    """The parts of a message that answer the plan within start..end (half-open)."""
    for block in segment.blocks:
        columns = plan.columns.get(block.set_id)
        if columns is None:
            continue
        if any(column.index >= len(block.columns) for column in columns):
            raise SegmentCorrupt(f"message {row.id}: a block has {len(block.columns)} columns, fewer than its set")
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
        yield _cut(block, columns, ticks, times, row)


def _cut(
    block: Block, columns: tuple[Column, ...], ticks: NDArray[np.intp], times: NDArray[np.int64], row: MessageRow
) -> Slice:
    picked = np.array([column.index for column in columns], dtype=np.intp)
    shape = (len(picked), len(ticks))
    values = np.empty(shape, dtype=np.float64)
    for place, column in enumerate(columns):
        values[place] = column.definition.values(block.columns[column.index][ticks])
    grid = np.ix_(picked, ticks)
    states = np.zeros(shape, dtype=np.uint8) if block.states is None else block.states[grid]
    quality = np.zeros(shape, dtype=np.uint8) if block.quality is None else block.quality[grid]
    if not row.synchronised:
        quality = quality | np.uint8(Quality.CLOCK_UNSURE)
    values[states != CellState.VALUE] = np.nan
    lines = np.array([column.line for column in columns], dtype=np.intp)
    return Slice(row.id, lines, times, values, states, quality)
