"""Downsampling: minimum, maximum, mean and count per line and step, gaps counted apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud_sync.query.blocks import GAP_CODES, NOT_FINITE, Slice, gap_name
from cloud_sync.query.plan import Line
from wire.reading import CellState


@dataclass(frozen=True, slots=True, eq=False)
class BucketLine:
    """Buckets of one line that hold anything, by time; a bucket is named by its first microsecond.

    `count` readings made `minimum`, `maximum` and `mean` (NaN where count is 0); `gaps` cells hold none. `reasons`
    counts the gaps of the whole range by reason.
    """

    line: Line
    times: NDArray[np.int64]
    minimum: NDArray[np.float64]
    maximum: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: NDArray[np.int64]
    gaps: NDArray[np.int64]
    reasons: dict[str, int]


class Buckets:
    """Accumulates slices in any order; memory is lines x buckets, whatever the range holds.

    Buckets start at whole multiples of the step since 1970, so that those of different queries and gateways align.
    """

    def __init__(self, lines: int, start_us: int, end_us: int, step_us: int) -> None:
        self._step_us = step_us
        self._first = start_us // step_us
        shape = (lines, max(0, -(-end_us // step_us) - self._first))
        self._minimum = np.full(shape, np.inf)
        self._maximum = np.full(shape, -np.inf)
        self._total = np.zeros(shape)
        self._count = np.zeros(shape, dtype=np.int64)
        self._gaps = np.zeros(shape, dtype=np.int64)
        self._codes = np.zeros((lines, GAP_CODES), dtype=np.int64)

    def add(self, part: Slice) -> None:
        """Fold one slice in; a roll-up counts as the readings that it stands for."""
        bucket = part.times // self._step_us - self._first
        edges = np.concatenate(([0], np.flatnonzero(np.diff(bucket)) + 1))
        where = (part.lines[:, None], bucket[edges][None, :])
        rolled = part.rolled
        finite = np.isfinite(part.values) if rolled is None else np.isfinite(part.values) & (rolled.counts > 0)
        lows, highs = (part.values, part.values) if rolled is None else (rolled.lows, rolled.highs)
        counts = finite if rolled is None else np.where(finite, rolled.counts, 0)
        totals = part.values if rolled is None else part.values * rolled.counts
        gap = ~finite & (part.states != CellState.ABSENT)
        np.minimum.at(self._minimum, where, np.minimum.reduceat(np.where(finite, lows, np.inf), edges, axis=1))
        np.maximum.at(self._maximum, where, np.maximum.reduceat(np.where(finite, highs, -np.inf), edges, axis=1))
        np.add.at(self._total, where, np.add.reduceat(np.where(finite, totals, 0.0), edges, axis=1))
        np.add.at(self._count, where, np.add.reduceat(counts, edges, axis=1, dtype=np.int64))
        if gap.any():
            np.add.at(self._gaps, where, np.add.reduceat(gap, edges, axis=1, dtype=np.int64))
            line = np.broadcast_to(part.lines[:, None], gap.shape)[gap]
            np.add.at(self._codes, (line, part.states[gap]), 1)

    def lines(self, lines: tuple[Line, ...]) -> list[BucketLine]:
        """The result, one per line of the plan."""
        return [self._line(index, line) for index, line in enumerate(lines)]

    def _line(self, index: int, line: Line) -> BucketLine:
        held = np.flatnonzero((self._count[index] > 0) | (self._gaps[index] > 0))
        count = self._count[index, held]
        empty = count == 0
        codes = self._codes[index]
        return BucketLine(
            line=line,
            times=(held + self._first) * self._step_us,
            minimum=np.where(empty, np.nan, self._minimum[index, held]),
            maximum=np.where(empty, np.nan, self._maximum[index, held]),
            mean=np.where(empty, np.nan, self._total[index, held] / np.maximum(count, 1)),
            count=count,
            gaps=self._gaps[index, held],
            reasons={
                NOT_FINITE if code == CellState.VALUE else gap_name(int(code)): int(codes[code])
                for code in np.flatnonzero(codes)
            },
        )
