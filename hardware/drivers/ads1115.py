"""Texas Instruments ADS1115: four voltages, or differences of them, over I2C.

Source: SBAS444E (2024), cited as DS. Single shots, one input after another; the comparator is off.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hardware.driver import Cell, Channel, Driver, DriverConfig, I2cBus
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNotReady
from hardware.formula import exactly, formula

REG_CONVERSION, REG_CONFIG, REG_LOW, REG_HIGH = range(4)  # DS table 8-1
START = 1 << 15  # DS table 8-3: written, starts a conversion; read, 0 while one runs
MUX = {"A0-A1": 0, "A0-A3": 1, "A1-A3": 2, "A2-A3": 3, "A0": 4, "A1": 5, "A2": 6, "A3": 7}
GAIN = {6144: 0, 4096: 1, 2048: 2, 1024: 3, 512: 4, 256: 5}  # millivolt, both ways
RATE = {8: 0, 16: 1, 32: 2, 64: 3, 128: 4, 250: 5, 475: 6, 860: 7}
SINGLE_SHOT = 1 << 8
COMPARATOR_OFF = 0b11
RATE_TOLERANCE = 0.10  # DS 5.5: the oscillator's
WAKE_UP_S = 50e-6  # DS 7.4.2.1 gives about 25 us
LOW_AT_RESET, HIGH_AT_RESET = 0x8000, 0x7FFF  # DS 8.1.4
FULL_SCALE = 1 << 15

Pin = Literal["A0", "A1", "A2", "A3", "A0-A1", "A0-A3", "A1-A3", "A2-A3"]


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One channel: what stands at which pins. value = volt * scale + offset, in `unit`."""

    name: str
    pin: Pin
    range_mv: Literal[6144, 4096, 2048, 1024, 512, 256] = 4096  # both ways; the pins stand no more than the supply
    unit: str = "V"
    scale: float = 1.0
    offset: float = 0.0
    device_class: str = ""

    def __post_init__(self) -> None:
        if self.scale == 0:
            raise ValueError("scale = 0 would make every value the same")
        self.formula()

    def formula(self) -> tuple[int, int, int]:
        """num, den, off for the channel."""
        return formula(Fraction(self.range_mv, 1000 * FULL_SCALE) * exactly(self.scale), exactly(self.offset))


class Ads1115Config(DriverConfig, frozen=True):
    """Where the part is and what it measures. No inputs given: A0 to A3 against ground."""

    address: Literal[0x48, 0x49, 0x4A, 0x4B] = 0x48  # DS table 7-2
    rate: Literal[8, 16, 32, 64, 128, 250, 475, 860] = 128  # conversions per second; slower is quieter
    input: Annotated[tuple[Input, ...], Meta(min_length=1, max_length=16)] = (
        Input("a0", "A0"),
        Input("a1", "A1"),
        Input("a2", "A2"),
        Input("a3", "A3"),
    )


class ADS1115(Driver):
    """One part; it sleeps between conversions."""

    Config = Ads1115Config
    bus_kind = "i2c"
    addresses = (0x48, 0x49, 0x4A, 0x4B)

    @classmethod
    def channels_of(cls, config: Ads1115Config) -> Sequence[Channel]:
        """See `Driver`. The range ends half a step before the codes at which the part clips (DS 7.5.4)."""
        channels = []
        for each in config.input:
            num, den, off = each.formula()
            clip = (FULL_SCALE - 1.5) * num / den
            centre = off / den
            low, high = centre - abs(clip), centre + abs(clip)
            device_class = each.device_class or ("voltage" if each.unit in ("V", "mV") else "")
            channels.append(Channel(each.name, each.unit, device_class, num=num, den=den, off=off, low=low, high=high))
        return channels

    @classmethod
    def recognise(cls, bus: I2cBus, address: int) -> bool:
        """The part has no id: by the thresholds of a reset, which nobody changes who does not use the comparator."""
        low, high = bus.read(address, REG_LOW, 2), bus.read(address, REG_HIGH, 2)
        return (low, high) == (LOW_AT_RESET.to_bytes(2, "big"), HIGH_AT_RESET.to_bytes(2, "big"))

    def open(self) -> None:
        """Write the settings without starting, and read them back: this is all the id there is.

        Raises DeviceMismatch when they do not stay.
        """
        self._write(self._settings(self.config.input[0]))
        self._check(self.config.input[0])
        self._cells: list[Cell] = []

    def trigger(self) -> float:
        """Start the first input's conversion. Returns seconds until `proceed`."""
        self._cells = []
        return self._start()

    def proceed(self) -> float:
        """Take the conversion that has ended and start the next input's; 0 after the last.

        Raises DeviceNotReady while it runs, DeviceMismatch when the settings are not those that were written.
        """
        self._check(self.config.input[len(self._cells)])
        code = int.from_bytes(self._read(REG_CONVERSION), "big", signed=True)
        self._cells.append(code)
        return self._start() if len(self._cells) < len(self.config.input) else 0.0

    def read(self) -> Sequence[Cell]:
        """One code per input, in the order of the configuration."""
        return self._cells

    @property
    def _place(self) -> str:
        return f"ADS1115 at 0x{self.config.address:02x} on {self.bus.name}"

    def _settings(self, each: Input) -> int:
        rate = RATE[self.config.rate]
        return MUX[each.pin] << 12 | GAIN[each.range_mv] << 9 | SINGLE_SHOT | rate << 5 | COMPARATOR_OFF

    def _start(self) -> float:
        self._write(START | self._settings(self.config.input[len(self._cells)]))
        return (1 + RATE_TOLERANCE) / int(self.config.rate) + WAKE_UP_S

    def _check(self, each: Input) -> None:
        found = int.from_bytes(self._read(REG_CONFIG), "big")
        expected = self._settings(each)
        if found & ~START != expected:
            raise DeviceMismatch(
                f"{self._place}: settings are 0x{found & ~START:04x}, 0x{expected:04x} were written (another part, "
                "another program, or it lost power). Try: edge-agent detect"
            )
        if not found & START:
            raise DeviceNotReady(f"{self._place}: conversion of {each.pin} not finished")

    def _write(self, settings: int) -> None:
        self.bus.write(self.config.address, REG_CONFIG, settings.to_bytes(2, "big"))

    def _read(self, register: int) -> bytes:
        data: bytes = self.bus.read(self.config.address, register, 2)
        if len(data) != 2:
            raise DeviceDataBad(f"{self._place}: {len(data)} bytes from register {register}, expected 2")
        return data
