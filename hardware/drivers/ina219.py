"""Texas Instruments INA219: bus voltage, shunt voltage, current and power over I2C.

Source: SBOS448G (2015), cited as DS. Shunt and bus are converted together, once per reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Literal

from msgspec import Meta

from hardware.driver import Cell, Channel, Driver, DriverConfig, I2cBus
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNotReady

REG_CONFIG, REG_SHUNT, REG_BUS, REG_POWER, REG_CURRENT, REG_CALIBRATION = range(6)  # DS table 2
CONFIG_AT_RESET = 0x399F  # DS 8.6.2
CONFIG_UNUSED = 0xC000  # DS 8.6.2: reset bit and an unused one, both read 0
BUS_RANGE_32 = 1 << 13  # DS 8.6.2.1
TRIGGERED = 0b011  # DS table 6: shunt and bus, once
POWER_DOWN = 0b000
SHUNT_RANGES_MV = (40, 80, 160, 320)  # DS table 4, by the code of the gain
ADC_CODE = {1: 0b0011, 2: 0b1001, 4: 0b1010, 8: 0b1011, 16: 0b1100, 32: 0b1101, 64: 0b1110, 128: 0b1111}  # DS table 5
SAMPLE_S_MAX = 586e-6  # DS 7.5: 12 bits, typically 532 us
CONVERSION_READY, OVERFLOW = 0b10, 0b01  # DS 8.6.3.2: in the bus voltage register
CALIBRATION_UV = 40_960  # DS equation 1: 0.04096 V
POWER_STEPS = 20  # DS equation 3: power is counted in 20 current steps
CODES = 1 << 15


class Ina219Config(DriverConfig, frozen=True):
    """Where the part is and what flows through it."""

    address: Annotated[int, Meta(ge=0x40, le=0x4F)] = 0x40  # DS table 1
    shunt_ohms: Annotated[float, Meta(gt=0, le=10)] = 0.1
    current_max: Annotated[float, Meta(gt=0, le=1000)] = 3.2  # ampere; sets the resolution and the shunt's range
    bus_range: Literal[16, 32] = 32  # volt; the pins stand 26 V
    samples: Literal[1, 2, 4, 8, 16, 32, 64, 128] = 1  # averaged by the part, 0.53 ms each

    def __post_init__(self) -> None:
        if self.shunt_mv > SHUNT_RANGES_MV[-1]:
            over = f"{self.current_max:g} A through {self.shunt_ohms:g} Ohm are {self.shunt_mv:.0f} mV"
            raise ValueError(f"{over}; the part measures {SHUNT_RANGES_MV[-1]} mV: lower current_max or shunt_ohms")
        if not 2 <= self.calibration <= 0xFFFE:  # DS 8.6.4.1: bit 0 cannot be written
            raise ValueError(
                f"current_max = {self.current_max:g} A and shunt_ohms = {self.shunt_ohms:g} need a calibration of "
                f"{self.calibration}; 2 to 65534 are possible: raise current_max or shunt_ohms"
            )

    @property
    def shunt_mv(self) -> float:
        """What stands across the shunt at current_max."""
        return float(Fraction(str(self.current_max)) * Fraction(str(self.shunt_ohms)) * 1000)

    @property
    def gain(self) -> int:
        """The code of the smallest range that holds current_max."""
        return next(code for code, limit in enumerate(SHUNT_RANGES_MV) if self.shunt_mv <= limit)

    @property
    def calibration(self) -> int:
        """DS equation 1, for the smallest current step of whole microamperes that holds current_max; bit 0 is 0."""
        step_ua = math.ceil(Fraction(str(self.current_max)) * 1_000_000 / CODES)
        return int(CALIBRATION_UV / (step_ua * Fraction(str(self.shunt_ohms)))) & ~1

    @property
    def current_step(self) -> Fraction:
        """Ampere per count, exactly, as the rounded calibration makes it."""
        return Fraction(CALIBRATION_UV, 1_000_000) / (self.calibration * Fraction(str(self.shunt_ohms)))

    @property
    def settings(self) -> int:
        """The configuration register without its mode."""
        adc = ADC_CODE[self.samples]
        return (BUS_RANGE_32 if self.bus_range == 32 else 0) | self.gain << 11 | adc << 7 | adc << 3


class INA219(Driver):
    """One part; powered down until the first reading, idle between readings."""

    Config = Ina219Config
    bus_kind = "i2c"
    addresses = tuple(range(0x40, 0x50))

    @classmethod
    def channels_of(cls, config: Ina219Config) -> Sequence[Channel]:
        """See `Driver`. The range of shunt and current ends half a step before the code at which the part clips."""
        step = config.current_step
        full_scale = SHUNT_RANGES_MV[config.gain] * 100  # DS table 7: 10 uV per count
        clip = full_scale - 0.5
        current = (min(full_scale * config.calibration // 4096, CODES - 1) - 0.5) * float(step)
        power = step * POWER_STEPS
        return (
            Channel(
                "bus_voltage", "V", "voltage", num=4, den=1000, low=0, high=min(config.bus_range, 26)
            ),  # DS 8.6.3.2
            Channel("shunt_voltage", "mV", "voltage", den=100, low=-clip / 100, high=clip / 100),
            Channel("current", "A", "current", num=step.numerator, den=step.denominator, low=-current, high=current),
            Channel("power", "W", "power", num=power.numerator, den=power.denominator, low=0),
        )

    @classmethod
    def recognise(cls, bus: I2cBus, address: int) -> bool:
        """The part has no id: the settings of a reset without calibration, or a current that follows from shunt
        voltage and calibration as DS equation 4 says."""
        config, calibration = _word(bus, address, REG_CONFIG), _word(bus, address, REG_CALIBRATION)
        if config == CONFIG_AT_RESET and calibration == 0:
            return True
        shunt, current = _signed(_word(bus, address, REG_SHUNT)), _signed(_word(bus, address, REG_CURRENT))
        expected = shunt * calibration / 4096
        return bool(not config & CONFIG_UNUSED and calibration and shunt and abs(current - expected) <= 1)

    def open(self) -> None:
        """Write settings and calibration, and read them back: this is all the id there is.

        Raises DeviceMismatch when they do not stay.
        """
        for register, value in (
            (REG_CONFIG, self.config.settings | POWER_DOWN),
            (REG_CALIBRATION, self.config.calibration),
        ):
            self.bus.write(self.config.address, register, value.to_bytes(2, "big"))
            self._check(register, value)

    def trigger(self) -> float:
        """Start one conversion of shunt and bus. Returns seconds until `read` is valid."""
        value = self.config.settings | TRIGGERED
        self.bus.write(self.config.address, REG_CONFIG, value.to_bytes(2, "big"))
        return 2 * SAMPLE_S_MAX * int(self.config.samples)

    def read(self) -> Sequence[Cell]:
        """Bus voltage, shunt voltage, current, power. An overflow costs current and power only.

        Raises DeviceNotReady while it converts, DeviceMismatch when the part has lost its calibration: without one it
        would give a current of 0.
        """
        bus = self._read(REG_BUS)
        if not bus & CONVERSION_READY:
            raise DeviceNotReady(f"{self._place}: conversion not finished")
        self._check(REG_CALIBRATION, self.config.calibration)
        shunt = _signed(self._read(REG_SHUNT))
        current, power = _signed(self._read(REG_CURRENT)), self._read(REG_POWER)
        if bus & OVERFLOW:
            text = f"{self._place}: arithmetic overflow: current or power is over the range. Raise current_max"
            return bus >> 3, shunt, DeviceDataBad(text), DeviceDataBad(text)
        return bus >> 3, shunt, current, power

    @property
    def _place(self) -> str:
        return f"INA219 at 0x{self.config.address:02x} on {self.bus.name}"

    def _check(self, register: int, expected: int) -> None:
        value = self._read(register)
        if value != expected:
            raise DeviceMismatch(
                f"{self._place}: register {register} holds 0x{value:04x}, 0x{expected:04x} was written (another part, "
                "or it lost power). Try: edge-agent detect"
            )

    def _read(self, register: int) -> int:
        data: bytes = self.bus.read(self.config.address, register, 2)
        if len(data) != 2:
            raise DeviceDataBad(f"{self._place}: {len(data)} bytes from register {register}, expected 2")
        return int.from_bytes(data, "big")


def _word(bus: I2cBus, address: int, register: int) -> int:
    return int.from_bytes(bus.read(address, register, 2), "big")


def _signed(word: int) -> int:
    return word - (1 << 16) if word & 0x8000 else word
