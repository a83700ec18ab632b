"""`edge-sim serial`: parts on pseudo-terminals until a signal."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulator.serial.framing import Framing
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


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A part on a link; `log` is replayed by it, `framing` is the only one that it understands."""

    link: Path
    part: str
    log: Path | None = None
    framing: Framing | None = None

    def make(self, clock: Clock) -> SerialPort:
        """Serve it from now on. Raises OSError for a link that cannot be made or a log that cannot be read."""
        part = SimulatedGps(clock, self.log) if self.log else PARTS[self.part](clock)
        return SerialPort(self.link, part, clock, self.framing)


def parse_port(text: str) -> PortSpec:
    """`/tmp/gps=gps:log.nmea.gz` or `/tmp/rs485=pump@8E1`. Raises ValueError."""
    link, equals, rest = text.partition("=")
    named, colon, log = rest.partition(":")
    part, at, framing = named.partition("@")
    if not (link and equals) or part not in PARTS or (colon and (not log or part != "gps")):
        raise ValueError(f"{text!r}: write LINK=PART with a part of {', '.join(PARTS)}, or LINK=gps:FILE")
    return PortSpec(Path(link), part, Path(log) if log else None, Framing.parse(framing) if at else None)


def parse_span(text: str | None) -> Span | None:
    """`10-20`, in seconds. Raises ValueError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*)-(\d+\.?\d*)", text)
    if match is None or float(match[2]) <= float(match[1]):
        raise ValueError(f"{text!r}: write START-END in seconds, as in 10-20")
    return float(match[1]), float(match[2])


def serve(ports: Sequence[PortSpec], unplug: Span | None, tell: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM. Raises OSError as `PortSpec.make`, ValueError for a port with a framing."""
    if framed := [port for port in ports if port.framing is not None]:
        raise ValueError(
            f"{framed[0].link}: a pty has no {framed[0].framing}. Try: edge-sim bus --serial "
            f"{framed[0].link}={framed[0].part}@{framed[0].framing} -- COMMAND"
        )
    clock = SystemClock()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    served: list[SerialPort] = []
    try:
        for port in ports:
            served.append(port.make(clock))
            tell(f"{port.link}: {port.part}")
        if unplug is not None:
            pull(served, unplug, ended, tell)
        ended.wait()
    finally:
        for each in served:
            each.close()


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
