"""Roll-ups: what thinning leaves of readings. Least, greatest and mean value and their number, per series and minute.

A roll-up is a segment of kind ROLLUP_1 under the ids of the sets that it was made from. A block of k series has 4 k
columns: k times the least, k the greatest, k the mean, k the number of values. Its stamps are the first of each minute
of boottime. A cell without any value has the reason of its first gap. Doubts are those of all its readings together and
the score is the largest; both stand with the least value. `docs/formats/segment.md` has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wire.errors import MergeRefused, SegmentCorrupt
from wire.merge import merge
from wire.reading import SERIES_PER_SET_MAX, CellState, Kind
from wire.segment import SCORE_NONE, AtomRef, Block, Segment
from wire.series import ValueType

STATS = 4
BUCKET_US = 60_000_000
MEAN_DECIMALS = 3  # of a count: a thousandth of the sensor's resolution, in two bytes instead of eight

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class RollupColumns:
    """The columns of a roll-up's block taken apart: k arrays each."""

    lows: list[NDArray[np.generic]]
    highs: list[NDArray[np.generic]]
    means: list[NDArray[np.generic]]
    counts: list[NDArray[np.generic]]


def rollup_types(value_types: Sequence[ValueType]) -> tuple[ValueType, ...]:
    """Of the columns of a roll-up, by those of the series."""
    k = len(value_types)
    return (*value_types, *value_types, *[ValueType.FLOAT64] * k, *[ValueType.INT] * k)


def rollup_columns(block: Block) -> RollupColumns:
    """Raises SegmentCorrupt when the block cannot be of a roll-up."""
    k, rest = divmod(len(block.columns), STATS)
    if rest:
        raise SegmentCorrupt(f"a roll-up of {len(block.columns)} columns, not {STATS} for each series")
    return RollupColumns(*(block.columns[at * k : (at + 1) * k] for at in range(STATS)))


def roll_up(segments: Sequence[Segment]) -> Segment | None:
    """One atom that stands for all of these: raw, of one class and anchor, each following the one before without a gap.

    None where it would have more cells than they have.

    Raises:
        MergeRefused: they differ in class, kind or anchor, are not raw, or do not follow each other.
    """
    whole = merge(segments)
    first, end = whole.atoms[0].first, whole.atoms[-1].end
    if whole.kind is not Kind.RAW or end - first != whole.count:
        raise MergeRefused("a roll-up is made of raw atoms that follow each other")
    if any(len(block.columns) * STATS > SERIES_PER_SET_MAX for block in whole.blocks):
        return None
    blocks = [_rolled(block) for block in whole.blocks]
    if sum(block.ticks * len(block.columns) for block in blocks) > whole.count:
        return None
    atom = AtomRef(first, end - first, tuple(block.ticks for block in blocks))
    return Segment(whole.priority, Kind.ROLLUP_1, whole.anchor, (atom,), blocks)


def _rolled(block: Block) -> Block:
    order = np.argsort(block.stamps, kind="stable")
    stamps = block.stamps[order]
    minutes = stamps * block.stamp_unit.us // BUCKET_US
    edges = np.concatenate(([0], np.flatnonzero(np.diff(minutes)) + 1))
    shape = (len(block.columns), len(stamps))
    states = np.zeros(shape, np.uint8) if block.states is None else block.states[:, order]
    values = states == CellState.VALUE
    stats = [_stats(column[order], there, edges) for column, there in zip(block.columns, values)]
    rolled_states = _states(states, edges)
    quality = None if block.quality is None else np.bitwise_or.reduceat(block.quality[:, order], edges, axis=1)
    return Block(
        set_id=block.set_id,
        stamps=stamps[edges],
        columns=[column for kind in zip(*stats) for column in kind],
        states=np.tile(rolled_states, (STATS, 1)) if rolled_states.any() else None,
        quality=None if quality is None or not quality.any() else _beside(quality, 0),
        scores=None if block.scores is None else _beside(_scores(block.scores[:, order], edges), SCORE_NONE),
        stamp_unit=block.stamp_unit,
    )


def _stats(column: NDArray[np.generic], there: NDArray[np.bool_], edges: NDArray[np.intp]) -> list[NDArray[np.generic]]:
    """Least, greatest, mean, number per minute. What is not finite is left out; NaN where nothing is left."""
    whole = np.issubdtype(column.dtype, np.integer)
    if whole:
        least: float | int = np.iinfo(np.int64).max
        most: float | int = np.iinfo(np.int64).min
    else:
        there = there & np.isfinite(column)
        least, most = np.inf, -np.inf
    lows = np.minimum.reduceat(np.where(there, column, column.dtype.type(least)), edges)
    highs = np.maximum.reduceat(np.where(there, column, column.dtype.type(most)), edges)
    counts = np.add.reduceat(there, edges, dtype=np.int64)
    of = np.repeat(np.maximum(counts, 1), np.diff(np.append(edges, len(column))))
    means = np.add.reduceat(np.where(there, column, 0).astype(np.float64) / of, edges)
    empty = counts == 0
    if whole:
        means = np.round(means, MEAN_DECIMALS)
    means = np.clip(means, lows.astype(np.float64), highs.astype(np.float64))
    nothing = column.dtype.type(0 if whole else np.nan)
    return [
        np.where(empty, nothing, lows).astype(column.dtype),
        np.where(empty, nothing, highs).astype(column.dtype),
        np.where(empty, 0.0 if whole else np.nan, means),
        counts,
    ]


def _states(states: U8, edges: NDArray[np.intp]) -> U8:
    """VALUE where there is any, else the first gap, else ABSENT."""
    ends = np.append(edges[1:], states.shape[1])
    rolled = np.full((states.shape[0], len(edges)), CellState.ABSENT, np.uint8)
    for at, (start, end) in enumerate(zip(edges, ends)):
        part = states[:, start:end]
        gaps = (part != CellState.VALUE) & (part != CellState.ABSENT)
        first = part[np.arange(len(part)), gaps.argmax(axis=1)]
        rolled[:, at] = np.where(gaps.any(axis=1), first, CellState.ABSENT)
        rolled[(part == CellState.VALUE).any(axis=1), at] = CellState.VALUE
    return rolled


def _scores(scores: U8, edges: NDArray[np.intp]) -> U8:
    """The largest; SCORE_NONE is the largest code but says nothing."""
    shifted = scores + np.uint8(1)  # none: 0
    return np.maximum.reduceat(shifted, edges, axis=1) - np.uint8(1)


def _beside(plane: U8, missing: int) -> U8:
    """With the least values alone."""
    rest = np.full(((STATS - 1) * len(plane), plane.shape[1]), missing, np.uint8)
    return np.concatenate([plane, rest])
