"""The conformance kit's part on an I2C bus: a dump of its registers, or its answers to commands."""

from __future__ import annotations

import random
from collections.abc import Mapping

from hardware.errors import DeviceError, DeviceNoAnswer

REGISTERS = 256


class RegisterBus:
    """One part as a dump of its registers, or as its answers to what is written.

    Transaction number `fail_at` (from 0) raises `failure` instead. `short` answers one byte less than asked. With
    `noise` a part of the answers is made up. Writes are kept in `writes` and change nothing but which of the answers
    comes, so that results stay.
    """

    name = "i2c-1"

    def __init__(self, registers: Mapping[int, int], answers: Mapping[bytes, bytes] | None = None) -> None:
        self._answers = answers or {}
        self._registers = bytes(registers.get(at, 0) for at in range(REGISTERS))
        self.transactions = 0
        self.writes: list[bytes] = []
        self.fail_at: int | None = None
        self.failure: DeviceError = DeviceNoAnswer("NAK")
        self.short = False
        self.noise: random.Random | None = None

    def transfer(self, address: int, data: bytes, length: int) -> bytes:
        """See `I2cBus`."""
        number, self.transactions = self.transactions, self.transactions + 1
        if number == self.fail_at:
            raise self.failure
        if not length:
            self.writes.append(data)
            return b""
        last = self.writes[-1] if self.writes else b""
        start = data[0] if data else 0
        dump = bytes(self._registers[(start + offset) % REGISTERS] for offset in range(length))
        answer = self._answers.get(last + data, self._answers.get(data, dump))[:length]
        if self.noise is not None and self.noise.random() < 0.5:
            return self.noise.randbytes(length)
        return answer[:-1] if self.short else answer

    def write(self, address: int, register: int, data: bytes) -> None:
        """See `I2cBus`."""
        self.transfer(address, bytes([register]) + data, 0)

    def read(self, address: int, register: int, length: int) -> bytes:
        """See `I2cBus`."""
        return self.transfer(address, bytes([register]), length)

    def close(self) -> None:
        """See `I2cBus`."""
