"""One model on all channels that it watches: rows in, scores and events out. No thread, no clock.

The channels of a series set are a lane; lanes whose rows come together are one run. Per row: gaps, bins, offset and
scale in float64; per full window one batched run for all groups; then `edge_agent.detect.decision`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.batch import Batch
from edge_agent.detect.bound import Bound
from edge_agent.detect.contract import Fit, check_fit
from edge_agent.detect.decision import Outputs, decide
from edge_agent.detect.errors import ModelRefused, RunFailed
from edge_agent.detect.lane import Lane
from edge_agent.detect.manifest import Param
from edge_agent.detect.memory import Memory
from edge_agent.detect.session import F32, Session
from edge_agent.detect.verdict import F64, Verdict
from wire.alarm import NEVER, Severity
from wire.clock import US_PER_S

Mask = NDArray[np.bool_]
Row = tuple[Lane, int, F64]  # stamp in microseconds, and values in column order, NaN where there is none


class Runner:
    """See the module. Lanes are added before the first row."""

    def __init__(
        self,
        session: Session,
        *,
        calibration_rows: int = 0,
        threshold: float = 0.0,
        label: str = "",
        severity: Severity = Severity.WARNING,
    ) -> None:
        """0 for calibration or threshold takes the model's default. `label` tells two runners of one model apart, in
        alarms and in saved state.

        Raises:
            ModelRefused: the threshold is out of the model's bounds.
        """
        self.session = session
        self.manifest = manifest = session.model.manifest
        bounds = manifest.threshold
        self.threshold = threshold or bounds.default
        if not bounds.min <= self.threshold <= bounds.max:
            raise ModelRefused(f"{manifest.title}: threshold {threshold:g} is not in {bounds.min:g} to {bounds.max:g}")
        self.label = label or manifest.name
        self.rule = manifest.title if self.label == manifest.name else f"{self.label} {manifest.title}"
        self.severity = severity
        self.lanes: list[Lane] = []
        self._promised = {"score": (1,)} | {
            f"{name}_out": tuple(shape) for name, shape in session.model.state_shapes.items()
        }
        rows = calibration_rows or manifest.calibration.rows
        per = manifest.bins.per_calibration
        self.bin_rows = max(1, round(rows / per)) if per else 1
        self.calibration_runs = max(1, rows // self.bin_rows // manifest.window.rows)

    def add(self, channels: Sequence[Fit], interval_s: float | None = None) -> Lane:
        """Another series set's channels, in column order; `interval_s` between its rows, None: as they like.

        Raises:
            ModelRefused: units, kinds or interval do not fit, or the columns do not come out in whole groups.
        """
        manifest = self.manifest
        check_fit(self.session.model, channels, interval_s)
        width = manifest.window.channels
        if not channels or len(channels) % width:
            raise ModelRefused(f"{manifest.title} takes channels in groups of {width}; {len(channels)} are given")
        lane = Lane(self, channels, self.lanes[-1].at.stop if self.lanes else 0)
        self.lanes.append(lane)
        self.memory = Memory(self.session.model, lane.at.stop, self.bin_rows)
        self._batch = Batch(self.lanes)
        self._present = np.ones((lane.at.stop, manifest.window.rows, width), np.float32)
        self._finite = {name: np.empty(array.shape, np.bool_) for name, array in self.memory.state.items()}
        self._bound: Bound | None = None  # for runs of all lanes, from the first one on
        self.refresh_params()
        return lane

    def step(self, rows: Sequence[Row]) -> list[Verdict]:
        """A row for each of some lanes; a verdict for each, in the same order."""
        ordered = rows if len(rows) == 1 else sorted(rows, key=lambda row: row[0].at.start)
        batch = self._batch_of([lane for lane, _, _ in ordered])
        stamps_us = {lane: stamp_us for lane, stamp_us, _ in ordered}
        values = ordered[0][2] if len(rows) == 1 else np.concatenate([values for _, _, values in ordered])
        grid = values.reshape(batch.groups, -1)
        finite = np.isfinite(grid)
        whole = is_all(finite)
        if not whole:
            self.memory.settled = False
            grid = np.where(finite, grid, np.nan)
        self._mind_gaps(batch, stamps_us, grid)
        ready = self._collect(batch, self._normed(batch, grid))
        verdicts = self._run(self._batch_of(ready), stamps_us) if ready else {}
        if whole and not self.memory.settled:
            self.memory.settle(self.calibration_runs)
        return [verdicts.get(lane) or self._idle(lane) for lane, _, _ in rows]

    def _batch_of(self, lanes: list[Lane]) -> Batch:
        """Most often the same lanes come as before."""
        if lanes != self._batch.lanes:
            self._batch = Batch(lanes)
        return self._batch

    def refresh_params(self) -> None:
        """Work the per-device numbers out again, after a scale changed."""
        self._params = {param.name: self._param(param) for param in self.manifest.params}
        self._bound = None
        self.memory.settled = False

    def calibrating(self, lane: Lane) -> Mask:
        """Groups of a lane that only learn yet, and alarm nothing."""
        return self.memory.runs[lane.at] < self.calibration_runs

    def _mind_gaps(self, batch: Batch, stamps_us: dict[Lane, int], grid: F64) -> None:
        """A channel that was away for longer than the model allows begins anew."""
        memory, most_us = self.memory, self.manifest.max_gap_s * US_PER_S
        if not memory.settled:
            stamps = [stamps_us[lane] for lane in batch.lanes]
            before = [stamp if lane.last_us == NEVER else lane.last_us for lane, stamp in zip(batch.lanes, stamps)]
            gone_us = memory.gone_us[batch.at]
            here = ~np.isnan(grid).all(axis=1)
            gone_us = np.where(~here & (gone_us == NEVER), batch.spread(before), gone_us)
            back = here & (gone_us != NEVER)
            late = back & (batch.spread(stamps) - gone_us > most_us)
            memory.gone_us[batch.at] = np.where(back, NEVER, gone_us)
            if late.any():
                memory.reset(np.arange(len(memory.runs))[batch.at][late])
        for lane in batch.lanes:
            stamp_us = stamps_us[lane]
            if lane.last_us != NEVER and stamp_us - lane.last_us > most_us:
                memory.reset(lane.at)
            lane.last_us = max(stamp_us, lane.last_us)

    def _normed(self, batch: Batch, grid: F64) -> F64:
        """Values without their offset and in units of their scale; NaN while a calibration must come first."""
        memory, norm = self.memory, self.manifest.norm
        if norm == "none":
            return grid
        fresh = None if memory.settled else np.isnan(memory.offset[batch.at])
        if fresh is not None and norm == "first":
            memory.offset[batch.at] = np.where(fresh, grid, memory.offset[batch.at])
        elif fresh is not None and np.count_nonzero(fresh):
            self._learn(batch, grid, fresh)
        normed: F64 = (grid - memory.offset[batch.at]) / memory.scale[batch.at]
        return normed

    def _learn(self, batch: Batch, grid: F64, fresh: Mask) -> None:
        """Mean and deviation of the first calibration rows (Welford), per channel."""
        memory, at = self.memory, batch.at
        taken = fresh & ~np.isnan(grid)
        count = memory.count[at] + taken
        apart = np.where(taken, grid - memory.mean[at], 0.0)
        mean = memory.mean[at] + apart / np.maximum(count, 1)
        squares = memory.squares[at] + np.where(taken, apart * (grid - mean), 0.0)
        memory.count[at], memory.mean[at], memory.squares[at] = count, mean, squares
        done = fresh & (count >= self.calibration_runs * memory.bins.rows * self.manifest.window.rows)
        if done.any():
            spread = np.sqrt(squares / np.maximum(count - 1, 1))
            memory.offset[at] = np.where(done, mean, memory.offset[at])
            memory.scale[at] = np.where(done, np.where(spread > 0, spread, 1.0), memory.scale[at])
            self.refresh_params()

    def _param(self, param: Param) -> F32:
        groups = len(self.memory.runs)
        if param.source == "resolution":
            resolutions = [channel.resolution for lane in self.lanes for channel in lane.channels]
            number = (np.array(resolutions).reshape(groups, -1) / self.memory.scale).max(axis=1, keepdims=True)
        else:
            number = np.full((groups, 1), self.calibration_runs if param.source == "calibration_bins" else 1.0)
        scaled: F32 = (number * param.scale).astype(np.float32)
        return scaled

    def _collect(self, batch: Batch, normed: F64) -> list[Lane]:
        """Into bins, and full bins into windows; the lanes whose window is full and holds a value."""
        memory = self.memory
        if memory.bins.rows > 1:
            memory.bins.add(batch.at, normed)
            for lane in batch.lanes:
                lane.filled = (lane.filled + 1) % memory.bins.rows
            full = [lane for lane in batch.lanes if not lane.filled]
            if not full:
                return []
            batch = self._batch_of(full)
            normed = memory.bins.take(batch.at)
        steps = self.manifest.window.rows
        ready = []
        for lane, part in batch.parts:
            memory.window[lane.at, lane.in_window] = normed[part]
            lane.in_window = (lane.in_window + 1) % steps
            if not (lane.in_window or lane.stopped):
                ready.append(lane)
        if not memory.settled and np.count_nonzero(np.isnan(normed)):
            ready = [lane for lane in ready if not is_all(np.isnan(memory.window[lane.at]))]
        return ready

    def _idle(self, lane: Lane) -> Verdict:
        """Of a row that completes no run: quiet, or nothing while calibrating or stopped."""
        if lane.stopped:
            return lane.nothing()
        calibrating = self.calibrating(lane)
        scores = np.repeat(np.where(calibrating, np.nan, 0.0), lane.width)
        return Verdict(scores, quiet=not np.count_nonzero(calibrating))

    def _run(self, batch: Batch, stamps_us: dict[Lane, int]) -> dict[Lane, Verdict]:
        """One run of all its lanes. When it fails each is asked alone: one does not cost the others their scores."""
        lanes, window = batch.lanes, self.memory.window[batch.at]
        gone: Mask | None = None
        if not self.memory.settled or window.shape[1] > 1:  # rows of another time are in it
            gone = np.isnan(window)
            gone = gone if np.count_nonzero(gone) else None
        try:
            outputs = self._ask(batch, stamps_us, window, gone)
        except RunFailed as error:
            if len(lanes) > 1:
                return {lane: verdict for one in lanes for lane, verdict in self._run(Batch([one]), stamps_us).items()}
            lanes[0].failed(str(error), all_of_it=True)
            lanes[0].last_run_us = stamps_us[lanes[0]]
            return {lanes[0]: lanes[0].nothing()}
        for lane in lanes:
            lane.last_run_us = stamps_us[lane]
        good = self._good(batch, outputs)
        here = good
        if gone is not None:
            here = ~np.logical_and.reduce(gone, axis=(1, 2))
            here = here if good is None else here & good
        self._keep(batch, outputs, good, here)
        return decide(self, batch, stamps_us, outputs, good, here)

    def _ask(self, batch: Batch, stamps_us: dict[Lane, int], window: F64, gone: Mask | None) -> Outputs:
        """What the model says of a full window; `gone`: places without a value, None when there are none.

        Raises:
            RunFailed: the runtime's reason, or a shape that was not promised.
        """
        memory, at = self.memory, batch.at
        since_us = [0 if lane.last_run_us == NEVER else stamps_us[lane] - lane.last_run_us for lane in batch.lanes]
        filled = window if gone is None else np.where(gone, 0.0, window)
        if batch.groups == len(memory.runs):
            bound = self._bound = self._bound or Bound(self.session, batch.groups, self._params, memory.state)
            with np.errstate(over="ignore"):  # beyond float32 is infinite, and costs that channel its score
                bound.x[:] = filled
            bound.mask[:] = 1.0 if gone is None else ~gone
            for (_, part), since in zip(batch.parts, since_us):
                bound.dt[part] = since / US_PER_S
            return bound.run()
        with np.errstate(over="ignore"):
            x = filled.astype(np.float32)
        feeds: dict[str, F32] = {
            "x": x,
            "mask": self._present[: batch.groups] if gone is None else (~gone).astype(np.float32),
            "dt": (batch.spread(since_us) / US_PER_S).astype(np.float32)[:, np.newaxis],
        }
        for name, array in (*self._params.items(), *memory.state.items()):
            feeds[name] = array[at]
        outputs = self.session.run(feeds)
        self._check_shapes(outputs, batch.groups)
        return outputs

    def _check_shapes(self, outputs: Outputs, groups: int) -> None:
        """Raises RunFailed when a shape is not what was promised."""
        for name, shape in self._promised.items():
            if outputs[name].shape != (groups, *shape):
                found = f"{name} came as {outputs[name].shape}, {(groups, *shape)} was promised"
                raise RunFailed(f"{self.manifest.title}: {found}")

    def _good(self, batch: Batch, outputs: Outputs) -> Mask | None:
        """Groups whose score and state are usable; None: all."""
        score = outputs["score"][:, 0]
        good: Mask = np.isfinite(score)
        good &= score >= 0
        for name, finite in self._finite.items():
            new = outputs[f"{name}_out"]
            if not is_all(np.isfinite(new, out=finite[: batch.groups])):
                good &= finite[: batch.groups].reshape(batch.groups, -1).all(axis=1)
        return None if is_all(good) else good

    def _keep(self, batch: Batch, outputs: Outputs, good: Mask | None, here: Mask | None) -> None:
        """Take the state over, and note which lanes worked. `here`: of the good groups, those that had a value."""
        memory = self.memory
        for name, old in memory.state.items():
            new = outputs[f"{name}_out"]
            if good is not None:
                new[~good] = old[batch.at][~good]
            if batch.groups == len(old):  # it is where `Bound` goes on
                memory.state[name] = new
            else:
                old[batch.at] = new
        for lane, part in batch.parts:
            if good is None or is_all(good[part]):
                lane.worked()
            else:
                channel = lane.channels[int(np.argmin(good[part])) * lane.width]
                reason = f"{self.manifest.title}: output is not finite for {channel.name}"
                lane.failed(reason, all_of_it=not (good if here is None else here)[part].any())


def is_all(mask: Mask) -> bool:
    """`mask.all()`, four times as fast on the few cells of a row."""
    return bool(np.count_nonzero(mask) == mask.size)
