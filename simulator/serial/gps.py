"""A GNSS receiver that drives round a circle, or says again what a real one once said; one burst a second."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from wire.clock import NS_PER_S, Clock

EARTH_RADIUS_M = 6_371_000.0
CENTRE = (59.9139, 10.7522)
RADIUS_M, SPEED_MPS = 500.0, 10.0
KNOT_MPS = 1852 / 3600


class SimulatedGps:
    """`has_fix` and `bad_checksums` may be changed at any time; `log` replays bursts of a file instead."""

    def __init__(self, clock: Clock, log: Path | None = None) -> None:
        self.has_fix = True
        self.bad_checksums = False
        self._next_ns = clock.boottime_ns()
        self._bursts = bursts_of(log) if log is not None else None
        self._clock = clock

    def feed(self, data: bytes) -> bytes:
        """See `SerialPart`: commands are not understood."""
        return b""

    def emit(self, now_ns: int) -> bytes:
        """See `SerialPart`."""
        if now_ns < self._next_ns:
            return b""
        self._next_ns += NS_PER_S * (1 + (now_ns - self._next_ns) // NS_PER_S)
        if self._bursts is not None:
            return next(self._bursts, b"")
        data = b"".join(sentence(body) for body in self.sentences(self._clock.wall_ns() // NS_PER_S))
        return data.replace(b"*", b"*F") if self.bad_checksums else data

    def position(self, second: int) -> tuple[float, float, float]:
        """Latitude, longitude and course in degrees."""
        angle = second * SPEED_MPS / RADIUS_M
        north, east = RADIUS_M * math.sin(angle), RADIUS_M * math.cos(angle)
        latitude = CENTRE[0] + math.degrees(north / EARTH_RADIUS_M)
        longitude = CENTRE[1] + math.degrees(east / EARTH_RADIUS_M / math.cos(math.radians(CENTRE[0])))
        return latitude, longitude, -math.degrees(angle) % 360

    def sentences(self, second: int) -> Sequence[str]:
        """GGA and RMC of that second, without frame."""
        time = f"{second // 3600 % 24:02d}{second // 60 % 60:02d}{second % 60:02d}.00"
        if not self.has_fix:
            return f"GPGGA,{time},,,,,0,00,99.99,,,,,,", f"GPRMC,{time},V,,,,,,,010126,,,N"
        latitude, longitude, course = self.position(second)
        place = f"{degrees(latitude, 2)},{'N' if latitude >= 0 else 'S'}"
        place += f",{degrees(longitude, 3)},{'E' if longitude >= 0 else 'W'}"
        return (
            f"GPGGA,{time},{place},1,09,0.85,42.0,M,39.0,M,,",
            f"GPRMC,{time},A,{place},{SPEED_MPS / KNOT_MPS:.3f},{course:.2f},010126,,,A",
        )


def degrees(value: float, digits: int) -> str:
    """4807.03800: whole degrees and minutes."""
    whole, minutes = divmod(round(abs(value) * 60, 5), 60)
    return f"{int(whole):0{digits}d}{minutes:08.5f}"


def sentence(body: str) -> bytes:
    """With its frame and checksum."""
    value = 0
    for byte in body.encode():
        value ^= byte
    return f"${body}*{value:02X}\r\n".encode()


def bursts_of(log: Path) -> Iterator[bytes]:
    """Lines of a recorded log (gzip or plain) by second: a burst ends before the sentence that began the first."""
    data = gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
    lines = data.splitlines()
    first, burst = b"", b""
    for line in lines:
        kind = line[3:6] if line.startswith(b"$") else b""
        if kind and kind == first and burst:
            yield burst
            burst = b""
        first = first or (kind if kind in (b"GGA", b"RMC") else b"")
        burst += line + b"\r\n"
    yield burst
