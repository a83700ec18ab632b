"""A Bosch BME280 as its datasheet describes it (BST-BME280-DS002 rev 1.6, cited as DS), with air around it.

Registers, modes, timing, the calibration copy after a reset, oversampling and its resolution, skipped channels.
Not modelled: the IIR filter, SPI.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from itertools import count

from hardware.drivers.bme280 import (
    Calibration,
    Codes,
    compensate_humidity,
    compensate_pressure,
    compensate_temperature,
    fine_temperature,
)
from simulator.chips.chip import Fault, GivenOut
from simulator.world import Air
from wire.clock import NS_PER_MS, Clock

CHIP_ID = 0x60
BMP280_ID = 0x58
ID, RESET, CTRL_HUM, STATUS, CTRL_MEAS, CONFIG, DATA = 0xD0, 0xE0, 0xF2, 0xF3, 0xF4, 0xF5, 0xF7
DATA_BYTES = 8
RESET_WORD = 0xB6  # DS 5.4.2
MEASURING, COPYING = 0b1000, 0b0001  # DS 5.4.4
STARTUP_NS = 2 * NS_PER_MS  # DS 1.1
SKIPPED = Codes(0x80000, 0x80000, 0x8000)  # DS 5.4.7 to 5.4.9
OVERSAMPLING = (0, 1, 2, 4, 8, 16, 16, 16)  # DS 5.4.3, 5.4.5
STANDBY_MS = (0.5, 62.5, 125, 250, 500, 1000, 10, 20)  # DS 5.4.6
NOISE = Air(0.05, 3.0, 0.07)  # standard deviations at x1; DS 1.2, 1.3 give RMS 3.3 Pa and 0.07 %RH
REDRAWS_MAX = 200  # then the noise is widened

# Trimming of a real kind: T and P are the example of BST-BMP280-DS001 3.12, H typical; each part varies around it.
TRIM_T = (27504, 26435, -1000)
TRIM_P = (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000)
TRIM_H = (75, 370, 0, 313, 50, 30)


class SimulatedBme280:
    """One part. `air` says what surrounds it now; with `given_out`, no two conversions of all three
    channels have equal values."""

    def __init__(self, air: Callable[[], Air], clock: Clock, seed: int, given_out: GivenOut | None = None) -> None:
        self.fault = Fault.NONE
        self.conversions = 0
        self._air = air
        self._clock = clock
        self._rng = random.Random(seed)
        self._given_out = given_out
        self._seen: set[tuple[int, int, int]] = set()
        self.calibration = self._trim()
        self._pointer = 0
        self._power_on()

    def write(self, data: bytes) -> None:
        """DS 6.2.1: a register, then its value, then further pairs; a register alone sets where reading begins."""
        self._advance()
        if data:
            self._pointer = data[0]
        for register, value in zip(data[::2], data[1::2]):
            self._set(register, value)

    def read(self, length: int) -> bytes:
        """DS 6.2.2: from the register on, counting up."""
        self._advance()
        first, self._pointer = self._pointer, (self._pointer + length) & 0xFF
        if self.fault is Fault.GARBLED:
            return b"\xff" * length
        if first <= DATA and first + length >= DATA + DATA_BYTES:
            self._hand_out()
        return bytes(self._registers[(first + offset) & 0xFF] for offset in range(length))

    def _power_on(self) -> None:
        self._registers = bytearray(256)
        self._registers[ID] = CHIP_ID
        self._store(SKIPPED)
        self._registers[STATUS] = COPYING
        self._copied_ns = self._clock.boottime_ns() + STARTUP_NS
        self._humidity_setting = 0  # ctrl_hum as latched by the last write of ctrl_meas
        self._ready_ns: int | None = None  # end of the conversion under way
        self._fresh: tuple[int | None, ...] | None = None  # raw values converted, not yet handed out

    def _trim(self) -> Calibration:
        t1, t2, t3 = TRIM_T
        p1, *p = TRIM_P
        h1, h2, *h = TRIM_H
        vary = self._rng.randint
        return Calibration(
            (t1 + vary(-300, 300), t2 + vary(-200, 200), t3),
            (p1 + vary(-300, 300), *p),  # type: ignore[arg-type]
            (h1, h2 + vary(-8, 8), *h),  # type: ignore[arg-type]
        )

    def _copy_calibration(self) -> None:
        """DS 4.2.2, the inverse of what a driver unpacks."""
        c = self.calibration
        low = struct.pack("<HhhHhhhhhhhh", *c.t, *c.p) + bytes([0, c.h[0]])
        h4, h5 = c.h[3], c.h[4]
        high = struct.pack("<hB", c.h[1], c.h[2])
        high += bytes([h4 >> 4 & 0xFF, h4 & 0x0F | (h5 & 0x0F) << 4, h5 >> 4 & 0xFF, c.h[5] & 0xFF])
        self._registers[0x88 : 0x88 + len(low)] = low
        self._registers[0xE1 : 0xE1 + len(high)] = high

    def _set(self, register: int, value: int) -> None:
        if register == RESET and value == RESET_WORD:
            self._power_on()
        elif register in (CTRL_HUM, CONFIG):
            self._registers[register] = value
        elif register == CTRL_MEAS:
            self._registers[register] = value
            self._humidity_setting = self._registers[CTRL_HUM] & 0b111
            self._ready_ns = self._clock.boottime_ns() + self._conversion_ns() if value & 0b11 else None
            if self._ready_ns is not None:
                self._registers[STATUS] |= MEASURING

    def _settings(self) -> tuple[int, int, int]:
        """Oversampling of temperature, pressure, humidity."""
        value = self._registers[CTRL_MEAS]
        return OVERSAMPLING[value >> 5], OVERSAMPLING[value >> 2 & 0b111], OVERSAMPLING[self._humidity_setting]

    def _conversion_ns(self) -> int:
        """DS 9.1, typical."""
        t, p, h = self._settings()
        return int((1 + 2 * t + (2 * p + 0.5 if p else 0) + (2 * h + 0.5 if h else 0)) * NS_PER_MS)

    def _advance(self) -> None:
        """Bring the registers to the present."""
        now = self._clock.boottime_ns()
        if self._registers[STATUS] & COPYING and now >= self._copied_ns:
            self._registers[STATUS] &= ~COPYING
            self._copy_calibration()
        self._registers[ID] = BMP280_ID if self.fault is Fault.WRONG_ID else CHIP_ID
        if self._ready_ns is None or now < self._ready_ns:
            return
        if self.fault is not Fault.STUCK:
            self._convert()
        if self._registers[CTRL_MEAS] & 0b11 == 0b11:  # normal mode: go on after the standby time
            standby_ns = int(STANDBY_MS[self._registers[CONFIG] >> 5] * NS_PER_MS)
            self._ready_ns = now + standby_ns + self._conversion_ns()
        else:
            self._registers[CTRL_MEAS] &= 0b11111100
            self._registers[STATUS] &= ~MEASURING
            self._ready_ns = None

    def _convert(self) -> None:
        self.conversions += 1
        t, p, h = self._settings()
        if self.fault is Fault.SKIPPED:
            t = p = h = 0
        codes, values = self._draw(t, p, distinct=bool(t and p and h and self._given_out))
        shown = Codes(
            codes.temperature if t else SKIPPED.temperature,
            codes.pressure if p else SKIPPED.pressure,
            codes.humidity if h else SKIPPED.humidity,
        )
        self._store(shown)
        self._fresh = tuple(value if on else None for value, on in zip(values, (t, t and p, t and h)))

    def _draw(self, t: int, p: int, distinct: bool) -> tuple[Codes, tuple[int, int, int]]:
        """Codes for the air around with noise, and their values; never the same values twice where `distinct`."""
        air = self._air()
        widen = 1.0
        for attempt in count(1):
            gauss = self._rng.gauss
            codes, values = encode(
                self.calibration,
                Air(
                    air.temperature_cel + gauss(0, NOISE.temperature_cel * widen),
                    air.pressure_pa + gauss(0, NOISE.pressure_pa * widen),
                    air.humidity_rh + gauss(0, NOISE.humidity_rh * widen),
                ),
                _coarse(t),
                _coarse(p),
            )
            if not distinct or values not in self._seen:
                break
            if attempt % REDRAWS_MAX == 0:
                widen *= 2
        if distinct:
            self._seen.add(values)
        return codes, values

    def _store(self, codes: Codes) -> None:
        p, t, h = codes.pressure, codes.temperature, codes.humidity
        data = [p >> 12, p >> 4 & 0xFF, (p & 0x0F) << 4, t >> 12, t >> 4 & 0xFF, (t & 0x0F) << 4, h >> 8, h & 0xFF]
        self._registers[DATA : DATA + DATA_BYTES] = bytes(data)

    def _hand_out(self) -> None:
        values, self._fresh = self._fresh, None
        if values is not None and self._given_out is not None:
            self._given_out(values)


def _coarse(oversampling: int) -> int:
    """How many low bits of a 20-bit code stay 0 without the filter (DS 3.4.1, 3.4.2): 16 bits at x1, 20 at x16."""
    return 4 - (oversampling.bit_length() - 1) if oversampling else 4


def encode(c: Calibration, air: Air, coarse_t: int, coarse_p: int) -> tuple[Codes, tuple[int, int, int]]:
    """The codes whose compensated values come nearest to the air, and those values (raw, as drivers give them)."""
    code_t = _solve(
        lambda code: compensate_temperature(fine_temperature(c, code)), air.temperature_cel * 100, 20, coarse_t
    )
    t_fine = fine_temperature(c, code_t)
    code_p = _solve(lambda code: -compensate_pressure(c, code, t_fine), -air.pressure_pa * 256, 20, coarse_p)
    code_h = _solve(lambda code: compensate_humidity(c, code, t_fine), air.humidity_rh * 1024, 16, 0)
    values = (
        compensate_temperature(t_fine),
        compensate_pressure(c, code_p, t_fine),
        compensate_humidity(c, code_h, t_fine),
    )
    return Codes(code_t, code_p, code_h), values


def _solve(formula: Callable[[int], int], target: float, bits: int, coarse: int) -> int:
    """Smallest code of a rising formula that reaches the target, its `coarse` low bits 0, never the skipped code."""
    low, high = 1, (1 << bits - coarse) - 1
    while low < high:
        middle = (low + high) // 2
        if formula(middle << coarse) < target:
            low = middle + 1
        else:
            high = middle
    code = low << coarse
    return code + (1 << coarse) if code == 1 << bits - 1 else code
