"""The status document: what `edge-agent status --json` prints. Its fields are described in docs/operating/agent.md."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from edge_agent.autonomy import Autonomy
from edge_agent.config.model import Config
from edge_agent.detection import Detection
from edge_agent.health import ALIVE_S_MAX
from edge_agent.outbox.stats import OutboxStats
from edge_agent.sources.channel import ChannelFlow
from edge_agent.sources.line import BusLine
from edge_agent.sources.sensor import Sensor
from edge_agent.sources.sources import Sources
from edge_agent.sync.policy import SyncPolicy, limits_document
from edge_agent.version import VERSION
from edge_agent.writer import Writer
from wire.clock import NS_PER_S, NS_PER_US, US_PER_S, Clock
from wire.reading import CellState, Quality
from wire.series import ValueType
from wire.sync.status import SyncStatus

if TYPE_CHECKING:
    from edge_agent.mqtt.brokers import Brokers
    from edge_agent.mqtt.link import Link

SCHEMA_VERSION = 1
SYNC_FIELDS = (
    "connected",
    "last_ack_age_s",
    "in_flight_bytes",
    "messages_sent",
    "bytes_sent",
    "rate_bytes_per_s",
    "reconnect_in_s",
    "last_error",
    "generation",
    "credit_bytes",
    "socket_bytes",
    "interface",
    "holds",
    "plans",
)
RATE_SAMPLES = 4  # rates are over the last three looks


def quality_words(quality: int) -> list[str]:
    """`["range", "clock_unsure"]`."""
    return [flag.name.lower() for flag in Quality if quality & flag and flag.name]


def channel_document(flow: ChannelFlow, now_us: int, rate: float, score: float | None = None) -> dict[str, Any]:
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
        "score": score,
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


def sensor_document(
    sensor: Sensor, now_us: int, rates: Mapping[str, float], scores: Mapping[str, float | None] | None = None
) -> dict[str, Any]:
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
        "channels": [
            channel_document(flow, now_us, rates.get(name, 0.0), (scores or {}).get(name))
            for flow in sensor.flows
            for name in (flow.definition.name,)
        ],
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


def broker_document(link: Link) -> dict[str, Any]:
    """One broker. `state`: ok or down; `redelivered` of its `messages` may stand in the journal twice."""
    publisher = link.publisher
    return {
        "name": link.name,
        "state": "ok" if link.is_connected else "down",
        "error": link.error,
        "messages": link.messages,
        "redelivered": link.redelivered,
        "skipped": link.skipped,
        "losses": link.losses,
        "alarms_dropped": 0 if publisher is None else publisher.alarms_dropped,
    }


class RateMeter:
    """Cells taken per second by channel, over the last few looks."""

    def __init__(self, sensors: Sequence[Sensor], clock: Clock) -> None:
        self._flows = [flow for sensor in sensors for flow in sensor.flows]
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


def sensor_reasons(
    sensors: list[dict[str, Any]], lines: list[dict[str, Any]], brokers: list[dict[str, Any]]
) -> list[str]:
    """Why the collecting side is not well, in words."""
    reasons = [f"bus {line['name']}: {line['state']}" for line in lines if line["state"] != "ok"]
    reasons += [f"broker {broker['name']}: {broker['error']}" for broker in brokers if broker["state"] != "ok"]
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


def buffer_document(stats: OutboxStats, autonomy_s: float | None = None) -> dict[str, Any]:
    """What waits here, and how safe it is. Cells are values and gaps."""
    return {
        "epoch": f"{stats.epoch:016x}",
        "next_seq": stats.next_seq,
        "atoms": stats.atoms,
        "cells": stats.cells,
        "bytes": stats.bytes,
        "oldest_age_s": rounded(stats.oldest_age_s),
        "history_atoms": stats.history_atoms,
        "history_bytes": stats.history_bytes,
        "rollup_bytes": stats.rollup_bytes,
        "disk_bytes": stats.disk_bytes,
        "used_bytes": stats.used_bytes,
        "disk_bytes_max": stats.disk_bytes_max,
        "disk_full": stats.disk_full,
        "journal_ticks": stats.journal_ticks,
        "journal_fill": round(stats.journal_fill, 4),
        "commits": stats.commits,
        "commits_failed": stats.commits_failed,
        "last_commit_age_s": rounded(stats.last_commit_age_s),
        "power_cut_window_s": stats.power_cut_window_s,
        "offline_autonomy_s": None if autonomy_s is None else round(autonomy_s),
    }


def sync_document(sync: HasSync | None, now_s: float) -> dict[str, Any]:
    """How the cloud is reached; `configured` is false without a [cloud] table, and all else null."""
    if sync is None:
        return {"configured": False} | dict.fromkeys(SYNC_FIELDS)
    status = sync.status
    return {
        "configured": True,
        "connected": status.connected,
        "last_ack_age_s": None if status.last_ack_at is None else round(now_s - status.last_ack_at, 3),
        "in_flight_bytes": status.in_flight_bytes,
        "messages_sent": status.messages_sent,
        "bytes_sent": status.bytes_sent,
        "rate_bytes_per_s": round(status.rate_bytes_per_s, 1),
        "reconnect_in_s": None if status.reconnect_at is None else round(max(0.0, status.reconnect_at - now_s), 3),
        "last_error": status.last_error,
        "generation": f"{status.generation:016x}",
        "credit_bytes": status.credit_bytes,
        "socket_bytes": sync.socket_bytes,
        "interface": sync.policy.interface,
        "holds": [asdict(hold) for hold in sync.policy.holds()],
        "plans": limits_document(sync.policy.limits()),
    }


def loss_document(stats: OutboxStats) -> dict[str, int]:
    """Cells lost since the outbox was made, by reason; those of power cuts are estimates."""
    return {reason.name.lower(): count for reason, count in sorted(stats.losses.items()) if count}


def rounded(seconds: float | None) -> float | None:
    """To the millisecond."""
    return None if seconds is None else round(seconds, 3)


class HasStats(Protocol):
    """What is asked of the recorder."""

    def stats(self) -> OutboxStats: ...


class HasSync(Protocol):
    """What is asked of the syncer."""

    @property
    def status(self) -> SyncStatus: ...
    @property
    def socket_bytes(self) -> int: ...
    @property
    def policy(self) -> SyncPolicy: ...


class StatusView:
    """Puts the document together from the running parts. Called on the main thread."""

    def __init__(
        self,
        config: Config,
        sources: Sources,
        writer: Writer,
        *,
        recorder: HasStats,
        sync: HasSync | None,
        clock: Clock,
        brokers: Brokers | None = None,
        detection: Detection | None = None,
    ) -> None:
        self._config = config
        self._sources = sources
        self._writer = writer
        self._recorder = recorder
        self._sync = sync
        self._clock = clock
        self._started_ns = clock.boottime_ns()
        self._detection = detection
        self._links = [] if brokers is None else brokers.links
        self._everyone = [sensor for line in sources.lines for sensor in line.sensors]
        self._everyone += [] if brokers is None else brokers.sensors
        order = {plan.id: at for at, plan in enumerate(config.sensors)}
        self._everyone.sort(key=lambda each: order[each.name])
        self._meter = RateMeter(self._everyone, clock)
        self._autonomy = Autonomy(config.state_dir, clock)

    def look(self) -> None:
        """Call now and then: rates are measured between looks."""
        self._meter.look()
        self._autonomy.look(self._recorder.stats())

    def sensors(self) -> list[dict[str, Any]]:
        """Every sensor with its channels' latest."""
        now_us = self._clock.boottime_ns() // NS_PER_US
        rates = self._meter.rates()
        scores = {} if self._detection is None else self._detection.scores()
        return [sensor_document(sensor, now_us, rates, scores) for sensor in self._everyone]

    def status(self) -> dict[str, Any]:
        """The whole document."""
        now_ns = self._clock.boottime_ns()
        quarantined = self._sources.quarantined()
        lines = [line_document(line, line.name in quarantined) for line in self._sources.lines]
        brokers = [broker_document(link) for link in self._links]
        sensors = self.sensors()
        stats = self._recorder.stats()
        sync = sync_document(self._sync, now_ns / NS_PER_S)
        clock = self._clock.sync_state()
        models = [] if self._detection is None else self._detection.models()
        reasons = self._own_reasons(now_ns, stats) + sensor_reasons(sensors, lines, brokers)
        reasons += [f"model {model['id']}: {model['reason']}" for model in models if model["reason"]]
        uptime_s = (now_ns - self._started_ns) / NS_PER_S
        return {
            "schema_version": SCHEMA_VERSION,
            "health": "unhealthy" if reasons else "healthy",
            "reasons": reasons,
            "agent": agent_document(self._config, VERSION, os.getpid(), uptime_s),
            "clock": {"synchronised": clock.synchronised, "uncertainty_us": clock.uncertainty_us},
            "lines": lines,
            "brokers": brokers,
            "models": models,
            "alarms": [] if self._detection is None else self._detection.alarms(now_ns // NS_PER_US),
            "sensors": sensors,
            "buffer": buffer_document(stats, self._autonomy.seconds(stats)),
            "sync": sync,
            "losses": loss_document(stats),
            "alarms_lost": stats.alarms_lost,
        }

    def line(self) -> str:
        """One line for systemd."""
        stats = self._recorder.stats()
        link = "" if self._sync is None else "connected, " if self._sync.status.connected else "not connected, "
        lost = sum(bool(sensor.error) and not sensor.ended for sensor in self._everyone)
        trouble = f", {lost} sensors lost" if lost else ""
        return f"{link}{len(self._config.sensors)} sensors, {stats.cells} readings buffered{trouble}"

    def _own_reasons(self, now_ns: int, stats: OutboxStats) -> list[str]:
        reasons = []
        if not self._sources.is_alive(now_ns, ALIVE_S_MAX):
            reasons.append("a bus thread does not answer")
        if not self._writer.is_alive(now_ns, ALIVE_S_MAX):
            reasons.append("the writer does not answer")
        if self._writer.error:
            reasons.append(f"commits fail: {self._writer.error}")
        sync = self._sync
        status = None if sync is None else sync.status
        held = sync is not None and any(hold.bulk for hold in sync.policy.holds())  # not reached by the owner's wish
        if status is not None and not status.connected and (status.last_error or not held):
            reasons.append(f"the cloud is not reached: {status.last_error or 'connecting'}")
        return reasons
