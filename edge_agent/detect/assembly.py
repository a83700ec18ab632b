"""From the configuration to one detector: rules of channels, and each model on the series sets that have its inputs.

A model that cannot be used is left out with its reason; the others, and the rules, work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.config.detect import ModelPlan, severity_of
from edge_agent.config.model import Config
from edge_agent.detect.contract import load_model
from edge_agent.detect.detector import Detector, channels_of
from edge_agent.detect.errors import ModelRefused
from edge_agent.detect.lane import Lane
from edge_agent.detect.library import find_model, folders_for
from edge_agent.detect.rules import Rule, RuleKind
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Session
from edge_agent.detect.watched import Watch
from wire.series import SeriesSet


@dataclass(frozen=True, slots=True)
class Grid:
    """A series set and how often its ticks come, in seconds; None: as they like."""

    series_set: SeriesSet
    interval_s: float | None


@dataclass(frozen=True, slots=True)
class Assembled:
    """The detector, and why models are not in it, or not on all of their channels: model id → reason."""

    detector: Detector
    refused: dict[str, str]


def assemble(config: Config, grids: Sequence[Grid], boot: int) -> Assembled:
    """Load what the configuration names. `boot`: the boot that stamps count from, as 64 bits."""
    lanes: dict[int, list[tuple[Lane, Sequence[int]]]] = {grid.series_set.id: [] for grid in grids}
    refused: dict[str, str] = {}
    sessions: dict[Path, Session] = {}
    for plan in config.models:
        try:
            runner = _runner(config, plan, sessions)
        except (ModelRefused, ImportError) as error:
            refused[plan.id] = str(error)
            continue
        for grid in grids:
            columns = [
                column
                for column, series in enumerate(grid.series_set.series)
                if (series.sensor, series.channel) in plan.inputs
            ]
            try:
                if columns:
                    channels = channels_of([grid.series_set.series[column] for column in columns])
                    lanes[grid.series_set.id].append((runner.add(channels, grid.interval_s), columns))
            except ModelRefused as error:
                refused[plan.id] = str(error)
    watches = [Watch(grid.series_set, lanes[grid.series_set.id], rules_of(config, grid.series_set)) for grid in grids]
    return Assembled(Detector(boot, watches), refused)


def _runner(config: Config, plan: ModelPlan, sessions: dict[Path, Session]) -> Runner:
    """Tables that name the same model share its session: it is in memory, and met in the caches, once."""
    folder = find_model(plan.name, folders_for(plan.folder, config.state_dir))
    if folder not in sessions:
        sessions[folder] = Session(load_model(folder))
    return Runner(
        sessions[folder],
        calibration_rows=plan.calibration_rows,
        threshold=plan.threshold,
        label=plan.id,
        severity=plan.severity,
    )


def rules_of(config: Config, series_set: SeriesSet) -> list[Rule]:
    """The alarms of a set's channels."""
    columns = {(series.sensor, series.channel): column for column, series in enumerate(series_set.series)}
    rules = []
    for sensor in config.sensors:
        for plan in sensor.channels:
            alarm, column = plan.alarm, columns.get((sensor.id, plan.channel.name))
            if alarm is None or column is None:
                continue
            kinds = (
                (RuleKind.HIGH, alarm.high, alarm.hysteresis, alarm.for_),
                (RuleKind.LOW, alarm.low, alarm.hysteresis, alarm.for_),
                (RuleKind.RATE, alarm.rate, 0.0, alarm.for_),
                (RuleKind.STALE, alarm.stale, 0.0, 0.0),
            )
            series, severity = series_set.series[column], severity_of(alarm.severity)
            rules += [
                Rule(column, series.name, series.unit, kind, bound, hysteresis, for_s, severity)
                for kind, bound, hysteresis, for_s in kinds
                if bound is not None
            ]
    return rules
