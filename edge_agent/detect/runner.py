"""One model on the channels of one series set: rows in, scores and events out. No thread, no clock.

Per row: gaps, bins, offset and scale in float64; per full window one batched run for all channels; then hold-off,
threshold and hysteresis. Everything that must survive a restart is in arrays, one row per group of channels.
The run itself is between `ask` and `judge`, so that runners of one model can share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.bins import Bins
from edge_agent.detect.contract import Fit, check_fit
from edge_agent.detect.errors import ModelRefused, RunFailed
from edge_agent.detect.manifest import Param
from edge_agent.detect.session import F32, Answer, Session
from wire.alarm import NEVER, Phase, Severity
from wire.clock import US_PER_S

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

FAILURES_MAX = 10  # runs in a row without anything usable, then the model is left alone until a restart


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one group's alarm; `column` is the channel that contributed most."""

    row: int
    column: int
    phase: Phase
    onset_us: int
    score: float
    value: float | None
    expected: float | None
    low: float | None
    high: float | None


@dataclass(slots=True)
class Verdict:
    """What one row of values gave. `scores` per column: NaN = not scored, 0 = quiet, and a score that came is told
    even where this row lacks the value. `top`: the loudest column, or -1."""

    scores: F64
    ran: bool = False
    events: list[Event] = field(default_factory=list)
    top: int = -1


@dataclass(frozen=True, slots=True)
class Question:
    """What a full window asks of the model; `here` are the groups that have a value in it."""

    feeds: dict[str, F32]
    stamp_us: int
    here: Mask


class Runner:
    """See the module. `failures` counts runs that gave nothing; `problem` says why, while it lasts."""

    def __init__(
        self,
        session: Session,
        channels: Sequence[Fit],
        *,
        interval_s: float | None = None,
        calibration_rows: int = 0,
        threshold: float = 0.0,
        label: str = "",
        severity: Severity = Severity.WARNING,
    ) -> None:
        """`channels` in column order; 0 for calibration or threshold takes the model's default. `label` tells two
        runners of one model apart, in alarms and in saved state.

        Raises:
            ModelRefused: units, kinds or interval do not fit, the columns do not come out in whole groups, or the
                threshold is out of the model's bounds.
        """
        manifest = session.model.manifest
        check_fit(session.model, channels, interval_s)
        width = manifest.window.channels
        if not channels or len(channels) % width:
            raise ModelRefused(f"{manifest.title} takes channels in groups of {width}; {len(channels)} are given")
        bounds = manifest.threshold
        self.threshold = threshold or bounds.default
        if not bounds.min <= self.threshold <= bounds.max:
            raise ModelRefused(f"{manifest.title}: threshold {threshold:g} is not in {bounds.min:g} to {bounds.max:g}")
        self.session = session
        self.manifest = manifest
        self.label = label or manifest.name
        self.rule = manifest.title if self.label == manifest.name else f"{self.label} {manifest.title}"
        self.severity = severity
        self.channels = tuple(channels)
        self.groups = len(channels) // width
        rows = calibration_rows or manifest.calibration.rows
        per = manifest.bins.per_calibration
        bin_rows = max(1, round(rows / per)) if per else 1
        self.calibration_runs = max(1, rows // bin_rows // manifest.window.rows)
        self.failures = 0
        self.problem = ""
        self._failed_in_a_row = 0
        self.bins = Bins((self.groups, width), bin_rows, manifest.bins.mean_rate)
        self._begin()

    def _begin(self) -> None:
        manifest, groups = self.manifest, self.groups
        window = (groups, manifest.window.rows, manifest.window.channels)
        self.last_us = NEVER
        self.last_run_us = NEVER
        self.in_window = 0
        self.place = 0
        self.offset = np.full((groups, window[2]), np.nan)
        self.scale = np.ones((groups, window[2]))
        self.moments = np.zeros((3, groups, window[2]))  # count, mean, sum of squares: norm "calibration" only
        self.window = np.full(window, np.nan)
        self._all = np.ones(groups, np.bool_)
        self._present = np.ones(window, np.float32)
        self.runs = np.zeros(groups, np.int64)  # that had a value
        self.gone_us = np.full(groups, NEVER, np.int64)  # last value's stamp, while none comes
        self.recent = np.zeros((groups, manifest.threshold.hold_off_ticks), np.float32)
        self.onset_us = np.full(groups, NEVER, np.int64)  # of the alarm, while there is one
        self.alarm = np.zeros(groups, np.int64)  # its id, given at the onset
        self.calm = np.zeros(groups, np.int64)  # runs below the hysteresis in a row
        shapes = self.session.model.state_shapes
        self.state = {
            item.name: np.full((groups, *shapes[item.name]), item.init, np.float32) for item in manifest.state
        }
        self._shapes = {"score": (groups, 1)} | {f"{name}_out": old.shape for name, old in self.state.items()}
        self.last_scores = np.full(len(self.channels), np.nan)  # of the last run, per column; not saved
        self.refresh_params()

    @property
    def rows_learnt(self) -> tuple[int, int]:
        """(rows, of): how far the channel that came last is with its calibration."""
        per_run = self.bins.rows * self.manifest.window.rows
        return min(int(self.runs.min()), self.calibration_runs) * per_run, self.calibration_runs * per_run

    @property
    def stopped(self) -> bool:
        """Whether it failed so often that it is not asked any more."""
        return self._failed_in_a_row >= FAILURES_MAX

    @property
    def calibrating(self) -> Mask:
        """Groups that only learn yet, and alarm nothing."""
        return self.runs < self.calibration_runs

    def step(self, stamp_us: int, values: F64) -> Verdict:
        """One row of values in column order, NaN where there is none."""
        asked = self.ask(stamp_us, values)
        return asked if isinstance(asked, Verdict) else self.judge(asked, *self.session.answers([asked.feeds]))

    def ask(self, stamp_us: int, values: F64) -> Verdict | Question:
        """Take one row, as `step`. A question is to be answered with `judge` before the next row."""
        grid = values.reshape(self.groups, -1)
        whole = is_all(np.isfinite(grid))
        if not whole:
            grid = np.where(np.isfinite(grid), grid, np.nan)
        self._mind_gaps(stamp_us, grid, whole=whole)
        binned = self.bins.add(self._normed(grid))
        if binned is not None:
            self.window[:, self.in_window] = binned
            self.in_window += 1
            if self.in_window == self.manifest.window.rows:
                self.in_window = 0
                return self._question(stamp_us)
        return Verdict(self._idle())

    def _mind_gaps(self, stamp_us: int, grid: F64, *, whole: bool) -> None:
        """A channel that was away for longer than the model allows begins anew."""
        before = self.last_us if self.last_us != NEVER else stamp_us
        here = self._all if whole else ~np.isnan(grid).all(axis=1)
        if not whole:
            self.gone_us[~here & (self.gone_us == NEVER)] = before
        most_us = self.manifest.max_gap_s * US_PER_S
        if stamp_us - before > most_us:
            self.reset(self._all)
        elif np.count_nonzero(self.gone_us != NEVER):
            back = here & (self.gone_us != NEVER)
            late = back & (stamp_us - self.gone_us > most_us)
            if late.any():
                self.reset(late)
            self.gone_us[back] = NEVER
        self.last_us = max(stamp_us, before)

    def reset(self, groups: Mask) -> None:
        """Forget what these groups learnt: they calibrate again."""
        self.bins.reset(groups)
        self.offset[groups] = np.nan
        self.scale[groups] = 1.0
        self.moments[:, groups] = 0.0
        self.window[groups] = np.nan
        self.recent[groups] = 0.0
        self.gone_us[groups] = self.onset_us[groups] = NEVER
        self.runs[groups] = self.calm[groups] = 0
        for item in self.manifest.state:
            self.state[item.name] = self.state[item.name].copy()
            self.state[item.name][groups] = item.init

    def _normed(self, grid: F64) -> F64:
        """Values without their offset and in units of their scale; NaN while a calibration must come first."""
        norm = self.manifest.norm
        if norm == "none":
            return grid
        fresh = np.isnan(self.offset)
        if norm == "first":
            if np.count_nonzero(fresh):
                self.offset[fresh] = grid[fresh]
        elif np.count_nonzero(fresh):
            self._learn(grid, fresh)
        normed: F64 = (grid - self.offset) / self.scale
        return normed

    def _learn(self, grid: F64, fresh: Mask) -> None:
        """Mean and deviation of the first calibration rows (Welford), per channel."""
        count, mean, squares = self.moments
        taken = fresh & ~np.isnan(grid)
        count[taken] += 1
        apart = grid[taken] - mean[taken]
        mean[taken] += apart / count[taken]
        squares[taken] += apart * (grid[taken] - mean[taken])
        done = fresh & (count >= self.calibration_runs * self.bins.rows * self.manifest.window.rows)
        self.offset[done] = mean[done]
        spread = np.sqrt(squares[done] / np.maximum(count[done] - 1, 1))
        self.scale[done] = np.where(spread > 0, spread, 1.0)
        if done.any():
            self.refresh_params()

    def refresh_params(self) -> None:
        """Work the per-device numbers out again, after a scale changed."""
        self._params = {param.name: self._param(param) for param in self.manifest.params}

    def _param(self, param: Param) -> F32:
        if param.source == "resolution":
            resolutions = np.array([channel.resolution for channel in self.channels]).reshape(self.groups, -1)
            number = (resolutions / self.scale).max(axis=1, keepdims=True)
        else:
            number = np.full((self.groups, 1), self.calibration_runs if param.source == "calibration_bins" else 1.0)
        scaled: F32 = (number * param.scale).astype(np.float32)
        return scaled

    def _question(self, stamp_us: int) -> Verdict | Question:
        gone = np.isnan(self.window)
        whole = not np.count_nonzero(gone)
        here = self._all if whole else ~gone.all(axis=(1, 2))
        if self._failed_in_a_row >= FAILURES_MAX or not np.count_nonzero(here):
            return Verdict(self._nothing() if self.problem else self._idle())
        since_s = 0.0 if self.last_run_us == NEVER else (stamp_us - self.last_run_us) / US_PER_S
        self.last_run_us = stamp_us
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and costs that channel its score
            x = (self.window if whole else np.where(gone, 0.0, self.window)).astype(np.float32)
        feeds: dict[str, F32] = {
            "x": x,
            "mask": self._present if whole else (~gone).astype(np.float32),
            "dt": np.full((self.groups, 1), since_s, np.float32),
            **self._params,
            **self.state,
        }
        return Question(feeds, stamp_us, here)

    def judge(self, question: Question, answer: Answer) -> Verdict:
        """What the model's answer means."""
        if not isinstance(answer, RunFailed):
            answer = self._misshapen(answer) or answer
        if isinstance(answer, RunFailed):
            self._failed(str(answer), all_of_it=True)
            return Verdict(self._nothing(), ran=True)
        good, here = self._good(answer), question.here
        if is_all(good):
            self._failed_in_a_row, self.problem = 0, ""
            for name in self.state:
                self.state[name] = answer[f"{name}_out"]
        else:
            reason = f"{self.manifest.title}: output is not finite for {self.channels[self._bad_column(good)].name}"
            self._failed(reason, all_of_it=not (good & here).any())
            for name, old in self.state.items():
                keep = good.reshape(-1, *[1] * (old.ndim - 1))
                self.state[name] = np.where(keep, answer[f"{name}_out"], old)
        return self._decide(question.stamp_us, answer, good, here & good)

    def _failed(self, reason: str, *, all_of_it: bool) -> None:
        """Count it; a model that gives nothing for any channel again and again is not asked any more."""
        self.failures += 1
        self._failed_in_a_row = self._failed_in_a_row + 1 if all_of_it else 0
        self.problem = reason
        if self._failed_in_a_row >= FAILURES_MAX:
            self.problem += f"; {FAILURES_MAX} runs in a row, it is not asked again"

    def _bad_column(self, good: Mask) -> int:
        return int(np.argmin(good)) * self.manifest.window.channels

    def _misshapen(self, outputs: dict[str, F32]) -> RunFailed | None:
        """Shapes that are not what was promised."""
        for name, shape in self._shapes.items():
            if outputs[name].shape != shape:
                return RunFailed(f"{self.manifest.title}: {name} came as {outputs[name].shape}, {shape} was promised")
        return None

    def _good(self, outputs: dict[str, F32]) -> Mask:
        """Groups whose score and state are usable."""
        score = outputs["score"][:, 0]
        good: Mask = np.isfinite(score) & (score >= 0)
        for name in self.state:
            finite = np.isfinite(outputs[f"{name}_out"])
            if not is_all(finite):
                good &= finite.reshape(self.groups, -1).all(axis=1)
        return good

    def _decide(self, stamp_us: int, outputs: dict[str, F32], good: Mask, here: Mask) -> Verdict:
        silent = self.calibrating | ~good
        heard = np.where(here & ~silent, outputs["score"][:, 0], np.float32(0.0))
        self.runs += here
        spoken = heard
        if np.count_nonzero(heard):
            spoken = np.where(heard > self.recent.max(axis=1, initial=0.0), heard, np.float32(0.0))
        if self.recent.shape[1]:
            self.recent[:, self.place] = heard
            self.place = (self.place + 1) % self.recent.shape[1]
        scores = np.where(silent, np.nan, spoken.astype(np.float64))
        width = self.manifest.window.channels
        verdict = Verdict(scores if width == 1 else np.repeat(scores, width), ran=True)
        self.last_scores = verdict.scores
        loudest = int(spoken.argmax())
        loud = float(spoken[loudest])
        if loud > 0:
            verdict.top = self._column(loudest, outputs)
        if loud >= self.threshold or np.count_nonzero(self.onset_us != NEVER):
            raised = spoken >= self.threshold
            self.calm = np.where(heard < self.manifest.threshold.hysteresis * self.threshold, self.calm + here, 0)
            verdict.events = self._events(stamp_us, heard, raised, outputs)
        return verdict

    def _events(self, stamp_us: int, heard: F32, raised: Mask, outputs: dict[str, F32]) -> list[Event]:
        events = []
        calm_runs = max(1, self.manifest.threshold.hold_off_ticks)
        ended = (self.onset_us != NEVER) & (self.calm >= calm_runs) & ~raised
        for row in np.flatnonzero(raised | ended).tolist():
            phase = Phase.CLEARED if ended[row] else Phase.GREW if self.onset_us[row] != NEVER else Phase.RAISED
            if phase is Phase.RAISED:
                self.onset_us[row] = stamp_us
            events.append(self._event(row, phase, float(heard[row]), outputs))
        self.onset_us[ended] = NEVER
        return events

    def _column(self, row: int, outputs: dict[str, F32]) -> int:
        width = self.manifest.window.channels
        return row * width + (int(np.argmax(outputs["contrib"][row])) if "contrib" in outputs else 0)

    def _event(self, row: int, phase: Phase, score: float, outputs: dict[str, F32]) -> Event:
        column = self._column(row, outputs)
        channel = column - row * self.manifest.window.channels
        offset, scale = self.offset[row, channel], self.scale[row, channel]
        if self.manifest.norm == "none":
            offset = 0.0

        def told(number: float) -> float | None:
            return float(number * scale + offset) if np.isfinite(number) else None

        seen = {
            name: told(float(outputs[name][row, -1, channel])) if name in outputs else None
            for name in ("expected", "expected_low", "expected_high")
        }
        return Event(
            row, column, phase, int(self.onset_us[row]), score, told(float(self.window[row, -1, channel])),
            seen["expected"], seen["expected_low"], seen["expected_high"],
        )  # fmt: skip

    def _nothing(self) -> F64:
        return np.full(len(self.channels), np.nan)

    def _idle(self) -> F64:
        """Scores of a row that completes no run: quiet, or nothing while calibrating."""
        return np.repeat(np.where(self.calibrating, np.nan, 0.0), self.manifest.window.channels)


def is_all(mask: Mask) -> bool:
    """`mask.all()`, four times as fast on the few cells of a row."""
    return bool(np.count_nonzero(mask) == mask.size)
