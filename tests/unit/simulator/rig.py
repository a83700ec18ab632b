"""A simulated I2C part, and a driver on it, in time that passes when told."""

from __future__ import annotations

from collections.abc import Sequence

from hardware.buses import device_error
from hardware.driver import Cell, Driver
from simulator.chips.chip import I2cChip
from simulator.i2c_line import I2cLine, LineFault, Message
from wire.clock import NS_PER_S, SyncState


class StepClock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now_ns = 10 * NS_PER_S

    def wall_ns(self) -> int:
        return self.now_ns

    def boottime_ns(self) -> int:
        return self.now_ns

    def sync_state(self) -> SyncState:
        return SyncState(True, 0)

    def sleep(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS_PER_S)


class LineBus:
    """A line as the driver's bus: faults become the driver's errors, by the same table as in production."""

    name = "i2c-1"

    def __init__(self, line: I2cLine) -> None:
        self.line = line

    def transfer(self, address: int, data: bytes, length: int) -> bytes:
        messages = [Message(address, data)] if data else []
        if length:
            messages.append(Message(address, None, length))
        try:
            return b"".join(self.line.transact(messages))
        except LineFault as fault:
            raise device_error(self.name, address, fault.code) from fault

    def write(self, address: int, register: int, data: bytes) -> None:
        self.transfer(address, bytes([register]) + data, 0)

    def read(self, address: int, register: int, length: int) -> bytes:
        return self.transfer(address, bytes([register]), length)

    def close(self) -> None:
        pass


class Bench:
    """One part on a line of its own, and a driver."""

    def __init__(self, clock: StepClock, chip: I2cChip, driver: type[Driver], config: object) -> None:
        self.clock = clock
        self.line = I2cLine(1, {config.address: chip})
        self.bus = LineBus(self.line)
        self.driver = driver(config, self.bus)

    def cycle(self) -> Sequence[Cell]:
        """As the agent drives it."""
        wait_s = self.driver.trigger()
        while wait_s > 0:
            self.clock.sleep(wait_s)
            wait_s = self.driver.proceed()
        return self.driver.read()
