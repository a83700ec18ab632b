"""What this gateway tells a broker: that it is there, its alarms at once, its readings, and how they are called.

Nothing here sends: every method returns what is to go. `alarm` may be called by any thread, the others by one.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from edge_agent.config.mqtt import PublishSection
from edge_agent.mqtt import discovery
from edge_agent.mqtt.message import Outgoing
from edge_agent.mqtt.topics import level
from edge_agent.mqtt.walltime import iso_time
from edge_agent.sources.channel import ChannelFlow, Latest
from edge_agent.sources.sensor import Sensor
from wire.alarm import Alarm
from wire.clock import NS_PER_S, Clock
from wire.reading import CellState

ALARMS_KEPT_MAX = 256  # while the broker is away; then the oldest goes and is counted
ONLINE, OFFLINE = b"online", b"offline"
WAIT_S_MAX = 3600.0


class Publisher:
    """One gateway's side of one broker. `wake` is called when an alarm should not wait."""

    def __init__(self, gateway: str, section: PublishSection, clock: Clock) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.alarms_dropped = 0
        self._gateway = gateway
        self._section = section
        self._sensors: list[Sensor] = []
        self._clock = clock
        self._base = section.base(gateway)
        self._config_topic = discovery.config_topic(section.discovery_prefix, gateway)
        self._birth_topic = f"{section.discovery_prefix}/status"
        self._lock = Lock()
        self._alarms: deque[Alarm] = deque()
        self._due_ns = 0
        self._sent: dict[str, tuple[Latest | None, ...]] = {}

    def show(self, sensors: Sequence[Sensor]) -> None:
        """Tell of these. Once, before the start."""
        self._sensors = list(sensors)

    @property
    def will(self) -> Outgoing:
        """What the broker tells when we go without a word."""
        return Outgoing(self._base, OFFLINE, retain=True)

    @property
    def farewell(self) -> Outgoing:
        """What we tell when we go."""
        return self.will

    @property
    def filters(self) -> list[str]:
        """What we must hear: requests for readings, Home Assistant's birth, and what we announced before."""
        found = [f"{self._base}/+/get"]
        return [*found, self._birth_topic, self._config_topic] if self._section.discovery else found

    def listens_to(self, topic: str) -> bool:
        """Whether `message` is for this topic."""
        asks = topic.startswith(f"{self._base}/") and topic.endswith("/get")
        return asks or (self._section.discovery and topic in (self._birth_topic, self._config_topic))

    def connected(self) -> list[Outgoing]:
        """The broker may be a new one, which knows nothing of us."""
        self._sent.clear()
        self._due_ns = 0
        if self._section.discovery:
            return [self._announcement(), Outgoing(self._base, ONLINE, retain=True)]
        return [Outgoing(self._config_topic, b"", retain=True), Outgoing(self._base, ONLINE, retain=True)]

    def message(self, topic: str, payload: bytes) -> list[Outgoing]:
        """The answer to what came."""
        if topic == self._config_topic:
            return self._retire(payload)
        if topic == self._birth_topic:
            if payload != ONLINE:
                return []
            self._sent.clear()
            return [self._announcement(), Outgoing(self._base, ONLINE, retain=True), *self._states()]
        asked = topic.removeprefix(f"{self._base}/").removesuffix("/get")
        return [self._state(sensor) for sensor in self._sensors if sensor.name == asked]

    def alarm(self, alarm: Alarm) -> None:
        """Tell an alarm at once; while the broker is away, the last ones are kept. For any thread."""
        if not self._section.alarms:
            return
        with self._lock:
            if len(self._alarms) >= ALARMS_KEPT_MAX:
                self._alarms.popleft()
                self.alarms_dropped += 1
            self._alarms.append(alarm)
        self.wake()

    def due(self, now_ns: int) -> list[Outgoing]:
        """Alarms that wait, and readings when it is time. Call only while the broker is there."""
        with self._lock:
            alarms = list(self._alarms)
            self._alarms.clear()
        found = [self._alarm(alarm) for alarm in alarms]
        if self._section.readings is not None and now_ns >= self._due_ns:
            period_ns = round(self._section.readings * NS_PER_S)
            self._due_ns = now_ns - now_ns % period_ns + period_ns
            found += self._states()
        return found

    def wait_s(self, now_ns: int) -> float:
        """Seconds until `due` has something by itself."""
        if self._section.readings is None:
            return WAIT_S_MAX
        return max(0.0, (self._due_ns - now_ns) / NS_PER_S)

    def _states(self) -> list[Outgoing]:
        """Of every sensor that has something new."""
        found = []
        for sensor in self._sensors:
            latest = tuple(flow.latest for flow in sensor.flows)
            if any(latest) and latest != self._sent.get(sensor.name):
                self._sent[sensor.name] = latest
                found.append(self._state(sensor))
        return found

    def _state(self, sensor: Sensor) -> Outgoing:
        values = {flow.plan.channel.name: value_of(flow) for flow in sensor.flows}
        newest_us = max((flow.latest.value_us for flow in sensor.flows if flow.latest), default=-1)
        time = iso_time(self._clock, newest_us) if newest_us >= 0 else None
        return Outgoing(f"{self._base}/{sensor.name}", dump({"time": time, "values": values}), qos=0)

    def _alarm(self, alarm: Alarm) -> Outgoing:
        sensor, _, channel = alarm.series.partition("/")
        topic = f"{self._base}/$alarm/{level(sensor)}/{level(channel)}"
        document = {
            "id": f"{alarm.id:016x}",
            "phase": alarm.phase.name.lower(),
            "series": alarm.series,
            "rule": alarm.rule,
            "cause": alarm.cause,
            "onset": iso_time(self._clock, alarm.onset_us),
            "time": iso_time(self._clock, alarm.stamp_us),
            "score": finite(alarm.score),
            "threshold": finite(alarm.threshold),
            "value": finite(alarm.value),
            "expected": finite(alarm.expected),
            "low": finite(alarm.low),
            "high": finite(alarm.high),
            "unit": alarm.unit,
        }
        return Outgoing(topic, dump(document))

    def _announcement(self, retired: Sequence[tuple[str, str]] = ()) -> Outgoing:
        document = discovery.document(self._gateway, self._base, self._sensors, retired)
        return Outgoing(self._config_topic, dump(document), retain=True)

    def _retire(self, payload: bytes) -> list[Outgoing]:
        """What the broker kept of our announcement names entities that are gone: take them back, one by one."""
        known = discovery.component_ids(self._sensors)
        gone = [each for each in discovery.components_of(payload) if each[0] not in known]
        return [self._announcement(gone), self._announcement()] if gone else []


def value_of(flow: ChannelFlow) -> int | float | None:
    """The newest value; None while the channel is a gap, or its value is no number that JSON has."""
    latest = flow.latest
    if latest is None or latest.state != CellState.VALUE:
        return None
    definition = flow.definition
    return finite((latest.raw * definition.num + definition.off) / definition.den)


def finite(value: float | None) -> float | None:
    """JSON has no NaN."""
    return value if value is not None and math.isfinite(value) else None


def dump(document: dict[str, Any]) -> bytes:
    """Compact JSON."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
