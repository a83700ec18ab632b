"""Plantower PMS5003: fine dust by laser scattering, over a serial line (9600 8N1), in its active mode.

Source: Plantower PMS5003 data manual V2.3 (2016), cited as DS. The part speaks by itself every 0.2 to 2.3 s.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from hardware.driver import Cell, Channel, Driver, DriverConfig
from hardware.errors import DeviceDataBad, DeviceNoAnswer, DeviceNotReady

START = b"BM"  # DS appendix I: 0x42 0x4D
FRAME_BYTES = 32
LENGTH = 28  # of what follows the length itself
STEP_S = 0.1


class Pms5003Config(DriverConfig, frozen=True):
    """How patient to be."""

    wait: Annotated[float, Meta(ge=0.1, le=30, extra={"kind": "duration"})] = 1.5  # for a frame, where none has come


class PMS5003(Driver):
    """One part. What it says between two readings is drained; the newest frame counts."""

    Config = Pms5003Config
    bus_kind = "serial"
    CHANNELS = (  # DS table 1: effective to 500, at most over 1000 ug/m3
        Channel("pm1", "ug/m3", "pm1", low=0, high=1000),  # in the atmosphere
        Channel("pm2_5", "ug/m3", "pm25", low=0, high=1000),
        Channel("pm10", "ug/m3", "pm10", low=0, high=1000),
        Channel("pm1_standard", "ug/m3", low=0, high=1000),  # DS: CF=1, for factories
        Channel("pm2_5_standard", "ug/m3", low=0, high=1000),
        Channel("pm10_standard", "ug/m3", low=0, high=1000),
        Channel("over_0_3um", "count"),  # particles over so many micrometres in 0.1 l of air
        Channel("over_0_5um", "count"),
        Channel("over_1um", "count"),
        Channel("over_2_5um", "count"),
        Channel("over_5um", "count"),
        Channel("over_10um", "count"),
    )

    @classmethod
    def channels_of(cls, config: Pms5003Config) -> Sequence[Channel]:
        """See `Driver`."""
        return cls.CHANNELS

    def open(self) -> None:
        """Forget what was heard."""
        self._rest = b""
        self._is_alive = False  # the last reading brought a frame
        self.frames_bad = 0  # since `open`: bad checksum or length

    def read(self) -> Sequence[Cell]:
        """The newest frame since the last reading; waits up to `wait` for one.

        Raises DeviceNotReady for one reading without a frame, DeviceNoAnswer for silence that lasts, DeviceDataBad when
        nothing that came is a good frame, or when the part reports a fault of its own.
        """
        bad_before = self.frames_bad
        data: bytes = self.bus.drain()
        is_heard = bool(data)
        frame = self._take(data)
        for _ in range(round(self.config.wait / STEP_S)):
            if frame is not None:
                break
            data = self.bus.read(FRAME_BYTES, STEP_S)
            is_heard = is_heard or bool(data)
            frame = self._take(data)
        was_alive, self._is_alive = self._is_alive, frame is not None
        if frame is not None:
            return self._cells(frame)
        if is_heard:
            bad = self.frames_bad - bad_before
            raise DeviceDataBad(f"{self.bus.name}: no good frame, {bad} bad ones. A PMS5003 speaks 9600 baud 8N1")
        text = f"{self.bus.name}: no frame in {self.config.wait:g} s"
        if was_alive:
            raise DeviceNotReady(text)
        raise DeviceNoAnswer(f"{text}. Check wiring, 5 V and the SET pin")

    def _take(self, data: bytes) -> bytes | None:
        """The last good frame; what may be the begin of another is kept. After a bad one the search goes on inside."""
        data = self._rest + data
        found: bytes | None = None
        while (at := data.find(START)) >= 0:
            data = data[at:]
            if len(data) < FRAME_BYTES:
                break
            frame = data[:FRAME_BYTES]
            if is_good(frame):
                found, data = frame, data[FRAME_BYTES:]
            else:
                self.frames_bad += 1
                data = data[1:]
        self._rest = data[-FRAME_BYTES:] if at >= 0 else data[-1:]
        return found

    def _cells(self, frame: bytes) -> Sequence[Cell]:
        *words, _, fault, _ = struct.unpack(">12HBBH", frame[4:])
        if fault:
            raise DeviceDataBad(f"PMS5003 on {self.bus.name}: it reports fault 0x{fault:02x}")
        return [*words[3:6], *words[:3], *words[6:]]


def is_good(frame: bytes) -> bool:
    """DS appendix I: the length, and the sum of all bytes before the last two."""
    length, total = struct.unpack(">H", frame[2:4])[0], struct.unpack(">H", frame[-2:])[0]
    return bool(length == LENGTH and sum(frame[:-2]) == total)
