"""A lane: the channels of one series set in a runner. No thread, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.detect.contract import Fit
from edge_agent.detect.verdict import F64, Verdict
from wire.alarm import NEVER

if TYPE_CHECKING:
    from edge_agent.detect.runner import Runner

FAILURES_MAX = 10  # runs in a row without anything usable, then the lane is left alone until a restart


class Lane:
    """Its groups stand side by side in the runner's memory. `failures` counts runs that gave nothing; `problem` says
    why, while it lasts. Made by `Runner.add`."""

    def __init__(self, runner: Runner, channels: Sequence[Fit], first: int) -> None:
        """`channels` in column order; `first` of the runner's groups is the first of this lane."""
        self.runner = runner
        self.channels = tuple(channels)
        self.width = runner.manifest.window.channels
        self.groups = len(channels) // self.width
        self.at = slice(first, first + self.groups)
        self.last_us = NEVER
        self.last_run_us = NEVER
        self.filled = 0  # rows in the open bin
        self.in_window = 0  # bins in the open window
        self.place = 0  # in the ring of the hold-off
        self.failures = 0
        self.problem = ""
        self.last_scores = np.full(len(channels), np.nan)  # of the last run, per column; not saved
        self._failed_in_a_row = 0

    def step(self, stamp_us: int, values: F64) -> Verdict:
        """One row of values in column order, NaN where there is none; its lane alone."""
        return self.runner.step([(self, stamp_us, values)])[0]

    @property
    def rows_learnt(self) -> tuple[int, int]:
        """(rows, of): how far the channel that came last is with its calibration."""
        runner = self.runner
        per_run = runner.memory.bins.rows * runner.manifest.window.rows
        runs = min(int(runner.memory.runs[self.at].min()), runner.calibration_runs)
        return runs * per_run, runner.calibration_runs * per_run

    @property
    def stopped(self) -> bool:
        """Whether it failed so often that it is not asked any more."""
        return self._failed_in_a_row >= FAILURES_MAX

    def worked(self) -> None:
        """A run was usable for all groups."""
        self._failed_in_a_row, self.problem = 0, ""

    def failed(self, reason: str, *, all_of_it: bool) -> None:
        """Count it; a model that gives nothing for any channel again and again is not asked any more."""
        self.failures += 1
        self._failed_in_a_row = self._failed_in_a_row + 1 if all_of_it else 0
        self.problem = reason
        if self.stopped:
            self.problem += f"; {FAILURES_MAX} runs in a row, it is not asked again"

    def nothing(self) -> Verdict:
        """No score for any column."""
        return Verdict(np.full(len(self.channels), np.nan))
