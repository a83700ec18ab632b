"""What a runner keeps of its groups of channels between two rows of values. No thread, no clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.bins import Bins, Place
from edge_agent.detect.contract import Model
from wire.alarm import NEVER


class Memory:
    """One row per group in every array, and all of it survives a restart. Stamps are boot-relative microseconds.

    `settled`: it was looked up that all groups are past their calibration, have their offset, and brought a value last.
    While it holds a row needs not be asked for it; whoever changes one of these makes it False.
    """

    def __init__(self, model: Model, groups: int, bin_rows: int) -> None:
        manifest = model.manifest
        window = (groups, manifest.window.rows, manifest.window.channels)
        channels = (groups, manifest.window.channels)
        self._manifest = manifest
        self.settled = False
        self.bins = Bins(channels, bin_rows, manifest.bins.mean_rate)
        self.offset = np.full(channels, np.nan)
        self.scale = np.ones(channels)
        self.count, self.mean, self.squares = np.zeros((3, *channels))  # norm "calibration" only
        self.window = np.full(window, np.nan)
        self.runs = np.zeros(groups, np.int64)  # that had a value
        self.gone_us = np.full(groups, NEVER, np.int64)  # last value's stamp, while none comes
        self.recent = np.zeros((groups, manifest.threshold.hold_off_ticks), np.float32)
        self.onset_us = np.full(groups, NEVER, np.int64)  # of the alarm, while there is one
        self.alarm = np.zeros(groups, np.int64)  # its id, given at the onset
        self.calm = np.zeros(groups, np.int64)  # runs below the hysteresis in a row
        shapes = model.state_shapes
        self.state = {
            item.name: np.full((groups, *shapes[item.name]), item.init, np.float32) for item in manifest.state
        }

    def reset(self, at: Place | NDArray[np.bool_]) -> None:
        """Forget what these groups learnt: they calibrate again."""
        self.settled = False
        self.bins.reset(at)
        self.offset[at] = np.nan
        self.scale[at] = 1.0
        self.count[at] = self.mean[at] = self.squares[at] = 0.0
        self.window[at] = np.nan
        self.recent[at] = 0.0
        self.gone_us[at] = self.onset_us[at] = NEVER
        self.runs[at] = self.calm[at] = 0
        for item in self._manifest.state:
            self.state[item.name][at] = item.init

    def settle(self, calibration_runs: int) -> None:
        """Look up whether all groups are `settled`."""
        told = self.runs >= calibration_runs
        told &= self.gone_us == NEVER
        if self._manifest.norm != "none":
            told &= ~np.isnan(self.offset).any(axis=1)
        self.settled = bool(told.all())

    def arrays(self, at: slice) -> dict[str, NDArray[Any]]:
        """What is to be saved of some groups, by its name in the saved state. Not copies."""
        arrays: dict[str, NDArray[Any]] = {
            "offset": self.offset,
            "scale": self.scale,
            "runs": self.runs,
            "gone_us": self.gone_us,
            "recent": self.recent,
            "onset_us": self.onset_us,
            "alarm": self.alarm,
            "calm": self.calm,
        }
        bins = self.bins
        if bins.rows > 1:
            arrays |= {"bin_mean": bins.mean, "bin_middle": bins.middle, "bin_low": bins.low, "bin_high": bins.high}
        if self._manifest.window.rows > 1:
            arrays["window"] = self.window
        if self._manifest.norm == "calibration":
            arrays |= {"count": self.count, "mean": self.mean, "squares": self.squares}
        arrays |= {item.name: self.state[item.name] for item in self._manifest.state if item.persist}
        return {name: array[at] for name, array in arrays.items()}
