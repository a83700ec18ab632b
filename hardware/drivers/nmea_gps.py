"""Any GNSS receiver that speaks NMEA 0183 on a serial line: position, height, speed, course and how good they are.

Sentences GGA, RMC and VTG of any talker; all others are passed over. Source: NMEA 0183 4.10, as gpsd's page "NMEA
Revealed" describes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from hardware.driver import Cell, Channel, Driver, DriverConfig
from hardware.errors import DeviceDataBad, DeviceNoAnswer, DeviceNotReady

SENTENCES = (b"GGA", b"RMC", b"VTG")
LINE_BYTES_MAX = 256  # the standard says 82; receivers go beyond it
STALE_BYTES = 4095  # linux/tty.h N_TTY_BUF_SIZE - 1: so full a buffer has lost the newest bytes, not the oldest
STEP_S = 0.1  # receivers send in bursts; a pause of this length ends one


class NmeaGpsConfig(DriverConfig, frozen=True):
    """How patient to be."""

    wait: Annotated[float, Meta(ge=0.1, le=30, extra={"kind": "duration"})] = (
        1.5  # for a burst; most come once a second
    )


class NmeaGps(Driver):
    """One receiver. What it says between two readings is drained; the newest counts."""

    Config = NmeaGpsConfig
    bus_kind = "serial"
    CHANNELS = (
        Channel("latitude", "lat", den=10_000_000, low=-90, high=90),
        Channel("longitude", "lon", den=10_000_000, low=-180, high=180),
        Channel("altitude", "m", "distance", den=100),  # above mean sea level
        Channel("speed", "m/s", "speed", num=1852, den=3_600_000, low=0),  # raw: thousandths of a knot
        Channel("course", "deg", den=100, low=0, high=360),  # over ground, from true north
        Channel("satellites", "count"),  # used
        Channel("hdop", "/", den=100, low=0),
        Channel("fix_quality", "/"),  # GGA: 0 none, 1 GNSS, 2 differential, 4 RTK, 5 RTK float, 6 dead reckoning
    )

    @classmethod
    def channels_of(cls, config: NmeaGpsConfig) -> Sequence[Channel]:
        """See `Driver`."""
        return cls.CHANNELS

    def open(self) -> None:
        """Forget what was heard. Nothing is sent: receivers speak by themselves."""
        self._rest = b""
        self.sentences_bad = 0  # since `open`: bad checksum, or not to be understood

    def read(self) -> Sequence[Cell]:
        """The newest of what has come since the last reading; waits up to `wait` when there is nothing.

        Without a fix, position, height, speed and course are DeviceNotReady: never zero. Raises DeviceNoAnswer for
        silence, DeviceDataBad when nothing that came has a good checksum, DeviceNotReady when none of the three
        sentences came.
        """
        report = _Report()
        bad_before = self.sentences_bad
        data: bytes = self.bus.drain()
        if len(data) >= STALE_BYTES:
            data, self._rest = b"", b""
        is_heard = bool(data)
        self._take(data, report)
        for _ in range(round(self.config.wait / STEP_S)):
            if report.is_complete:
                break
            data = self.bus.read(STALE_BYTES, STEP_S)
            self._take(data, report)
            is_heard = is_heard or bool(data)
            if not data and report.is_useful:
                break
        if report.is_useful:
            return report.cells()
        if not is_heard:
            raise DeviceNoAnswer(f"{self.bus.name}: no sentence in {self.config.wait:g} s. Check wiring and baud")
        bad = self.sentences_bad - bad_before
        if bad or not report.is_valid:
            raise DeviceDataBad(f"{self.bus.name}: nothing to be understood, {bad} bad sentences. Check baud")
        raise DeviceNotReady(f"{self.bus.name}: sentences come, but neither GGA nor RMC nor VTG")

    def _take(self, data: bytes, report: _Report) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LINE_BYTES_MAX:]
        for line in lines:
            start = line.rfind(b"$")
            if start >= 0 and len(line) <= LINE_BYTES_MAX:
                self._take_sentence(line[start:].strip(), report)

    def _take_sentence(self, sentence: bytes, report: _Report) -> None:
        if checksum(sentence[1:-3]) != sentence[-3:]:
            self.sentences_bad += 1
            return
        report.is_valid = True
        if sentence[3:6] not in SENTENCES or sentence[6:7] != b",":
            return
        from pynmeagps import NMEAReader
        from pynmeagps.exceptions import NMEAMessageError, NMEAParseError, NMEATypeError

        try:
            message: Any = NMEAReader.parse(sentence + b"\r\n")
            report.take(sentence[3:6], message)
        except (
            NMEAMessageError,
            NMEAParseError,
            NMEATypeError,
            ValueError,
            ArithmeticError,
            AttributeError,
            TypeError,
        ):
            self.sentences_bad += 1  # fields that are no numbers, or missing


def checksum(text: bytes) -> bytes:
    """`*4F`: exclusive or of all between $ and *."""
    value = 0
    for byte in text:
        value ^= byte
    return b"*%02X" % value


class _Report:
    """What the sentences of one reading say together; a later one wins."""

    def __init__(self) -> None:
        self.is_valid = False
        self._seen: set[bytes] = set()
        self._raw: dict[str, int] = {}

    @property
    def is_useful(self) -> bool:
        """Whether any of the three sentences came."""
        return bool(self._seen)

    @property
    def is_complete(self) -> bool:
        """Whether all channels were told of."""
        return {b"GGA", b"RMC"} <= self._seen

    def take(self, kind: bytes, message: Any) -> None:
        """One sentence. Raises ValueError, TypeError or AttributeError for fields that make no sense."""
        if kind == b"GGA":
            found = self._gga(message)
        elif kind == b"RMC":
            found = self._position(message, message.status == "A")
            found |= self._motion(message.spd, message.cog, message.status == "A")
        else:
            found = self._motion(message.sogn, message.cogt, True)
        for name, raw in found.items():
            if raw is None:
                self._raw.pop(name, None)
            else:
                self._raw[name] = raw
        self._seen.add(kind)

    def cells(self) -> list[Cell]:
        """One per channel."""
        missing = DeviceNotReady("no fix" if not self._raw.get("fix_quality") else "not said by the receiver")
        return [self._raw.get(channel.name, missing) for channel in NmeaGps.CHANNELS]

    def _gga(self, message: Any) -> dict[str, int | None]:
        quality = int(message.quality)
        found = self._position(message, quality > 0)
        found["altitude"] = _scaled(message.alt, 100) if quality else None
        found["hdop"] = _scaled(message.HDOP, 100) if quality else None
        found["satellites"] = _scaled(message.numSV, 1)
        found["fix_quality"] = quality
        return found

    def _position(self, message: Any, has_fix: bool) -> dict[str, int | None]:
        if not has_fix:
            return {"latitude": None, "longitude": None}
        latitude, longitude = _scaled(message.lat, 10_000_000), _scaled(message.lon, 10_000_000)
        if latitude is None or longitude is None:
            latitude = longitude = None
        elif abs(latitude) > 900_000_000 or abs(longitude) > 1_800_000_000:
            raise ValueError("no place on earth")
        return {"latitude": latitude, "longitude": longitude}

    def _motion(self, knots: Any, course: Any, has_fix: bool) -> dict[str, int | None]:
        if not has_fix:
            return {"speed": None, "course": None}
        return {"speed": _scaled(knots, 1000), "course": _scaled(course, 100)}


def _scaled(field: Any, factor: int) -> int | None:
    """A field as an integer, None when it is empty. Raises ValueError for text."""
    return None if field in ("", None) else round(float(field) * factor)
