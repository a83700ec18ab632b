"""Decimal steps and offsets as the integers of value = (raw * num + off) / den, without rounding."""

from __future__ import annotations

import math
from fractions import Fraction

LIMIT = 1 << 53  # beyond it float64, in which the formula is computed, would round the integers themselves


def exactly(number: float) -> Fraction:
    """The decimal that people wrote: 0.1 is 1/10. Raises ValueError for what is not finite."""
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a number")
    return Fraction(str(number))


def formula(step: Fraction, offset: Fraction) -> tuple[int, int, int]:
    """num, den, off of value = raw * step + offset. Raises ValueError when the numbers have too many digits."""
    den = math.lcm(step.denominator, offset.denominator)
    num, off = int(step * den), int(offset * den)
    if max(abs(num), den, abs(off)) > LIMIT:
        raise ValueError(f"scale {float(step):.17g} and offset {float(offset):.17g} have too many digits together")
    return num, den, off
