"""`edge-agent read`: the latest values, from the running agent or straight from the bus."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import exits
from edge_agent.asking import RequestRefused, ask
from edge_agent.config.values import nearest
from edge_agent.errors import AgentError, NotRunning

if TYPE_CHECKING:
    from edge_agent.config.model import Config
    from edge_agent.sources.line import BusLine
    from wire.clock import Clock

WATCH_S = 0.02


def read_sensors(file: Path, sensor: str | None, once: bool, as_json: bool) -> int:
    """Print one line per channel. Exit 1 when a channel that was asked for has no value, 3 when no agent runs."""
    from edge_agent.config.load import load

    try:
        config = load(file)
        known = [plan.id for plan in config.sensors]
        if sensor is not None and sensor not in known:
            print(f'edge-agent: sensor "{sensor}" unknown{nearest(sensor, known)}', file=sys.stderr)
            return exits.USAGE
        try:
            sensors = ask(config.runtime_dir, {"op": "read", "sensor": sensor})
        except NotRunning:
            if not once:
                raise
            sensors = read_once(config, sensor)
    except AgentError as error:
        return exits.fail(error)
    except RequestRefused as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        return exits.FAILED
    if as_json:
        print(json.dumps({"schema_version": 1, "sensors": sensors}, indent=2))
    else:
        show(sensors)
    return exits.OK if all(each["state"] in ("ok", "stale") for each in channels_of(sensors)) else exits.FAILED


def channels_of(sensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every channel of the answer."""
    return [channel for sensor in sensors for channel in sensor["channels"]]


def read_once(config: Config, only: str | None) -> list[dict[str, Any]]:
    """Open the buses here, run one cycle of each sensor that is wanted, close again."""
    from edge_agent.sources.sources import make_lines
    from edge_agent.status import sensor_document
    from wire.clock import NS_PER_US, SystemClock

    logging.getLogger("edge_agent").setLevel(logging.CRITICAL)  # the answer says it
    clock = SystemClock()
    plans = [plan for plan in config.sensors if only in (None, plan.id)]
    documents = []
    for line in make_lines(plans, config.buses, clock):
        run_once(line, clock)
        documents += [sensor_document(each, clock.boottime_ns() // NS_PER_US, {}) for each in line.sensors]
    order = [plan.id for plan in plans]
    return sorted(documents, key=lambda document: order.index(document["id"]))


def run_once(line: BusLine, clock: Clock) -> None:
    """One cycle of a line; a driver that does not return is left behind at its deadline."""
    import threading

    from edge_agent.sources.line import Abandoned
    from wire.clock import NS_PER_S

    def cycle() -> None:
        clock.sleep(max(0.0, (line.next_due_ns() - clock.boottime_ns()) / NS_PER_S))
        line.run_due()
        line.close()

    def rest() -> None:
        """What the thread before this one did not come to, for a part that hung: nobody is read twice."""
        if line.cycle is not None:
            line.run_due()
        line.close()

    def start(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            with suppress(Abandoned):
                work()

        thread = threading.Thread(target=run, name=f"bus {line.name}", daemon=True)
        thread.start()
        return thread

    thread = start(cycle)
    while thread.is_alive():
        thread.join(WATCH_S)
        if line.watch.expire(clock.boottime_ns()):
            if not line.is_shared:
                line.take_over()
                return
            line.set_aside()
            thread = start(rest)


def show(sensors: list[dict[str, Any]]) -> None:
    """`climate/temperature  21.53 Cel  ok`, aligned."""
    rows = [
        (f"{sensor['id']}/{channel['name']}", value_text(channel), state_text(channel))
        for sensor in sensors
        for channel in sensor["channels"]
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    for name, value, state in rows:
        print(f"{name:{widths[0]}}  {value:>{widths[1]}}  {state}")
    for sensor in sensors:
        if sensor["error"]:
            print(f"{sensor['id']}: {sensor['error']}", file=sys.stderr)


def value_text(channel: dict[str, Any]) -> str:
    """The value at the channel's resolution with its unit; a dash for none."""
    if channel["value"] is None:
        return "-"
    if channel["resolution"] is None:
        return f"{channel['value']:.6g} {channel['unit']}"
    digits = 0
    while digits < 9 and channel["resolution"] * 10**digits < 0.999999:
        digits += 1
    return f"{channel['value']:.{digits}f} {channel['unit']}"


def state_text(channel: dict[str, Any]) -> str:
    """The state, the gap's reason, the doubts and the age."""
    parts = [channel["state"] if channel["gap"] is None else f"{channel['state']} ({channel['gap']})"]
    parts += channel["quality"]
    if channel["age_s"] is not None and channel["age_s"] >= 1:
        parts.append(f"{age_text(channel['age_s'])} ago")
    return ", ".join(parts)


def age_text(seconds: float) -> str:
    """Whole seconds, minutes, hours or days."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
