"""The status document: what `edge-agent status --json` prints. Its fields are described in docs/operating/agent.md."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from edge_agent.config.model import Config
from edge_agent.sources.channel import ChannelFlow
from edge_agent.sources.line import BusLine
from edge_agent.sources.sensor import Sensor
from wire.clock import NS_PER_S, NS_PER_US, Clock
from wire.reading import CellState, Quality
from wire.series import ValueType

SCHEMA_VERSION = 1
US_PER_S = 1_000_000
RATE_SAMPLES = 4  # rates are over the last three looks


def quality_words(quality: int) -> list[str]:
    """`["range", "clock_unsure"]`."""
    return [flag.name.lower() for flag in Quality if quality & flag and flag.name]


def channel_document(flow: ChannelFlow, now_us: int, rate: float) -> dict[str, Any]:
    """One channel. `state`: waiting, ok, stale, or gap with its reason in `gap`."""
    plan, definition, latest = flow.plan, flow.definition, flow.latest
    document: dict[str, Any] = {
        "name": plan.channel.name,
        "unit": definition.unit,
        "state": "waiting",
        "value": None,
        "age_s": None,
        "quality": [],
        "gap": None,
        "values": flow.values,
        "gaps": flow.gaps,
        "rate_per_s": round(rate, 3),
        "resolution": abs(definition.num) / definition.den if definition.value_type is ValueType.INT else None,
    }
    if latest is None:
        return document
    if latest.value_us >= 0:
        age_us = now_us - latest.value_us
        document["value"] = (latest.raw * definition.num + definition.off) / definition.den
        document["age_s"] = round(age_us / US_PER_S, 3)
        document["quality"] = quality_words(latest.quality)
        document["state"] = "stale" if age_us > plan.stale * US_PER_S else "ok"
    if latest.state != CellState.VALUE:
        ended = latest.state == CellState.ABSENT
        document["state"] = "ended" if ended else "gap"
        document["gap"] = "end_of_data" if ended else CellState(latest.state).name.lower()
    return document


def sensor_document(sensor: Sensor, now_us: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """One sensor. `state`: ok, lost or ended; `error` says why."""
    state = "ended" if sensor.ended else "lost" if sensor.error else "ok"
    return {
        "id": sensor.name,
        "driver": sensor.plan.driver_name,
        "bus": sensor.plan.bus,
        "interval_s": sensor.plan.interval,
        "priority": sensor.plan.priority.name.lower(),
        "state": state,
        "error": sensor.error,
        "channels": [channel_document(flow, now_us, rates.get(flow.definition.name, 0.0)) for flow in sensor.flows],
    }


def line_document(line: BusLine, in_quarantine: bool) -> dict[str, Any]:
    """One bus line. `state`: ok, down or quarantine."""
    return {
        "name": line.name,
        "state": "quarantine" if in_quarantine else "down" if line.error else "ok",
        "error": line.error,
        "cycles": sum(group.cycles for group in line.groups),
        "missed": sum(group.missed for group in line.groups),
    }


class RateMeter:
    """Cells taken per second by channel, over the last few looks."""

    def __init__(self, lines: list[BusLine], clock: Clock) -> None:
        self._flows = [flow for line in lines for sensor in line.sensors for flow in sensor.flows]
        self._clock = clock
        self._looks: deque[tuple[int, list[int]]] = deque(maxlen=RATE_SAMPLES)
        self.look()

    def look(self) -> None:
        """Note the counts now."""
        self._looks.append((self._clock.boottime_ns(), [flow.values for flow in self._flows]))

    def rates(self) -> dict[str, float]:
        """By `sensor/channel`."""
        then_ns, then = self._looks[0]
        elapsed_s = max(self._clock.boottime_ns() - then_ns, NS_PER_US) / NS_PER_S
        return {flow.definition.name: (flow.values - count) / elapsed_s for flow, count in zip(self._flows, then)}


def sensor_reasons(sensors: list[dict[str, Any]], lines: list[dict[str, Any]]) -> list[str]:
    """Why the collecting side is not well, in words."""
    reasons = [f"bus {line['name']}: {line['state']}" for line in lines if line["state"] != "ok"]
    for sensor in sensors:
        if sensor["state"] == "lost":
            reasons.append(f"sensor {sensor['id']}: {sensor['error']}")
        reasons += [
            f"channel {sensor['id']}/{channel['name']}: {channel['gap'] or 'stale'}"
            for channel in sensor["channels"]
            if sensor["state"] == "ok" and channel["state"] in ("gap", "stale")
        ]
    return reasons


def agent_document(config: Config, version: str, pid: int, uptime_s: float) -> dict[str, Any]:
    """Who it is."""
    return {
        "name": config.agent.name,
        "version": version,
        "config_version": config.version,
        "labels": config.agent.labels,
        "pid": pid,
        "uptime_s": round(uptime_s, 1),
    }
