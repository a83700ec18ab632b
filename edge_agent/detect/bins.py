"""Bins: some rows of all channels become one number each, the extreme that lies further from the moving mean.

A mean would hide a spike of one row; a bin that keeps its lowest or highest value shows it, and still divides the rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Place = slice | NDArray[np.intp]  # rows of the arrays


class Bins:
    """One row per group of channels in every array, NaN where a value is missing. All arrays are state. When a group's
    bin is full is for the caller to count."""

    def __init__(self, shape: tuple[int, ...], rows: int, mean_rate: float) -> None:
        """`rows` of values make a bin."""
        self.rows = rows
        self.mean_rate = mean_rate
        self.mean = np.full(shape, np.nan)  # moving mean of the values; NaN before the first
        self.middle = np.full(shape, np.nan)  # that mean when the bin began
        self.low = np.full(shape, np.nan)
        self.high = np.full(shape, np.nan)

    def add(self, at: Place, values: F64) -> None:
        """One row of values for the groups `at`."""
        self.low[at] = np.fmin(self.low[at], values)
        self.high[at] = np.fmax(self.high[at], values)
        mean = self.mean[at]
        step = values - mean
        step[np.isnan(step)] = 0.0
        mean = mean + self.mean_rate * step
        fresh = np.isnan(mean)
        if fresh.any():
            mean[fresh] = values[fresh]
            self.middle[at] = np.where(fresh, values, self.middle[at])
        self.mean[at] = mean

    def take(self, at: Place) -> F64:
        """The numbers of bins that are full, NaN where no value came; their next ones begin."""
        low, high, middle = self.low[at], self.high[at], self.middle[at]
        extreme: F64 = np.where(middle - low > high - middle, low, high)
        self.middle[at] = self.mean[at]
        self.low[at] = self.high[at] = np.nan
        return extreme

    def reset(self, at: Place | NDArray[np.bool_]) -> None:
        """Forget these groups; a bin that is open goes on without what they brought."""
        for array in (self.mean, self.middle, self.low, self.high):
            array[at] = np.nan
