"""Between a lane and its saved rows: which arrays are state, and how rows find back by name."""

from __future__ import annotations

import numpy as np

from edge_agent.detect.errors import StateRefused
from edge_agent.detect.lane import Lane
from edge_agent.detect.state import Arrays, SavedState
from wire.alarm import NEVER

SHARED = "shared"  # last stamp, last run's stamp, rows in the bin, rows in the window, place in the hold-off ring
STAMPS = ("gone_us", "onset_us")  # stamps that a new boot must move


def identity(lane: Lane) -> str:
    """What saved rows must agree in: the very model, and how its rows are binned."""
    runner = lane.runner
    sha256 = runner.manifest.model_sha256
    return f"{runner.manifest.title} {sha256} bins {runner.bin_rows} calibration {runner.calibration_runs}"


def group_names(lane: Lane) -> tuple[str, ...]:
    """One name per group of channels: names and units, so that a channel of another unit begins anew."""
    texts = [f"{channel.name} [{channel.unit}]" for channel in lane.channels]
    return tuple(" + ".join(texts[at : at + lane.width]) for at in range(0, len(texts), lane.width))


def state_of(lane: Lane) -> Arrays:
    """Everything that must survive, first axis = groups, but for `shared`. Not copies."""
    shared = np.array([lane.last_us, lane.last_run_us, lane.filled, lane.in_window, lane.place], np.int64)
    return {SHARED: shared} | lane.runner.memory.arrays(lane.at)


def last_us(saved: SavedState) -> int:
    """Stamp of the last row that saved rows had seen."""
    shared = saved.arrays.get(SHARED)
    return 0 if shared is None or not len(shared) or shared[0] == NEVER else int(shared[0])


def restore(lane: Lane, saved: SavedState, shift_us: int) -> int:
    """Put saved rows back where their names still stand; the others begin anew. Returns how many came back.

    `shift_us` is added to stamps: 0 within a boot.

    Raises:
        StateRefused: another model, other bins or other shapes.
    """
    if saved.identity != identity(lane):
        raise StateRefused(f"it is of {saved.identity}; {identity(lane)} runs now")
    arrays = state_of(lane)
    names = group_names(lane)
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
    lane.last_us = last + shift_us if last != NEVER else last
    lane.last_run_us = last_run + shift_us if last_run != NEVER else last_run
    lane.filled = filled % lane.runner.bin_rows
    lane.in_window = in_window % lane.runner.manifest.window.rows
    lane.place = place % max(1, lane.runner.manifest.threshold.hold_off_ticks)
    lane.runner.refresh_params()
    return len(rows)
