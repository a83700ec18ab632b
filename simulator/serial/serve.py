"""`edge-sim serial`: parts on pseudo-terminals until a signal."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from simulator.serial.gps import SimulatedGps
from simulator.serial.pms5003 import SimulatedPms5003
from simulator.serial.port import SerialPart, SerialPort
from simulator.serial.pump import SimulatedPump
from wire.clock import Clock, SystemClock

PARTS: dict[str, Callable[[Clock], SerialPart]] = {
    "gps": SimulatedGps,
    "pms5003": SimulatedPms5003,
    "pump": SimulatedPump,
}
Span = tuple[float, float]


def parse_port(text: str) -> tuple[Path, str, Path | None]:
    """`/tmp/gps=gps:log.nmea.gz`: link, part, log. Raises ValueError."""
    link, equals, rest = text.partition("=")
    part, _, log = rest.partition(":")
    if not (link and equals) or part not in PARTS or (log and part != "gps"):
        raise ValueError(f"{text!r}: write LINK=PART with a part of {', '.join(PARTS)}, or LINK=gps:FILE")
    return Path(link), part, Path(log) if log else None


def parse_span(text: str | None) -> Span | None:
    """`10-20`, in seconds. Raises ValueError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*)-(\d+\.?\d*)", text)
    if match is None or float(match[2]) <= float(match[1]):
        raise ValueError(f"{text!r}: write START-END in seconds, as in 10-20")
    return float(match[1]), float(match[2])


def serve(ports: Sequence[tuple[Path, str, Path | None]], unplug: Span | None, tell: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM. Raises OSError for a link that cannot be made or a log that cannot be read."""
    clock = SystemClock()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    served: list[SerialPort] = []
    try:
        for link, part, log in ports:
            served.append(SerialPort(link, SimulatedGps(clock, log) if log else PARTS[part](clock), clock))
            tell(f"{link}: {part}")
        if unplug is not None:
            pull(served, unplug, ended, tell)
        ended.wait()
    finally:
        for port in served:
            port.close()


def pull(ports: Sequence[SerialPort], unplug: Span, ended: threading.Event, tell: Callable[[str], None]) -> None:
    """Unplug all, and plug them in again, each at its time."""
    if ended.wait(unplug[0]):
        return
    for port in ports:
        port.unplug()
    tell("unplugged")
    if not ended.wait(unplug[1] - unplug[0]):
        for port in ports:
            port.plug()
        tell("plugged in again")
