"""A Plantower PMS5003 in its active mode (data manual V2.3): one frame a second, dust that drifts."""

from __future__ import annotations

import math
import random
import struct
from enum import StrEnum

from wire.clock import NS_PER_S, Clock


class DustFault(StrEnum):
    """How the part fails, until it is told otherwise."""

    NONE = "none"
    SILENT = "silent"
    BAD_SUM = "bad-sum"
    CUT = "cut"  # ten bytes are missing
    NOISE = "noise"  # bytes between the frames, start signs among them
    FAN = "fan"  # the part's own fault code


class SimulatedPms5003:
    """`last` holds the words of the newest frame, as they stand in it."""

    def __init__(self, clock: Clock, seed: int = 1) -> None:
        self.fault = DustFault.NONE
        self.last: tuple[int, ...] = ()
        self._rng = random.Random(seed)
        self._next_ns = clock.boottime_ns()

    def feed(self, data: bytes) -> bytes:
        """See `SerialPart`: commands are not modelled."""
        return b""

    def emit(self, now_ns: int) -> bytes:
        """See `SerialPart`."""
        if now_ns < self._next_ns:
            return b""
        self._next_ns = now_ns + NS_PER_S
        if self.fault is DustFault.SILENT:
            return b""
        self.last = self._measure(now_ns / NS_PER_S)
        data = frame(self.last, 0x02 if self.fault is DustFault.FAN else 0)
        match self.fault:
            case DustFault.BAD_SUM:
                return data[:-1] + bytes([data[-1] ^ 0x10])
            case DustFault.CUT:
                return data[:12] + data[22:]
            case DustFault.NOISE:
                return b"B\x00BMBM\x00" + data + b"\xffBM"
        return data

    def _measure(self, second: float) -> tuple[int, ...]:
        fine = 12 + 8 * math.sin(second / 600) + self._rng.gauss(0, 0.6)
        mass = [max(0, round(fine * share)) for share in (0.7, 1.0, 1.15)]
        counts = [max(0, round(fine * share)) for share in (180, 52, 9, 1.1, 0.4, 0.2)]
        return (*mass, *mass, *counts)


def frame(words: tuple[int, ...], fault: int = 0) -> bytes:
    """32 bytes with start signs, length, version and checksum."""
    data = b"BM" + struct.pack(">H12HBB", 28, *words, 0x97, fault)
    return data + sum(data).to_bytes(2, "big")
