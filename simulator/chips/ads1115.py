"""A Texas Instruments ADS1115 as its datasheet describes it (SBAS444E, cited as DS), with voltages on its pins.

Multiplexer, gains and clipping, data rates, single shot and continuous conversion, registers that keep what is written.
Not modelled: the comparator's output.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hardware.drivers.ads1115 import (
    FULL_SCALE,
    GAIN,
    HIGH_AT_RESET,
    LOW_AT_RESET,
    MUX,
    RATE,
    REG_CONFIG,
    REG_CONVERSION,
    REG_HIGH,
    REG_LOW,
    SINGLE_SHOT,
    START,
)
from simulator.chips.chip import Fault, GivenOut
from simulator.world import Air
from wire.clock import NS_PER_S, Clock

CONFIG_AT_RESET = 0x8583  # DS 8.1.3
PINS = {code: tuple(int(pin[1]) for pin in name.split("-")) for name, code in MUX.items()}
VOLTS = {code: millivolt / 1000 for millivolt, code in GAIN.items()} | {6: 0.256, 7: 0.256}  # DS table 8-3
RATES = {code: rate for rate, code in RATE.items()}
NOISE_STEPS = 0.3  # DS table 6-1: below one step at the usual rates
SUPPLY_V = 3.3

Pins = tuple[float, float, float, float]


def pins_of(air: Air) -> Pins:
    """Three analogue sensors of the air, as such parts give it, and half the supply."""
    return (
        0.5 + 0.010 * air.temperature_cel,  # 10 mV per Cel, 0.5 V at 0
        SUPPLY_V * (0.16 + 0.0062 * air.humidity_rh),  # ratiometric
        SUPPLY_V * (air.pressure_pa / 1000 * 0.009 - 0.095),  # ratiometric
        SUPPLY_V / 2,
    )


class SimulatedAds1115:
    """One part. A test may set `pins`, volt against ground."""

    def __init__(self, air: Callable[[], Air], clock: Clock, seed: int, given_out: GivenOut | None = None) -> None:
        self.fault = Fault.NONE
        self.conversions = 0
        self.pins: Callable[[], Pins] = lambda: pins_of(air())
        self._clock = clock
        self._rng = random.Random(seed)
        self._given_out = given_out
        self.power_on()

    def power_on(self) -> None:
        """All registers as after a loss of power."""
        self._registers = [0, CONFIG_AT_RESET, LOW_AT_RESET, HIGH_AT_RESET]
        self._pointer = REG_CONVERSION
        self._ready_ns: int | None = None
        self._is_fresh = False

    def write(self, data: bytes) -> None:
        """DS 7.5.3: the pointer, then one word."""
        self._advance()
        if not data:
            return
        self._pointer = data[0] & 0b11
        if len(data) < 3:
            return
        value = int.from_bytes(data[1:3], "big")
        if self._pointer == REG_CONFIG:
            self._registers[REG_CONFIG] = value | START
            if value & START or not value & SINGLE_SHOT:
                self._registers[REG_CONFIG] &= ~START
                self._ready_ns = self._clock.boottime_ns() + self._conversion_ns()
        elif self._pointer in (REG_LOW, REG_HIGH):
            self._registers[self._pointer] = value

    def read(self, length: int) -> bytes:
        """The pointer's word, again and again."""
        self._advance()
        if self.fault is Fault.GARBLED:
            return b"\xff" * length
        if self.fault is Fault.WRONG_ID:
            return bytes(length)
        value = self._registers[self._pointer]
        if self._pointer == REG_CONVERSION and self._is_fresh:
            self._is_fresh = False
            if self._given_out is not None:
                self._given_out((value - (1 << 16) if value & 0x8000 else value,))
        return (value.to_bytes(2, "big") * (length // 2 + 1))[:length]

    def _conversion_ns(self) -> int:
        return NS_PER_S // RATES[self._registers[REG_CONFIG] >> 5 & 0b111]

    def _advance(self) -> None:
        if self._ready_ns is None or self._clock.boottime_ns() < self._ready_ns or self.fault is Fault.SKIPPED:
            return
        if self.fault is not Fault.STUCK:
            self._convert()
        self._is_fresh = True
        self._registers[REG_CONFIG] |= START
        if self._registers[REG_CONFIG] & SINGLE_SHOT:
            self._ready_ns = None
        else:
            self._ready_ns = self._clock.boottime_ns() + self._conversion_ns()

    def _convert(self) -> None:
        self.conversions += 1
        config = self._registers[REG_CONFIG]
        volts, chosen = self.pins(), PINS[config >> 12 & 0b111]
        volt = volts[chosen[0]] - (volts[chosen[1]] if len(chosen) > 1 else 0.0)
        code = round(volt / VOLTS[config >> 9 & 0b111] * FULL_SCALE + self._rng.gauss(0, NOISE_STEPS))
        self._registers[REG_CONVERSION] = min(max(code, -FULL_SCALE), FULL_SCALE - 1) & 0xFFFF
