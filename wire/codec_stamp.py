"""Stamps as distances from a line: a deadline loop is late by some milliseconds, never more and more."""

from __future__ import annotations

import numpy as np

from wire.varint import I64

PERIOD_BITS = 16  # fraction bits of the period
PERIOD_MAX = 1 << 63
HOLE = 4  # a step of so many middle ones is a hole, not a late cycle


def to_line(stamps: I64) -> tuple[int, I64]:
    """The period (fixed point) of a line, and the stamps' distance from it.

    The line between the ends suits a loop that keeps its period; where there are holes, that of the middle step does.
    """
    last = len(stamps) - 1
    if last < 1:
        return 0, stamps
    steps = stamps[1:] - stamps[:-1]
    steps.sort()
    least, middle, most = int(steps[0]), int(steps[last // 2]), int(steps[-1])
    period = (int(stamps[-1]) - int(stamps[0]) << PERIOD_BITS) // last
    if most > HOLE * middle or least < 0:
        period = middle << PERIOD_BITS
    if not 0 <= period < PERIOD_MAX:
        return 0, stamps
    return period, _shift(stamps, period, away=True)


def from_line(residuals: I64, period: int) -> I64:
    """residual + (i * period >> PERIOD_BITS), modulo 2^64."""
    return _shift(residuals, period, away=False)


def _shift(stamps: I64, period: int, *, away: bool) -> I64:
    places = np.arange(len(stamps), dtype=np.uint64)
    whole, part = np.uint64(period >> PERIOD_BITS), np.uint64(period & (1 << PERIOD_BITS) - 1)
    line = places * whole + (places * part >> np.uint64(PERIOD_BITS))
    numbers = stamps.view(np.uint64)
    return (numbers - line if away else numbers + line).view(np.int64)
