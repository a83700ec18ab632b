"""`edge-agent status`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from edge_agent import exits
from edge_agent.asking import RequestRefused, ask_agent
from edge_agent.commands.read import age_text, state_text, value_text
from edge_agent.config.values import show_duration, show_size, show_span
from edge_agent.errors import AgentError

GREEN, YELLOW, RED, PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
COLOURS = {"ok": GREEN, "healthy": GREEN, "ended": GREEN, "waiting": YELLOW, "stale": YELLOW, "warning": YELLOW}


def show_status(file: Path, as_json: bool) -> int:
    """Exit 0 healthy, 1 unhealthy, 3 not running."""
    try:
        document = ask_agent(file, {"op": "status"})
    except AgentError as error:
        return exits.fail(error)
    except RequestRefused as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        return exits.FAILED
    if as_json:
        print(json.dumps(document, indent=2))
    else:
        print(as_text(document, in_colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return exits.OK if document["health"] == "healthy" else exits.FAILED


def as_text(document: dict[str, Any], in_colour: bool) -> str:
    """For people: who, then sensors, buffer, sync, and what is wrong."""
    agent = document["agent"]
    health = paint(document["health"], document["health"], in_colour)
    lines = [f"{agent['name']}  {health}  up {age_text(agent['uptime_s'])}  edge-agent {agent['version']}", ""]
    lines += channel_lines(document, in_colour)
    lines += ["", f"buffer  {buffer_text(document['buffer'])}", f"sync    {sync_text(document['sync'])}"]
    lines += [f"model   {model_text(model)}" for model in document["models"]]
    lines += [f"alarm   {paint(alarm_text(alarm), 'down', in_colour)}" for alarm in document["alarms"]]
    buffer = document["buffer"]
    lines.append(f"flash   a power cut now costs at most {show_duration(buffer['power_cut_window_s'])} of readings")
    if buffer["offline_autonomy_s"] is not None:
        lines.append(f"offline autonomy: {show_span(buffer['offline_autonomy_s'])} at the present rate")
    losses = ", ".join(f"{count} {reason}" for reason, count in document["losses"].items())
    if document["alarms_lost"]:
        losses += f"{', ' if losses else ''}{document['alarms_lost']} changes of alarms"
    lines.append(f"lost    {losses or 'nothing'}")
    clock = document["clock"]
    if not clock["synchronised"]:
        lines.append("clock   not set by the network yet; readings will be dated right when it is")
    lines += [f"!       {reason}" for reason in document["reasons"]]
    return "\n".join(lines)


def channel_lines(document: dict[str, Any], in_colour: bool) -> list[str]:
    """One line per channel, aligned."""
    rows = [
        (f"{sensor['id']}/{channel['name']}", value_text(channel), f"{channel['rate_per_s']:.3g}/s", channel)
        for sensor in document["sensors"]
        for channel in sensor["channels"]
    ]
    if not rows:
        return ["no sensors; see: edge-agent config init"]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{name:{widths[0]}}  {value:>{widths[1]}}  {rate:>{widths[2]}}  "
        f"{paint(state_text(channel), channel['state'], in_colour)}"
        for name, value, rate, channel in rows
    ]


def model_text(model: dict[str, Any]) -> str:
    """What a model is doing."""
    said = f"{model['id']} ({model['model']}) {model['state']}"
    if model["state"] == "calibrating":
        said += f" {model['calibrated_rows']:,} of {model['calibration_rows']:,} rows"
    return f"{said}: {model['reason']}" if model["reason"] else said


def alarm_text(alarm: dict[str, Any]) -> str:
    """Since when, how bad, and why."""
    return f"{alarm['severity']}, {age_text(alarm['age_s'])}: {alarm['cause']}"


def buffer_text(buffer: dict[str, Any]) -> str:
    """How much waits, and how much room there is."""
    full = "; the disk is full" if buffer["disk_full"] else ""
    room = f"{show_size(buffer['disk_bytes'])} of {show_size(buffer['disk_bytes_max'])}"
    if not buffer["cells"]:
        return f"empty ({room}){full}"
    age = f", oldest {age_text(buffer['oldest_age_s'])}" if buffer["oldest_age_s"] is not None else ""
    return f"{buffer['cells']:,} readings, {show_size(buffer['bytes'])}{age} ({room}){full}"


def sync_text(sync: dict[str, Any]) -> str:
    """The link, and when the cloud last said that something is safe."""
    if not sync["configured"]:
        return "not joined: readings are kept here"
    acked = f"last ack {age_text(sync['last_ack_age_s'])} ago" if sync["last_ack_age_s"] is not None else "no ack yet"
    holds = "; ".join(hold["text"] for hold in sync["holds"])
    if sync["connected"]:
        sent = f"{show_size(sync['bytes_sent'])} sent, {show_size(sync['socket_bytes'])} on the wire"
        return f"connected, {acked}, {sent}" + (f"; {holds}" if holds else "")
    if holds and not sync["last_error"]:
        return f"{holds}; {acked}. See: edge-agent sync explain"
    again = f", next try in {age_text(sync['reconnect_in_s'])}" if sync["reconnect_in_s"] is not None else ""
    return f"not connected, {acked}{again}: {sync['last_error'] or 'connecting'}"


def paint(text: str, state: str, in_colour: bool) -> str:
    """The text in its state's colour, red where the state has none."""
    return f"{COLOURS.get(state, RED)}{text}{PLAIN}" if in_colour else text
