"""Any topic of an MQTT broker: its messages are readings. Nothing is polled; they come when the broker sends."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import ClassVar, Literal

import msgspec

from edge_agent.mqtt.payload import NumberType, Path, parse_path
from edge_agent.mqtt.topics import filter_problem, overlap
from hardware.driver import Cell, Channel, Driver, DriverConfig
from hardware.errors import DeviceNotReady


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One channel and where in the message it stands."""

    name: str
    unit: str  # SenML
    path: str | None = None  # in the JSON document; none: the whole payload is the number
    topic: str = ""  # only messages whose topic belongs to this filter bring the channel; empty: all of the sensor's
    resolution: float | None = None  # kept as counts of this step, rounded to the nearest
    type: NumberType | None = None  # none: int with a resolution, else float64
    device_class: str = ""
    low: float | None = None
    high: float | None = None
    rate_max: float | None = None

    def __post_init__(self) -> None:
        if self.resolution is not None and not 0 < self.resolution < float("inf"):
            raise ValueError(f'channel "{self.name}": resolution {self.resolution} must be above 0')
        if self.resolution is not None and self.type not in (None, "int"):
            raise ValueError(f'channel "{self.name}": resolution makes counts, leave type = "{self.type}" out')
        if self.path is not None:
            parse_path(self.path)
        if self.topic and (problem := filter_problem(self.topic)):
            raise ValueError(f'channel "{self.name}": topic "{self.topic}" {problem}')

    @property
    def kind(self) -> NumberType:
        """How raw is kept."""
        return self.type or ("float64" if self.resolution is None else "int")

    @property
    def step(self) -> Fraction | None:
        """The resolution as the decimal number that was written: 0.01 is 1/100. 1 for an int without one."""
        if self.resolution is not None:
            return Fraction(Decimal(repr(self.resolution)))
        return Fraction(1) if self.kind == "int" else None

    @property
    def steps(self) -> Path | None:
        """The path, parsed."""
        return None if self.path is None else parse_path(self.path)


class MqttConfig(DriverConfig, frozen=True):
    """Which messages, and what to take from them."""

    topic: str  # a filter: + stands for one level, # for all further ones
    channels: tuple[Field, ...]
    broker: str = ""  # of [mqtt.NAME]; may be left out when there is only one
    qos: Literal[0, 1] = 1
    retained: bool = False  # take the old value that the broker kept, of unknown age, as well

    def __post_init__(self) -> None:
        if problem := filter_problem(self.topic):
            raise ValueError(f'topic = "{self.topic}" {problem}')
        if not self.channels:
            raise ValueError("channels is empty: name at least one")
        for field in self.channels:
            if field.topic and not overlap(field.topic, self.topic):
                raise ValueError(f'channel "{field.name}": topic "{field.topic}" has nothing of "{self.topic}"')


class Mqtt(Driver):
    """Says which channels there are. `edge_agent.mqtt.inlet` takes the messages."""

    Config: ClassVar[type[DriverConfig]] = MqttConfig

    @classmethod
    def channels_of(cls, config: MqttConfig) -> Sequence[Channel]:
        """See `Driver`. value = raw * num / den for a channel that keeps counts."""
        channels = []
        for field in config.channels:
            step = field.step
            channels.append(
                Channel(
                    field.name,
                    field.unit,
                    field.device_class,
                    value_type=field.kind,
                    num=1 if step is None else step.numerator,
                    den=1 if step is None else step.denominator,
                    low=field.low,
                    high=field.high,
                    rate_max=field.rate_max,
                )
            )
        return channels

    def read(self) -> Sequence[Cell]:
        """Raises DeviceNotReady: nobody can be asked."""
        raise DeviceNotReady(f"messages of {self.config.topic} come to a running agent. Try: edge-agent run")
