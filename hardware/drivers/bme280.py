"""Bosch BME280: temperature, pressure and humidity over I2C.

Source: BST-BME280-DS002 rev 1.6, cited as DS. Everything is oversampled once, in forced mode, without filter.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hardware.driver import Cell, Channel, Driver, DriverConfig, I2cBus
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNotReady

CHIP_ID = 0x60  # DS 5.4.1
BMP280_IDS = frozenset({0x56, 0x57, 0x58})  # BST-BMP280-DS001 4.3.1: the same part without humidity
REG_CALIBRATION = 0x88  # DS 4.2.2: 0x88..0xA1
CALIBRATION_BYTES = 26
REG_ID = 0xD0  # DS 5.4.1
REG_CALIBRATION_HUMIDITY = 0xE1  # DS 4.2.2: 0xE1..0xE7
CALIBRATION_HUMIDITY_BYTES = 7
REG_CTRL_HUM = 0xF2  # DS 5.4.3: takes effect with the next write of ctrl_meas
REG_STATUS = 0xF3  # DS 5.4.4
REG_CTRL_MEAS = 0xF4  # DS 5.4.5
REG_CONFIG = 0xF5  # DS 5.4.6
STATUS_MEASURING = 0b1000  # DS 5.4.4
STATUS_COPYING = 0b0001  # DS 5.4.4: im_update, calibration is being copied from non-volatile memory
SLEEP = 0b000_000_00
HUMIDITY_X1 = 0b001
FORCED_X1 = 0b001_001_01  # osrs_t x1, osrs_p x1, mode forced
MODE_BITS = 0b11
FILTER_OFF = 0x00
CONVERSION_S_MAX = 0.0093  # DS 9.1, all oversampling x1: 1.25 + 2.3 + (2.3 + 0.575) + (2.3 + 0.575) ms
RESULT_BYTES = 12  # 0xF3..0xFE in one burst: status, settings, then the shadowed data of DS 4
SKIPPED_20_BIT = 0x80000  # DS 5.4.7, 5.4.8: the measurement was switched off
SKIPPED_16_BIT = 0x8000  # DS 5.4.9


class BME280Config(DriverConfig, frozen=True):
    """Where the part is."""

    address: Literal[0x76, 0x77] = 0x76  # DS 6.2: SDO to ground, to supply


@dataclass(frozen=True, slots=True)
class Calibration:
    """Trimming parameters, DS 4.2.2: t is dig_T1..3, p is dig_P1..9, h is dig_H1..6."""

    t: tuple[int, int, int]
    p: tuple[int, int, int, int, int, int, int, int, int]
    h: tuple[int, int, int, int, int, int]

    @classmethod
    def unpack(cls, low: bytes, high: bytes) -> Calibration:
        """From registers 0x88..0xA1 and 0xE1..0xE7. dig_H4 and dig_H5 are 12 bits wide and share 0xE5."""
        words = struct.unpack("<HhhHhhhhhhhh", low[:24])
        h2, h3 = struct.unpack("<hB", high[:3])
        h4 = struct.unpack("b", high[3:4])[0] << 4 | high[4] & 0x0F
        h5 = struct.unpack("b", high[5:6])[0] << 4 | high[4] >> 4
        h6 = struct.unpack("b", high[6:7])[0]
        t1, t2, t3, p1, p2, p3, p4, p5, p6, p7, p8, p9 = words
        return cls((t1, t2, t3), (p1, p2, p3, p4, p5, p6, p7, p8, p9), (low[25], h2, h3, h4, h5, h6))


@dataclass(frozen=True, slots=True)
class Codes:
    """One conversion as the converter gave it: 20, 20 and 16 bits."""

    temperature: int
    pressure: int
    humidity: int

    @classmethod
    def unpack(cls, data: bytes) -> Codes:
        """From registers 0xF7..0xFE (DS 4): pressure, temperature, humidity, most significant byte first."""
        return cls(
            temperature=data[3] << 12 | data[4] << 4 | data[5] >> 4,
            pressure=data[0] << 12 | data[1] << 4 | data[2] >> 4,
            humidity=data[6] << 8 | data[7],
        )


def fine_temperature(calibration: Calibration, code: int) -> int:
    """t_fine of DS 4.2.3: temperature in 1/5120 Cel, which the other two need."""
    t1, t2, t3 = calibration.t
    var1 = (((code >> 3) - (t1 << 1)) * t2) >> 11
    var2 = (((((code >> 4) - t1) * ((code >> 4) - t1)) >> 12) * t3) >> 14
    return var1 + var2


def compensate_temperature(t_fine: int) -> int:
    """DS 4.2.3: 0.01 Cel."""
    return (t_fine * 5 + 128) >> 8


def compensate_pressure(calibration: Calibration, code: int, t_fine: int) -> int:
    """DS 4.2.3, 64-bit version: Q24.8, Pa / 256. Raises DeviceDataBad where the formula would divide by zero."""
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = calibration.p
    var1 = t_fine - 128000
    var2 = var1 * var1 * p6
    var2 += (var1 * p5) << 17
    var2 += p4 << 35
    var1 = ((var1 * var1 * p3) >> 8) + ((var1 * p2) << 12)
    var1 = (((1 << 47) + var1) * p1) >> 33
    if var1 == 0:
        raise DeviceDataBad("pressure cannot be computed: the calibration makes the divisor zero")
    numerator = (((1048576 - code) << 31) - var2) * 3125
    pressure = abs(numerator) // abs(var1)  # C divides towards zero
    if (numerator < 0) != (var1 < 0):
        pressure = -pressure
    var1 = (p9 * (pressure >> 13) * (pressure >> 13)) >> 25
    var2 = (p8 * pressure) >> 19
    return ((pressure + var1 + var2) >> 8) + (p7 << 4)


def compensate_humidity(calibration: Calibration, code: int, t_fine: int) -> int:
    """DS 4.2.3: Q22.10, %RH / 1024, held to 0..100 as there."""
    h1, h2, h3, h4, h5, h6 = calibration.h
    t = t_fine - 76800
    first = ((code << 14) - (h4 << 20) - h5 * t + 16384) >> 15
    second = (((((t * h6) >> 10) * (((t * h3) >> 11) + 32768)) >> 10) + 2097152) * h2 + 8192
    v = first * (second >> 14)
    v -= ((((v >> 15) * (v >> 15)) >> 7) * h1) >> 4
    return min(max(v, 0), 419430400) >> 12


def compensate(calibration: Calibration, codes: Codes) -> tuple[int | DeviceDataBad, ...]:
    """Raw temperature (0.01 Cel), pressure (Pa / 256) and humidity (%RH / 1024) of one conversion.

    A channel whose measurement was skipped is an error of its own; without temperature nothing can be compensated.
    """
    if codes.temperature == SKIPPED_20_BIT:
        skipped = DeviceDataBad(f"temperature was not converted (code 0x{SKIPPED_20_BIT:05x})")
        return skipped, skipped, skipped
    t_fine = fine_temperature(calibration, codes.temperature)
    pressure: int | DeviceDataBad
    humidity: int | DeviceDataBad
    if codes.pressure == SKIPPED_20_BIT:
        pressure = DeviceDataBad(f"pressure was not converted (code 0x{SKIPPED_20_BIT:05x})")
    else:
        try:
            pressure = compensate_pressure(calibration, codes.pressure, t_fine)
        except DeviceDataBad as error:
            pressure = error
    if codes.humidity == SKIPPED_16_BIT:
        humidity = DeviceDataBad(f"humidity was not converted (code 0x{SKIPPED_16_BIT:04x})")
    else:
        humidity = compensate_humidity(calibration, codes.humidity, t_fine)
    return compensate_temperature(t_fine), pressure, humidity


class BME280(Driver):
    """One part. Any conversion that another program has under way is ended by `open`."""

    Config = BME280Config
    bus_kind = "i2c"
    addresses = (0x76, 0x77)
    CHANNELS = (  # ranges: DS 1.1 to 1.3
        Channel("temperature", "Cel", "temperature", den=100, low=-40, high=85),
        Channel("pressure", "Pa", "atmospheric_pressure", den=256, low=30_000, high=110_000),
        Channel("humidity", "%RH", "humidity", den=1024, low=0, high=100),
    )

    @classmethod
    def channels_of(cls, config: BME280Config) -> Sequence[Channel]:
        """See `Driver`."""
        return cls.CHANNELS

    @classmethod
    def recognise(cls, bus: I2cBus, address: int) -> bool:
        """By the id register (DS 5.4.1)."""
        return bus.read(address, REG_ID, 1) == bytes([CHIP_ID])

    def open(self) -> None:
        """Probe the id, read the calibration and put the part to sleep with known settings.

        Raises DeviceMismatch for another part, DeviceNotReady while the part still copies its calibration (up to
        2 ms after power-on, DS 1.1), DeviceDataBad for a calibration that is blank.
        """
        chip_id = self._read(REG_ID, 1)[0]
        if chip_id != CHIP_ID:
            guess = " (a BMP280?)" if chip_id in BMP280_IDS else ""
            raise DeviceMismatch(f"{self._place}: chip id 0x{chip_id:02x}, expected 0x{CHIP_ID:02x}{guess}")
        if self._read(REG_STATUS, 1)[0] & STATUS_COPYING:
            raise DeviceNotReady(f"{self._place}: still copying its calibration after power-on")
        low = self._read(REG_CALIBRATION, CALIBRATION_BYTES)
        high = self._read(REG_CALIBRATION_HUMIDITY, CALIBRATION_HUMIDITY_BYTES)
        if low[:2] in (b"\x00\x00", b"\xff\xff"):
            raise DeviceDataBad(f"{self._place}: calibration is blank (dig_T1 = 0x{low[:2].hex()})")
        self._calibration = Calibration.unpack(low, high)
        self.bus.write(self.config.address, REG_CTRL_MEAS, bytes([SLEEP]))  # DS 5.4.6: config is taken in sleep only
        self.bus.write(self.config.address, REG_CONFIG, bytes([FILTER_OFF]))

    def trigger(self) -> float:
        """Start one forced conversion. Returns seconds until `read` is valid."""
        settings = bytes([REG_CTRL_HUM, HUMIDITY_X1, REG_CTRL_MEAS, FORCED_X1])  # DS 6.2.1: register, value pairs
        self.bus.transfer(self.config.address, settings, 0)
        return CONVERSION_S_MAX

    def read(self) -> Sequence[Cell]:
        """Temperature, pressure, humidity of the conversion that `trigger` started.

        Raises DeviceNotReady while it runs, DeviceDataBad for bytes the part cannot give.
        """
        result = self._read(REG_STATUS, RESULT_BYTES)
        status, settings, data = result[0], result[1], result[4:]
        if data[2] & 0x0F or data[5] & 0x0F:  # DS 5.4.7, 5.4.8: the low half of xlsb is always 0
            raise DeviceDataBad(f"{self._place}: impossible data 0x{data.hex()}")
        if status & STATUS_MEASURING or settings & MODE_BITS:
            raise DeviceNotReady(f"{self._place}: conversion not finished after {CONVERSION_S_MAX * 1000:.1f} ms")
        return compensate(self._calibration, Codes.unpack(data))

    @property
    def _place(self) -> str:
        return f"BME280 at 0x{self.config.address:02x} on {self.bus.name}"

    def _read(self, register: int, length: int) -> bytes:
        data: bytes = self.bus.read(self.config.address, register, length)
        if len(data) != length:
            raise DeviceDataBad(f"{self._place}: {len(data)} bytes from 0x{register:02x}, expected {length}")
        return data
