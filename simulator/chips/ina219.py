"""A Texas Instruments INA219 as its datasheet describes it (SBOS448G, cited as DS), with a load that follows the air.

Gains and their clipping, averaging and its time, modes, calibration and the arithmetic behind current and power,
overflow. Not modelled: resolutions below 12 bits.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from hardware.drivers.ina219 import (
    CONFIG_AT_RESET,
    CONVERSION_READY,
    OVERFLOW,
    REG_BUS,
    REG_CALIBRATION,
    REG_CONFIG,
    REG_CURRENT,
    REG_POWER,
    REG_SHUNT,
    SHUNT_RANGES_MV,
)
from simulator.chips.chip import Fault, GivenOut
from simulator.world import Air
from wire.clock import NS_PER_US, Clock

RESET_BIT = 0x8000  # DS 8.6.2
SAMPLE_NS = 532 * NS_PER_US  # DS 7.5, typical, 12 bits
NOISE_COUNTS = 2.0  # of 10 uV


@dataclass(frozen=True, slots=True)
class Supply:
    """What the part is wired to."""

    volt: float
    ampere: float


def supply_of(air: Air) -> Supply:
    """12 V, sagging a little; a fan that draws more when it is warm: 0.1 A at 20 Cel, 60 mA per Cel."""
    ampere = max(0.0, 0.1 + 0.06 * (air.temperature_cel - 20))
    return Supply(12.0 - 0.05 * ampere, ampere)


class SimulatedIna219:
    """One part with its shunt. `air` says how warm it is; a test may set `supply` itself."""

    def __init__(
        self,
        air: Callable[[], Air],
        clock: Clock,
        seed: int,
        given_out: GivenOut | None = None,
        shunt_ohms: float = 0.1,
    ) -> None:
        self.fault = Fault.NONE
        self.conversions = 0
        self.supply: Callable[[], Supply] = lambda: supply_of(air())
        self._shunt_ohms = shunt_ohms
        self._clock = clock
        self._rng = random.Random(seed)
        self._given_out = given_out
        self._pointer = 0
        self.power_on()

    def power_on(self) -> None:
        """All registers as after a loss of power."""
        self._registers = [CONFIG_AT_RESET, 0, 0, 0, 0, 0]
        self._is_fresh = False
        self._ready_ns: int | None = self._clock.boottime_ns() + self._conversion_ns()

    def write(self, data: bytes) -> None:
        """DS 8.5.6: the pointer, then one word."""
        self._advance()
        if not data:
            return
        self._pointer = data[0]
        if len(data) < 3:
            return
        value = int.from_bytes(data[1:3], "big")
        if self._pointer == REG_CONFIG and value & RESET_BIT:
            self.power_on()
        elif self._pointer == REG_CONFIG:
            self._registers[REG_CONFIG] = value & 0x3FFF
            self._registers[REG_BUS] &= ~CONVERSION_READY
            self._ready_ns = self._clock.boottime_ns() + self._conversion_ns() if value & 0b11 else None
        elif self._pointer == REG_CALIBRATION:
            self._registers[REG_CALIBRATION] = value & 0xFFFE
            self._calculate()

    def read(self, length: int) -> bytes:
        """The pointer's word, again and again."""
        self._advance()
        if self.fault is Fault.GARBLED:
            return b"\xff" * length
        value = self._registers[self._pointer] if self._pointer <= REG_CALIBRATION else 0
        if self.fault is Fault.WRONG_ID:
            value = 0
        if self._pointer == REG_POWER:  # DS 8.6.3.2: reading the power register clears conversion ready
            self._registers[REG_BUS] &= ~CONVERSION_READY
            if self._is_fresh and self._given_out is not None:
                self._given_out(
                    (
                        self._registers[REG_BUS] >> 3,
                        *map(signed, (self._registers[REG_SHUNT], self._registers[REG_CURRENT])),
                        value,
                    )
                )
            self._is_fresh = False
        return value.to_bytes(2, "big") * (length // 2) + value.to_bytes(2, "big")[: length % 2]

    def _conversion_ns(self) -> int:
        config = self._registers[REG_CONFIG]
        return SAMPLE_NS * (samples(config >> 7 & 0xF) + samples(config >> 3 & 0xF))

    def _advance(self) -> None:
        if self._ready_ns is None or self._clock.boottime_ns() < self._ready_ns or self.fault is Fault.SKIPPED:
            return
        if self.fault is not Fault.STUCK:
            self._convert()
        self._calculate()
        self._registers[REG_BUS] |= CONVERSION_READY
        self._is_fresh = True
        is_continuous = self._registers[REG_CONFIG] & 0b100
        self._ready_ns = self._clock.boottime_ns() + self._conversion_ns() if is_continuous else None

    def _convert(self) -> None:
        self.conversions += 1
        supply = self.supply()
        limit = SHUNT_RANGES_MV[self._registers[REG_CONFIG] >> 11 & 0b11] * 100
        shunt = round(supply.ampere * self._shunt_ohms * 100_000 + self._rng.gauss(0, NOISE_COUNTS))
        self._registers[REG_SHUNT] = min(max(shunt, -limit), limit) & 0xFFFF
        volts_max = 32 if self._registers[REG_CONFIG] >> 13 & 1 else 16
        counts = round(min(max(supply.volt, 0.0), volts_max) * 250 + self._rng.gauss(0, 0.3))
        self._registers[REG_BUS] = min(max(counts, 0), 0x1FFF) << 3

    def _calculate(self) -> None:
        """DS equations 4 and 5."""
        current = int(signed(self._registers[REG_SHUNT]) * self._registers[REG_CALIBRATION] / 4096)
        power = abs(current) * (self._registers[REG_BUS] >> 3) // 5000
        self._registers[REG_BUS] &= ~OVERFLOW
        if abs(current) >= 1 << 15 or power >= 1 << 16:
            self._registers[REG_BUS] |= OVERFLOW
        self._registers[REG_CURRENT] = current & 0xFFFF
        self._registers[REG_POWER] = power & 0xFFFF


def samples(code: int) -> int:
    """DS table 5: how many conversions an ADC setting averages."""
    return 1 << (code & 0b111) if code & 0b1000 else 1


def signed(word: int) -> int:
    """Two's complement."""
    return word - (1 << 16) if word & 0x8000 else word
