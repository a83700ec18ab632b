"""[[model]] tables and the alarms of channels: what is looked at, and when people are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_agent.config.check import Place, Problems, Table, check_table, table_of
from edge_agent.config.model import NAME, PATH, Section, SensorPlan, duration
from edge_agent.config.values import nearest
from wire.alarm import Severity

Word = Literal["info", "warning", "critical"]
RESERVED = "rules"  # what saved state calls the rules of channels: no model may be called so
MODEL = Meta(
    pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[1-9][0-9]*)?$",
    extra={"rule": 'NAME or NAME/VERSION, as in "value-novelty/1"; see: edge-agent model list'},
)


class AlarmSection(Section, frozen=True):
    """[sensor.channel.NAME] alarm: bounds in the channel's unit, `rate` in unit per second."""

    high: float | None = None
    low: float | None = None
    rate: Annotated[float, Meta(gt=0)] | None = None
    stale: Annotated[float, duration(0.1, 86400 * 7)] | None = None  # no value for longer
    hysteresis: Annotated[float, Meta(ge=0)] = 0.0  # so far inside of `high` and `low` an alarm ends
    for_: Annotated[float, duration(0, 86400)] = msgspec.field(default=0.0, name="for")  # beyond for so long
    severity: Word = "warning"


class ModelSection(Section, frozen=True):
    """[[model]]: one model on some channels."""

    id: Annotated[str, NAME]
    name: Annotated[str, MODEL]
    inputs: Annotated[list[str], Meta(min_length=1, max_length=4096)]  # "sensor" or "sensor.channel"
    threshold: Annotated[float, Meta(gt=0)] | None = None  # none: the model's own
    calibration: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None  # rows; none: the model's own
    severity: Word = "warning"
    folder: Annotated[str, PATH] = ""  # where to look for it; empty: where models are installed


class ModelPlan(Section, frozen=True):
    """One [[model]], its inputs as (sensor, channel)."""

    id: str
    name: str
    inputs: frozenset[tuple[str, str]]
    threshold: float
    calibration_rows: int
    severity: Severity
    folder: str


def severity_of(word: Word) -> Severity:
    """The word as the number that travels."""
    return Severity[word.upper()]


def check_alarm(said: Mapping[str, Any], place: Place, where: str, problems: Problems) -> AlarmSection | None:
    """The alarm of one channel; None where there is none, or where it is wrong."""
    if not said:
        return None
    where = f"{where} alarm"
    before = len(problems)
    alarm = check_table(AlarmSection, table_of(said, place), place, where, problems)
    if alarm is None:
        return None
    bounds = (alarm.high, alarm.low, alarm.rate, alarm.stale)
    if len(problems) == before and all(bound is None for bound in bounds):
        problems.add(place, where, "needs a bound: high, low, rate or stale")
    if alarm.high is not None and alarm.low is not None and alarm.low + alarm.hysteresis >= alarm.high:
        text = f"low = {alarm.low:g} and hysteresis = {alarm.hysteresis:g} leave no room below high = {alarm.high:g}"
        problems.add(place, where, text)
    return alarm


class ModelChecker:
    """Checks one [[model]] after another against the sensors."""

    def __init__(self, sensors: Sequence[SensorPlan], known: Sequence[str], problems: Problems) -> None:
        """`known`: every sensor id of the files, the wrong ones too: their mistakes are told elsewhere."""
        self._problems = problems
        self._inputs: dict[str, frozenset[tuple[str, str]]] = {}
        for sensor in sensors:
            names = [channel.channel.name for channel in sensor.channels]
            self._inputs[sensor.id] = frozenset((sensor.id, name) for name in names)
            for name in names:
                self._inputs.setdefault(f"{sensor.id}.{name}", frozenset([(sensor.id, name)]))
        self._wrong = [name for name in known if name not in self._inputs]
        self._seen: dict[str, Place] = {}

    def check(self, table: Table, place: Place) -> ModelPlan | None:
        """The plan, or None when the table itself is wrong."""
        named = table.get("id")
        where = f'model "{named.value}"' if named else "[[model]]"
        section = check_table(ModelSection, table, place, where, self._problems)
        if section is None:
            return None
        if section.id in self._seen:
            self._problems.add(place.at("id"), where, f"the id is taken: {self._seen[section.id]} has it too")
        elif section.id == RESERVED:
            self._problems.add(place.at("id"), where, f'"{RESERVED}" is what the alarms of channels are called')
        self._seen.setdefault(section.id, place.at("id"))
        inputs: set[tuple[str, str]] = set()
        for index, name in enumerate(section.inputs):
            if name in self._inputs:
                inputs |= self._inputs[name]
            elif not any(name == wrong or name.startswith(f"{wrong}.") for wrong in self._wrong):
                hint = nearest(name, self._inputs) or ' (write "sensor" or "sensor.channel")'
                self._problems.add(place.at("inputs", index), where, f'input "{name}" unknown{hint}')
        return ModelPlan(
            id=section.id,
            name=section.name,
            inputs=frozenset(inputs),
            threshold=section.threshold or 0.0,
            calibration_rows=section.calibration or 0,
            severity=severity_of(section.severity),
            folder=section.folder,
        )
