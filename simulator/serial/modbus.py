"""Modbus RTU units on one line, byte by byte as MODBUS over Serial Line V1.02 and Application Protocol V1.1b3 say.

Written from the specification, so that it checks the agent's own framing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

REQUEST_BYTES = 8  # unit, function, address, count, CRC: functions 1 to 4
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, DEVICE_FAILURE = 1, 2, 3, 4
REGISTERS_MAX, BITS_MAX = 125, 2000  # Application Protocol 6.1, 6.3


class UnitFault(StrEnum):
    """How a unit fails, until it is told otherwise."""

    NONE = "none"
    SILENT = "silent"
    FAILURE = "failure"  # exception 4 to everything
    BAD_CRC = "bad-crc"
    CUT = "cut"  # half of the answer
    OTHER_UNIT = "other-unit"  # the answer of another unit


@dataclass
class Unit:
    """One unit: its four tables by address; what is not there is exception 2."""

    holding: dict[int, int] = field(default_factory=dict)
    input: dict[int, int] = field(default_factory=dict)
    coil: dict[int, int] = field(default_factory=dict)
    discrete: dict[int, int] = field(default_factory=dict)
    fault: UnitFault = UnitFault.NONE
    requests: int = 0

    def table(self, function: int) -> Mapping[int, int] | None:
        """By function code."""
        return {1: self.coil, 2: self.discrete, 3: self.holding, 4: self.input}.get(function)


class ModbusLine:
    """Units by number. A unit that is not there is silent, as on a real line."""

    def __init__(self, units: Mapping[int, Unit]) -> None:
        self.units = dict(units)
        self._heard = b""

    def feed(self, data: bytes) -> bytes:
        """See `SerialPart`. A request with a wrong CRC is forgotten, with all that stands beside it."""
        self._heard += data
        if len(self._heard) < REQUEST_BYTES:
            return b""
        frame, self._heard = self._heard, b""
        if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            return b""
        unit = self.units.get(frame[0])
        return b"" if unit is None else self._spoil(unit, frame[0], self._answer(unit, frame))

    def emit(self, now_ns: int) -> bytes:
        """See `SerialPart`: units speak only when asked."""
        return b""

    def _answer(self, unit: Unit, frame: bytes) -> bytes:
        unit.requests += 1
        function = frame[1]
        table = unit.table(function)
        if unit.fault is UnitFault.FAILURE:
            return bytes([function | 0x80, DEVICE_FAILURE])
        if table is None or len(frame) != REQUEST_BYTES:
            return bytes([function | 0x80, ILLEGAL_FUNCTION])
        address, count = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
        if not 1 <= count <= (BITS_MAX if function <= 2 else REGISTERS_MAX):
            return bytes([function | 0x80, ILLEGAL_VALUE])
        if any(at not in table for at in range(address, address + count)):
            return bytes([function | 0x80, ILLEGAL_ADDRESS])
        values = [table[at] for at in range(address, address + count)]
        if function <= 2:
            bits = sum(1 << at for at, value in enumerate(values) if value)
            data = bits.to_bytes((count + 7) // 8, "little")
        else:
            data = b"".join(value.to_bytes(2, "big") for value in values)
        return bytes([function, len(data)]) + data

    def _spoil(self, unit: Unit, number: int, answer: bytes) -> bytes:
        if unit.fault is UnitFault.SILENT:
            return b""
        head = bytes([number ^ 1 if unit.fault is UnitFault.OTHER_UNIT else number])
        crc = crc16(head + answer) ^ (1 if unit.fault is UnitFault.BAD_CRC else 0)
        frame = head + answer + crc.to_bytes(2, "little")
        return frame[: len(frame) // 2] if unit.fault is UnitFault.CUT else frame


def crc16(data: bytes) -> int:
    """MODBUS over Serial Line V1.02, 6.2.2: polynomial 0xA001 reflected, start 0xFFFF, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc
