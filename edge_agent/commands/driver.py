"""`edge-agent driver list`."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from edge_agent import exits
from edge_agent.config.check import written
from edge_agent.config.drivers import DriverLoadFailed, Drivers


def list_drivers(as_json: bool) -> int:
    """One line per driver; those that cannot be loaded are told on stderr and make the exit code 1."""
    drivers = Drivers()
    found: list[dict[str, Any]] = []
    code = exits.OK
    for name in drivers.names():
        try:
            driver = drivers.load(name)
        except DriverLoadFailed as error:
            print(f"edge-agent: {error}", file=sys.stderr)
            code = exits.FAILED
            continue
        summary = (sys.modules[driver.__module__].__doc__ or "").strip().splitlines()
        options = [_option(info) for info in msgspec.structs.fields(driver.Config) if info.encode_name != "bus"]
        found.append(
            {
                "name": name,
                "bus": driver.bus_kind,
                "summary": summary[0] if summary else "",
                "options": options,
                "from": drivers.origin(name),
            }
        )
    if as_json:
        print(json.dumps({"schema_version": 1, "drivers": found}, indent=2))
        return code
    width = max((len(each["name"]) for each in found), default=0)
    for each in found:
        print(f"{each['name']:{width}}  {each['summary']}")
        print(f"{'':{width}}  bus: {each['bus']}; options: {', '.join(each['options']) or 'none'}")
    return code


def _option(info: msgspec.structs.FieldInfo) -> str:
    if info.required:
        return info.encode_name
    return f"{info.encode_name} = {_shown(info)}"


def _shown(info: msgspec.structs.FieldInfo) -> str:
    """The default as it would stand in the configuration; tables, which take more than a line, as `[...]`."""
    value = info.default
    if isinstance(value, tuple) and value:
        return "[...]"
    if info.encode_name == "address" and isinstance(value, int):
        return hex(value)
    return json.dumps(written(info.type, value))
