"""`edge-agent config check | init | show`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import exits
from edge_agent.config.check import written
from edge_agent.config.example import EXAMPLE
from edge_agent.config.load import load
from edge_agent.config.model import Config
from edge_agent.config.values import show_duration
from edge_agent.errors import ConfigInvalid

if TYPE_CHECKING:
    import msgspec


def check(file: Path) -> int:
    """Every mistake on stderr, or what was found on stdout."""
    try:
        config = load(file)
    except ConfigInvalid as error:
        exits.fail(error)
        count = len(error.problems)
        print(f"{file}: {count} problem{'s' if count > 1 else ''}", file=sys.stderr)
        return exits.code_of(error)
    channels = sum(len(sensor.channels) for sensor in config.sensors)
    print(f"{file}: good; sensors: {len(config.sensors)}, channels: {channels}, version {config.version}")
    for note in notes(config):
        print(f"note: {note}", file=sys.stderr)
    return exits.OK


def notes(config: Config) -> list[str]:
    """What is no mistake in the file, but keeps readings from being taken or sent here."""
    found = [] if config.sensors else ["no [[sensor]]: nothing is read. See: edge-agent config init"]
    if config.cloud is None:
        return [*found, "not joined: readings are collected and kept, none is sent. Try: edge-agent join TOKEN"]
    files = {"ca": config.cloud.ca, "cert": config.cloud.cert, "key": config.cloud.key}
    return found + [
        f"[cloud] {name} = {json.dumps(path)}: no such file on this machine; `edge-agent join` makes them"
        for name, path in files.items()
        if not Path(path).exists()
    ]


def init(target: Path | None) -> int:
    """The commented example."""
    if target is None:
        print(EXAMPLE, end="")
        return exits.OK
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE)
    except OSError as error:
        print(f"edge-agent: {target}: {error.strerror}; it was not written. Try: another TARGET", file=sys.stderr)
        return exits.FAILED
    print(f"{target}: written. Next: edge-agent config check -c {target}", file=sys.stderr)
    return exits.OK


def show(file: Path, as_json: bool) -> int:
    """The whole configuration; paths of keys, never their content."""
    try:
        config = load(file)
    except ConfigInvalid as error:
        return exits.fail(error)
    document = as_document(config)
    if as_json:
        print(json.dumps(document, indent=2))
        return exits.OK
    sections = {"agent": config.agent, "cloud": config.cloud, "buffer": config.buffer}
    for name, section in (sections | {f"bus.{name}": bus for name, bus in config.buses.items()}).items():
        if section is not None:
            print(f"[{name}]\n{_as_written(section)}\n")
    for sensor in document["sensors"]:
        channels = ", ".join(f"{channel['name']} [{channel['unit']}]" for channel in sensor["channels"])
        bus = f" on {sensor['bus']}" if sensor["bus"] else ""
        print(f"{sensor['id']}: {sensor['driver']}{bus} every {show_duration(sensor['interval_s'])}: {channels}")
    return exits.OK


def _as_written(section: msgspec.Struct) -> str:
    """Its keys as lines of TOML; what has no value is left out."""
    import msgspec

    kinds = {field.encode_name: field.type for field in msgspec.structs.fields(section)}
    return "\n".join(
        f"{key} = {json.dumps(written(kinds.get(key, str), value))}"
        for key, value in msgspec.to_builtins(section).items()
        if value is not None
    )


def as_document(config: Config) -> dict[str, Any]:
    """Plain values, times in seconds, sizes in bytes."""
    import msgspec

    return {
        "schema_version": 1,
        "file": str(config.file),
        "version": config.version,
        "agent": msgspec.to_builtins(config.agent),
        "cloud": None if config.cloud is None else msgspec.to_builtins(config.cloud),
        "buffer": msgspec.to_builtins(config.buffer),
        "buses": {name: msgspec.to_builtins(bus) for name, bus in config.buses.items()},
        "sensors": [
            {
                "id": sensor.id,
                "driver": sensor.driver_name,
                "bus": sensor.bus,
                "interval_s": sensor.interval,
                "priority": sensor.priority.name.lower(),
                "timeout_s": sensor.timeout,
                "options": msgspec.to_builtins(sensor.config),
                "channels": [
                    {
                        "name": plan.channel.name,
                        "unit": plan.channel.unit,
                        "low": plan.low,
                        "high": plan.high,
                        "rate_max": plan.rate_max,
                        "stale_s": plan.stale,
                        "stuck": plan.stuck,
                        "filters": [msgspec.to_builtins(each) for each in plan.filters],
                        "calibration": None if plan.calibration is None else msgspec.to_builtins(plan.calibration),
                    }
                    for plan in sensor.channels
                ],
            }
            for sensor in config.sensors
        ],
    }
