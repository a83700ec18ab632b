"""Stamps as distances from a line: a deadline loop is late by some milliseconds, never more and more."""

from __future__ import annotations

import numpy as np

from wire.varint import I64

PERIOD_BITS = 16  # fraction bits of the period
PERIOD_MAX = 1 << 63


def to_line(stamps: I64) -> tuple[int, I64]:
    """The period (fixed point) of the better of two lines, and the stamps' distance from it.

    The line between the ends suits a loop that keeps its period; the line of the middle step suits one with holes.
    """
    if len(stamps) < 2:
        return 0, stamps
    steps = np.diff(stamps)
    ends = (int(stamps[-1]) - int(stamps[0]) << PERIOD_BITS) // (len(stamps) - 1)
    middle = int(np.partition(steps, len(steps) // 2)[len(steps) // 2]) << PERIOD_BITS
    best: tuple[int, I64] = (0, stamps)
    least = -1
    for period in dict.fromkeys((ends, middle)):
        if 0 <= period < PERIOD_MAX:
            residuals = _shift(stamps, period, away=True)
            cost = min(_bits(residuals - residuals[0]), _bits(np.diff(residuals)))
            if least < 0 or cost < least:
                best, least = (period, residuals), cost
    return best


def from_line(residuals: I64, period: int) -> I64:
    """residual + (i * period >> PERIOD_BITS), modulo 2^64."""
    return _shift(residuals, period, away=False)


def _shift(stamps: I64, period: int, *, away: bool) -> I64:
    places = np.arange(len(stamps), dtype=np.uint64)
    whole, part = np.uint64(period >> PERIOD_BITS), np.uint64(period & (1 << PERIOD_BITS) - 1)
    line = places * whole + (places * part >> np.uint64(PERIOD_BITS))
    numbers = stamps.view(np.uint64)
    return (numbers - line if away else numbers + line).view(np.int64)


def _bits(numbers: I64) -> int:
    """About how many bits the numbers need: the sum of their exponents."""
    sizes = np.abs(numbers).astype(np.float64) + 1.0
    return int((sizes.view(np.int64) >> np.int64(52)).sum() - 1023 * len(numbers))
