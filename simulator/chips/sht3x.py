"""A Sensirion SHT31 as its datasheet describes it (SHT3x-DIS version 6, cited as DS), with air around it.

Single shot without clock stretching in three repeatabilities, status, heater, soft reset, checksums, and the missing
acknowledgement of a part that converts or has nothing to give. Not modelled: periodic modes, alerts, clock stretching.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from hardware.drivers.sht3x import FULL_SCALE, crc8
from simulator.chips.chip import Fault, GivenOut
from simulator.i2c_line import LineFault
from simulator.world import Air
from wire.clock import NS_PER_MS, Clock

CONVERSION_NS = {0x2400: 15 * NS_PER_MS, 0x240B: 6 * NS_PER_MS, 0x2416: 4 * NS_PER_MS}  # DS tables 4 and 9
STATUS, CLEAR_STATUS, SOFT_RESET, HEATER_ON, HEATER_OFF = 0xF32D, 0x3041, 0x30A2, 0x306D, 0x3066  # DS 4.8 to 4.11
RESET_NS = 1 * NS_PER_MS  # DS table 4
ALERT_BIT, HEATER_BIT, RESET_BIT, COMMAND_BIT = 1 << 15, 1 << 13, 1 << 4, 1 << 1  # DS table 18
AT_POWER_ON = ALERT_BIT | RESET_BIT
NOISE = Air(0.04, 0.0, 0.08)  # DS tables 1, 2: repeatability of high, as standard deviations / 3 and rounded up


class SimulatedSht3x:
    """One part. `air` says what surrounds it now."""

    def __init__(self, air: Callable[[], Air], clock: Clock, seed: int, given_out: GivenOut | None = None) -> None:
        self.fault = Fault.NONE
        self.conversions = 0
        self._air = air
        self._clock = clock
        self._rng = random.Random(seed)
        self._given_out = given_out
        self._status = AT_POWER_ON
        self._busy_until_ns = clock.boottime_ns() + RESET_NS
        self._is_converting = False
        self._answer = b""  # what the next read gives; empty: it is not acknowledged
        self._codes: tuple[int, int] | None = None  # converted, not yet handed out
        self._last = (0, 0)

    def write(self, data: bytes) -> None:
        """A command of two bytes; shorter ones are forgotten at the stop condition (DS 4.2)."""
        self._advance()
        self._answer = b""
        if len(data) < 2:
            return
        command = int.from_bytes(data[:2], "big")
        self._status &= ~COMMAND_BIT
        if command in CONVERSION_NS:
            self._is_converting, self._codes = True, None
            self._busy_until_ns = self._clock.boottime_ns() + CONVERSION_NS[command]
        elif command == STATUS:
            self._answer = word(self._status)
        elif command == CLEAR_STATUS:
            self._status &= HEATER_BIT
        elif command == SOFT_RESET:
            self._status, self._codes = AT_POWER_ON, None
            self._busy_until_ns = self._clock.boottime_ns() + RESET_NS
        elif command == HEATER_ON:
            self._status |= HEATER_BIT
        elif command == HEATER_OFF:
            self._status &= ~HEATER_BIT
        else:
            self._status |= COMMAND_BIT

    def read(self, length: int) -> bytes:
        """The last answer; then nothing is acknowledged until there is another (DS 4.4)."""
        self._advance()
        if self.fault is Fault.GARBLED:
            return b"\xff" * length
        if self.fault is Fault.WRONG_ID:
            return bytes(length)
        answer, self._answer = self._answer, b""
        if not answer and self._codes is not None and self.fault is not Fault.SKIPPED:
            codes, self._codes = self._codes, None
            answer = word(codes[0]) + word(codes[1])
            if self._given_out is not None:
                self._given_out(codes)
        if not answer:
            raise LineFault(errno.EREMOTEIO)
        return answer[:length].ljust(length, b"\xff")

    def _advance(self) -> None:
        if self._clock.boottime_ns() < self._busy_until_ns:
            raise LineFault(errno.EREMOTEIO)  # DS 4.4: not acknowledged while it converts
        if self._is_converting:
            self._is_converting = False
            self._codes = self._convert()

    def _convert(self) -> tuple[int, int]:
        self.conversions += 1
        if self.fault is not Fault.STUCK:
            air, gauss = self._air(), self._rng.gauss
            temperature = air.temperature_cel + gauss(0, NOISE.temperature_cel)
            humidity = air.humidity_rh + gauss(0, NOISE.humidity_rh)
            self._last = (code((temperature + 45) / 175), code(humidity / 100))
        return self._last


def code(share: float) -> int:
    """DS 4.13 backwards: a share of the full scale as the 16-bit word."""
    return min(max(round(share * FULL_SCALE), 0), FULL_SCALE)


def word(value: int) -> bytes:
    """A word with its checksum."""
    data = value.to_bytes(2, "big")
    return data + bytes([crc8(data)])
