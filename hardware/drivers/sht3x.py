"""Sensirion SHT30, SHT31, SHT35: temperature and humidity over I2C.

Source: SHT3x-DIS datasheet, version 6 (2019), cited as DS. Single shot, high repeatability, no clock stretching.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hardware.driver import Cell, Channel, Driver, DriverConfig, I2cBus
from hardware.errors import DeviceDataBad, DeviceMismatch, DeviceNoAnswer

MEASURE = bytes.fromhex("2400")  # DS table 9: high repeatability, clock stretching disabled
READ_STATUS = bytes.fromhex("f32d")  # DS 4.11
CONVERSION_S_MAX = 0.0155  # DS table 4: 15 ms from 2.4 V on, 15.5 ms below
STATUS_BYTES = 3
RESULT_BYTES = 6  # temperature, its CRC, humidity, its CRC
CRC_POLYNOMIAL = 0x31  # DS 4.12: x^8 + x^5 + x^4 + 1, start 0xFF
CRC_START = 0xFF
STATUS_RESERVED = 0x500C  # DS table 18: bits 14, 12, 3 and 2 always read 0
FULL_SCALE = 65535  # DS 4.13: T = -45 + 175 S / 65535, RH = 100 S / 65535


class Sht3xConfig(DriverConfig, frozen=True):
    """Where the part is."""

    address: Literal[0x44, 0x45] = 0x44  # DS table 8: ADDR to ground, to supply


def crc8(data: bytes) -> int:
    """Checksum of one word (DS 4.12)."""
    crc = CRC_START
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ CRC_POLYNOMIAL) & 0xFF if crc & 0x80 else crc << 1
    return crc


class SHT3x(Driver):
    """One part, idle between readings. Periodic acquisition by another program must be off."""

    Config = Sht3xConfig
    bus_kind = "i2c"
    addresses = (0x44, 0x45)
    CHANNELS = (  # ranges: DS tables 1 and 2
        Channel("temperature", "Cel", "temperature", num=175, den=FULL_SCALE, off=-45 * FULL_SCALE, low=-40, high=125),
        Channel("humidity", "%RH", "humidity", num=100, den=FULL_SCALE, low=0, high=100),
    )

    @classmethod
    def channels_of(cls, config: Sht3xConfig) -> Sequence[Channel]:
        """See `Driver`."""
        return cls.CHANNELS

    @classmethod
    def recognise(cls, bus: I2cBus, address: int) -> bool:
        """By a status register whose checksum is right.

        The part has no registers, and to a part that has, its commands would be writes: whatever answers a register
        read is not asked. An idle SHT3x does not acknowledge one (DS 4.4).
        """
        try:
            bus.read(address, 0x00, 1)
            return False
        except DeviceNoAnswer:
            pass
        return _is_status(bus.transfer(address, READ_STATUS, STATUS_BYTES))

    def open(self) -> None:
        """Read the status register: its checksum and reserved bits are all the id there is.

        Raises DeviceMismatch when they are wrong.
        """
        status = self._transfer(READ_STATUS, STATUS_BYTES)
        if not _is_status(status):
            raise DeviceMismatch(f"{self._place}: status 0x{status.hex()} is none of an SHT3x. Try: edge-agent detect")

    def trigger(self) -> float:
        """Start one conversion. Returns seconds until `read` is valid."""
        self.bus.transfer(self.config.address, MEASURE, 0)
        return CONVERSION_S_MAX

    def read(self) -> Sequence[Cell]:
        """Temperature and humidity. A word with a wrong checksum is a gap of its channel alone.

        Raises DeviceNoAnswer when no conversion has ended: the part then does not acknowledge (DS 4.4).
        """
        data = self._transfer(b"", RESULT_BYTES)
        return [self._word("temperature", data[:3]), self._word("humidity", data[3:])]

    @property
    def _place(self) -> str:
        return f"SHT3x at 0x{self.config.address:02x} on {self.bus.name}"

    def _word(self, name: str, data: bytes) -> Cell:
        if crc8(data[:2]) != data[2]:
            text = f"{self._place}: {name} 0x{data[:2].hex()} has checksum 0x{data[2]:02x}, not 0x{crc8(data[:2]):02x}"
            return DeviceDataBad(text)
        return int.from_bytes(data[:2], "big")

    def _transfer(self, command: bytes, length: int) -> bytes:
        data: bytes = self.bus.transfer(self.config.address, command, length)
        if len(data) != length:
            raise DeviceDataBad(f"{self._place}: {len(data)} bytes came, expected {length}")
        return data


def _is_status(data: bytes) -> bool:
    return (
        len(data) == STATUS_BYTES
        and crc8(data[:2]) == data[2]
        and not int.from_bytes(data[:2], "big") & STATUS_RESERVED
    )
