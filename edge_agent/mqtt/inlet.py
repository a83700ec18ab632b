"""One MQTT sensor: each message of its topic is one tick, stamped when it arrives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_agent.config.model import SensorPlan
from edge_agent.mqtt.driver import Field, MqttConfig
from edge_agent.mqtt.payload import MISSING, decode, number, pick, plain
from edge_agent.mqtt.topics import matches
from edge_agent.sources.channel import Cell as Judged
from edge_agent.sources.sensor import Sensor
from hardware.driver import Raw
from hardware.errors import DeviceDataBad, DeviceError, DeviceNotReady
from wire.clock import NS_PER_US
from wire.reading import CellState, Priority, Tick
from wire.series import SeriesSet, StampUnit

NOT_TAKEN: Judged = (0, CellState.ABSENT, 0)
Answer = Raw | DeviceError | None  # None: the message says nothing of this channel


class Inlet:
    """Turns messages into ticks. No thread, no broker: whoever calls is the broker's thread."""

    def __init__(self, plan: SensorPlan) -> None:
        config = plan.config
        assert isinstance(config, MqttConfig)
        self.config = config
        self.sensor = Sensor(plan)
        self.priority: Priority = plan.priority
        self.set = SeriesSet(tuple(flow.definition for flow in self.sensor.flows), StampUnit.US)
        self._fields = [(field, field.steps) for field in config.channels]

    def matches(self, topic: str) -> bool:
        """Whether this sensor takes messages of the topic."""
        return matches(self.config.topic, topic)

    def tick(self, topic: str, payload: bytes, now_ns: int) -> Tick | None:
        """The message as a tick; gaps with their reason for what cannot be read; None when nothing is to be taken."""
        asked = [not field.topic or matches(field.topic, topic) for field, _ in self._fields]
        if not any(asked):
            return None
        try:
            answer = self._answer(topic, payload, asked)
        except DeviceDataBad as error:
            reason = self.sensor.mark_failed(error, now_ns)
            return self._tick([reason if each else None for each in asked], now_ns)
        flows = self.sensor.flows
        cells = [None if cell is None else self.sensor.cell_of(flow, cell) for flow, cell in zip(flows, answer)]
        self.sensor.mark_well(now_ns)
        return self._tick(cells, now_ns)

    def gap(self, reason: CellState, now_ns: int) -> Tick | None:
        """Every channel is a gap; None when filters hold them all back."""
        return self._tick([reason] * len(self._fields), now_ns)

    def _answer(self, topic: str, payload: bytes, asked: Sequence[bool]) -> list[Answer]:
        """Raises DeviceDataBad when the payload is nothing for this sensor."""
        document: Any = MISSING
        answer: list[Answer] = []
        for (field, steps), wanted in zip(self._fields, asked):
            if not wanted:
                answer.append(None)
                continue
            if steps is None:
                found: Any = plain(payload)
            else:
                if document is MISSING:
                    document = decode(payload)
                found = pick(document, steps)
            answer.append(_cell(field, found, topic))
        if all(each is None for each in answer):
            names = ", ".join(f'"{field.path}"' for (field, _), wanted in zip(self._fields, asked) if wanted)
            raise DeviceDataBad(f"{topic}: the message has nothing at {names}")
        return answer

    def _tick(self, cells: Sequence[Raw | CellState | None], now_ns: int) -> Tick | None:
        stamp_us = now_ns // NS_PER_US
        judged = [
            NOT_TAKEN if cell is None else flow.step(cell, stamp_us) for flow, cell in zip(self.sensor.flows, cells)
        ]
        states = bytes(state for _, state, _ in judged)
        if states.count(CellState.ABSENT) == len(states):
            return None
        quality = bytes(doubts for _, _, doubts in judged)
        raws = tuple(raw for raw, _, _ in judged)
        return Tick(self.set.id, stamp_us, raws, states if any(states) else None, quality if any(quality) else None)


def _cell(field: Field, found: Any, topic: str) -> Answer:
    if found is MISSING:
        return None
    if found is None:
        return DeviceNotReady(f"{topic}: {field.path} is null")
    try:
        return number(found, field.kind, field.step)
    except DeviceDataBad as error:
        where = f"{topic}: {field.path}" if field.path is not None else topic
        return DeviceDataBad(f"{where}: {error}")
