"""From a model's outputs to verdicts: calibration, hold-off, threshold and hysteresis. No thread, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.batch import Batch
from edge_agent.detect.lane import Lane
from edge_agent.detect.verdict import Event, Verdict
from wire.alarm import NEVER, Phase

if TYPE_CHECKING:
    from edge_agent.detect.runner import Runner

F32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
Outputs = Mapping[str, F32]


def decide(
    runner: Runner,
    batch: Batch,
    stamps_us: dict[Lane, int],
    outputs: Outputs,
    good: Mask | None,
    here: Mask | None,
) -> dict[Lane, Verdict]:
    """What a run says of each lane of the batch. `good`: groups with a usable score; `here`: those of them that had a
    value; None: all."""
    memory, at = runner.memory, batch.at
    heard, silent = outputs["score"][:, 0], None
    if here is not None or not memory.settled:
        runs = memory.runs[at]
        silent = runs < runner.calibration_runs
        if good is not None:
            silent |= ~good
        heard = np.where(silent, np.float32(0.0), heard)
        if here is not None:
            heard[~here] = 0.0
        memory.runs[at] = np.minimum(runs + (1 if here is None else here), runner.calibration_runs)
    loud = bool(np.count_nonzero(heard))
    spoken = heard
    if loud:
        spoken = np.where(heard > memory.recent[at].max(axis=1, initial=0.0), heard, np.float32(0.0))
    hold_off = memory.recent.shape[1]
    if hold_off:
        for lane, part in batch.parts:
            memory.recent[lane.at, lane.place] = heard[part]
            lane.place = (lane.place + 1) % hold_off
    scores = spoken.astype(np.float64)
    if silent is not None:
        scores[silent] = np.nan
    quiet = not loud and (silent is None or not np.count_nonzero(silent))
    watched = loud or bool(np.count_nonzero(memory.onset_us[at] != NEVER))
    verdicts = {}
    for lane, part in batch.parts:
        verdict = Verdict(scores[part] if lane.width == 1 else np.repeat(scores[part], lane.width), quiet=quiet)
        lane.last_scores = verdict.scores
        if watched:
            told = {name: array[part] for name, array in outputs.items()}
            brought = None if here is None else here[part]
            _judge(runner, lane, stamps_us[lane], verdict, told, heard[part], spoken[part], brought)
        verdicts[lane] = verdict
    return verdicts


def _judge(
    runner: Runner,
    lane: Lane,
    stamp_us: int,
    verdict: Verdict,
    outputs: Outputs,
    heard: F32,
    spoken: F32,
    here: Mask | None,
) -> None:
    """The loudest column, and changes of alarms."""
    memory, at = runner.memory, lane.at
    loudest = int(spoken.argmax())
    if spoken[loudest] > 0:
        verdict.top = _column(lane, loudest, outputs)
    onset_us = memory.onset_us[at]
    raised = spoken >= runner.threshold
    if not (raised.any() or (onset_us != NEVER).any()):
        return
    bounds = runner.manifest.threshold
    memory.calm[at] = np.where(
        heard < bounds.hysteresis * runner.threshold, memory.calm[at] + (1 if here is None else here), 0
    )
    ended = (onset_us != NEVER) & (memory.calm[at] >= max(1, bounds.hold_off_ticks)) & ~raised
    for row in np.flatnonzero(raised | ended).tolist():
        phase = Phase.CLEARED if ended[row] else Phase.GREW if onset_us[row] != NEVER else Phase.RAISED
        if phase is Phase.RAISED:
            onset_us[row] = stamp_us
        verdict.events.append(_event(runner, lane, row, phase, float(heard[row]), outputs))
    onset_us[ended] = NEVER


def _column(lane: Lane, row: int, outputs: Outputs) -> int:
    return row * lane.width + (int(np.argmax(outputs["contrib"][row])) if "contrib" in outputs else 0)


def _event(runner: Runner, lane: Lane, row: int, phase: Phase, score: float, outputs: Outputs) -> Event:
    memory = runner.memory
    column = _column(lane, row, outputs)
    channel = column - row * lane.width
    group = lane.at.start + row
    offset, scale = memory.offset[group, channel], memory.scale[group, channel]
    if runner.manifest.norm == "none":
        offset = 0.0

    def told(number: float) -> float | None:
        return float(number * scale + offset) if np.isfinite(number) else None

    seen = {
        name: told(float(outputs[name][row, -1, channel])) if name in outputs else None
        for name in ("expected", "expected_low", "expected_high")
    }
    return Event(
        row, column, phase, int(memory.onset_us[group]), score, told(float(memory.window[group, -1, channel])),
        seen["expected"], seen["expected_low"], seen["expected_high"],
    )  # fmt: skip
