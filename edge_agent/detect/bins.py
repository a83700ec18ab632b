"""Bins: some rows of all channels become one number each, the extreme that lies further from the moving mean.

A mean would hide a spike of one row; a bin that keeps its lowest or highest value shows it, and still divides the rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


class Bins:
    """Collects rows of shape `shape`; NaN where a value is missing. All arrays are state."""

    def __init__(self, shape: tuple[int, ...], rows: int, mean_rate: float) -> None:
        self.rows = rows
        self.mean_rate = mean_rate
        self.filled = 0
        self.mean = np.full(shape, np.nan)  # moving mean of the values; NaN before the first
        self.middle = np.full(shape, np.nan)  # that mean when the bin began
        self.low = np.full(shape, np.nan)
        self.high = np.full(shape, np.nan)

    def add(self, values: F64) -> F64 | None:
        """One row. Returns the bin's numbers when it is full: NaN where no value came."""
        if self.rows == 1:
            return values
        np.fmin(self.low, values, out=self.low)
        np.fmax(self.high, values, out=self.high)
        step = values - self.mean
        step[np.isnan(step)] = 0.0
        self.mean += self.mean_rate * step
        fresh = np.isnan(self.mean)
        if fresh.any():
            self.mean[fresh] = values[fresh]
            self.middle[fresh] = values[fresh]
        self.filled += 1
        if self.filled < self.rows:
            return None
        lowest = self.middle - self.low > self.high - self.middle
        extreme: F64 = np.where(lowest, self.low, self.high)
        self.filled = 0
        self.middle = self.mean.copy()
        self.low = np.full_like(self.low, np.nan)
        self.high = np.full_like(self.high, np.nan)
        return extreme

    def reset(self, rows: NDArray[np.bool_]) -> None:
        """Forget these first-axis rows; the bin that is open goes on without what they brought."""
        for array in (self.mean, self.middle, self.low, self.high):
            array[rows] = np.nan
