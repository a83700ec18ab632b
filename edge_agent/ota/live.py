"""The readings that a gateway took last, as models see them: read from a copy of the journal's ring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.config.model import Config
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.opening import JOURNAL
from wire.reading import CellState
from wire.series import SeriesSet, ValueType

ROWS_MAX = 1024


class Input(msgspec.Struct, frozen=True):
    """A channel that a model looks at; value = (raw * num + off) / den."""

    column: int
    name: str
    unit: str
    kind: str
    resolution: float
    num: int
    off: int
    den: int


class View(msgspec.Struct, frozen=True):
    """What one [[model]] sees of one series set. `interval_s`: between its rows, None: as they like."""

    family: str
    set_id: int
    stamp_us: int  # of one count of a stamp
    inputs: list[Input]
    interval_s: float | None
    calibration_rows: int
    threshold: float


class Live(msgspec.Struct, frozen=True):
    """Where the ring lies, and what the configured models see of it."""

    ring: str
    views: list[View]


def live_of(config: Config, sets: Sequence[tuple[SeriesSet, float | None]]) -> Live:
    """For the running configuration; models that are looked for in a folder of their own are no releases' business."""
    views = []
    for plan in config.models:
        for series_set, interval_s in sets if not plan.folder else ():
            inputs = [
                Input(
                    column,
                    one.name,
                    one.unit,
                    one.device_class,
                    abs(one.num) / one.den if one.value_type is ValueType.INT else 0.0,
                    one.num,
                    one.off,
                    one.den,
                )
                for column, one in enumerate(series_set.series)
                if (one.sensor, one.channel) in plan.inputs
            ]
            if inputs:
                unit_us = series_set.stamp_unit.us
                family = plan.name.partition("/")[0]
                views.append(
                    View(family, series_set.id, unit_us, inputs, interval_s, plan.calibration_rows, plan.threshold)
                )
    return Live(str(config.runtime_dir / JOURNAL), views)


def rows_of(view: View, ring: Path) -> tuple[list[int], NDArray[np.float64]]:
    """Stamps in microseconds and values, NaN where there is none, of the newest ROWS_MAX rows. Raises StateUnusable.

    `ring` is a copy: in the ring itself the agent writes.
    """
    head = Journal.head(ring)
    ticks = [] if head is None else [tick for tick in Journal.scan(ring, head.outbox, 0) if tick.set_id == view.set_id]
    ticks = ticks[-ROWS_MAX:]
    values = np.full((len(ticks), len(view.inputs)), np.nan)
    for row, tick in enumerate(ticks):
        for place, one in enumerate(view.inputs):
            if tick.states is None or tick.states[one.column] == CellState.VALUE:
                values[row, place] = (tick.raw[one.column] * one.num + one.off) / one.den
    return [tick.stamp * view.stamp_us for tick in ticks], values
