"""Between a runner and its saved rows: which arrays are state, and how rows find back by name."""

from __future__ import annotations

import numpy as np

from edge_agent.detect.errors import StateRefused
from edge_agent.detect.runner import Runner
from edge_agent.detect.state import Arrays, SavedState
from wire.alarm import NEVER

SHARED = "shared"  # last stamp, last run's stamp, rows in the bin, rows in the window, place in the hold-off ring
STAMPS = ("gone_us", "onset_us")  # stamps that a new boot must move


def identity(runner: Runner) -> str:
    """What saved rows must agree in: the very model, and how its rows are binned."""
    sha256 = runner.manifest.model_sha256
    return f"{runner.manifest.title} {sha256} bins {runner.bins.rows} calibration {runner.calibration_runs}"


def group_names(runner: Runner) -> tuple[str, ...]:
    """One name per group of channels: names and units, so that a channel of another unit begins anew."""
    width = runner.manifest.window.channels
    texts = [f"{channel.name} [{channel.unit}]" for channel in runner.channels]
    return tuple(" + ".join(texts[at : at + width]) for at in range(0, len(texts), width))


def state_of(runner: Runner) -> Arrays:
    """Everything that must survive, first axis = groups, but for `shared`. Not copies."""
    bins = runner.bins
    arrays: Arrays = {
        SHARED: np.array([runner.last_us, runner.last_run_us, bins.filled, runner.in_window, runner.place], np.int64),
        "offset": runner.offset,
        "scale": runner.scale,
        "runs": runner.runs,
        "gone_us": runner.gone_us,
        "recent": runner.recent,
        "onset_us": runner.onset_us,
        "alarm": runner.alarm,
        "calm": runner.calm,
    }
    if bins.rows > 1:
        arrays |= {"bin_mean": bins.mean, "bin_middle": bins.middle, "bin_low": bins.low, "bin_high": bins.high}
    if runner.manifest.window.rows > 1:
        arrays["window"] = runner.window
    if runner.manifest.norm == "calibration":
        arrays |= dict(zip(("count", "mean", "squares"), runner.moments))
    saved = {state.name for state in runner.manifest.state if state.persist}
    return arrays | {name: array for name, array in runner.state.items() if name in saved}


def last_us(saved: SavedState) -> int:
    """Stamp of the last row that saved rows had seen."""
    shared = saved.arrays.get(SHARED)
    return 0 if shared is None or not len(shared) or shared[0] == NEVER else int(shared[0])


def restore(runner: Runner, saved: SavedState, shift_us: int) -> int:
    """Put saved rows back where their names still stand; the others begin anew. Returns how many came back.

    `shift_us` is added to stamps: 0 within a boot.

    Raises:
        StateRefused: another model, other bins or other shapes.
    """
    if saved.identity != identity(runner):
        raise StateRefused(f"it is of {saved.identity}; {identity(runner)} runs now")
    arrays = state_of(runner)
    names = group_names(runner)
    rows = [(new, saved.names.index(name)) for new, name in enumerate(names) if name in saved.names]
    shapes = {name: array.shape[1:] if name != SHARED else array.shape for name, array in arrays.items()}
    for name, shape in shapes.items():
        found = saved.arrays.get(name)
        told = (len(saved.names), *shape) if name != SHARED else shape
        if found is None or found.shape != told or found.dtype != arrays[name].dtype:
            raise StateRefused(f"{name} was saved as {None if found is None else found.shape}; {told} is expected")
    target, source = [new for new, _ in rows], [old for _, old in rows]
    for name, array in arrays.items():
        if name == SHARED:
            continue
        values = saved.arrays[name][source]
        if name in STAMPS:
            values = np.where(values != NEVER, values + shift_us, values)
        array[target] = values
    last, last_run, filled, in_window, place = saved.arrays[SHARED].tolist()
    runner.last_us = last + shift_us if last != NEVER else last
    runner.last_run_us = last_run + shift_us if last_run != NEVER else last_run
    runner.bins.filled = filled % runner.bins.rows
    runner.in_window = in_window % runner.manifest.window.rows
    runner.place = place % max(1, runner.recent.shape[1])
    runner.refresh_params()
    return len(rows)
