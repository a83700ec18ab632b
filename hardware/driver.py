"""What a driver is: blocking code in datasheet order, with no clock, no sleep, no thread and no asyncio.

Life: `open` once (probe the id, read calibration), then per cycle `trigger`, wait the seconds it returned, `proceed`
and wait again until it returns 0, `read`; `close` at the end. After any error the agent may call `close` and `open`
again.
Registration is an entry point in the group `edge_agent.drivers`, the same for ours and for anyone's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from hardware.errors import DeviceError

Raw = int | float
Cell = Raw | DeviceError  # a channel that failed alone is a gap with its own reason


@dataclass(frozen=True, slots=True)
class Channel:
    """One quantity of a sensor. value = (raw * num + off) / den, in `unit` (SenML, RFC 8428 and its registry)."""

    name: str
    unit: str
    device_class: str = ""  # Home Assistant's vocabulary
    value_type: Literal["int", "float32", "float64"] = "int"
    num: int = 1
    den: int = 1
    off: int = 0
    low: float | None = None  # what the part can give, in `unit`
    high: float | None = None
    rate_max: float | None = None  # unit per second


class DriverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of one sensor: a driver adds its own. Unknown keys are refused.

    A string annotated with `msgspec.Meta(extra={"kind": "path"})` is taken relative to the configuration file.
    """


class I2cBus(Protocol):
    """One I2C bus. Raises DeviceNoAnswer for a NAK, DeviceTimeout for a stuck line, BusDown when the node is gone."""

    @property
    def name(self) -> str:
        """How people call it: `i2c-1`."""
        ...

    def write(self, address: int, register: int, data: bytes) -> None:
        """Write `data` (0 to 32 bytes) from `register` on."""
        ...

    def read(self, address: int, register: int, length: int) -> bytes:
        """Read `length` bytes (1 to 32) from `register` on: write, repeated start, read."""
        ...

    def transfer(self, address: int, data: bytes, length: int) -> bytes:
        """Write `data` if any, then read `length` bytes if any, in one transaction."""
        ...

    def close(self) -> None:
        """Release the node. Must not raise; the bus is not used afterwards."""
        ...


class SerialBus(Protocol):
    """One serial line. Raises BusDown when the node is gone, DeviceTimeout when it takes no bytes."""

    @property
    def name(self) -> str:
        """How people call it: `/dev/ttyUSB0`."""
        ...

    def write(self, data: bytes) -> None:
        """Send."""
        ...

    def read(self, count: int, timeout_s: float) -> bytes:
        """Up to `count` bytes; fewer, or none, when the time is over."""
        ...

    def drain(self) -> bytes:
        """Everything that has come already, oldest first, without waiting."""
        ...

    def modbus_read(self, unit: int, function: int, address: int, count: int, timeout_s: float) -> list[int]:
        """`count` bits (functions 1, 2) or 16-bit registers (3, 4) of a Modbus RTU unit.

        Waits `timeout_s` for the answer to begin and as long again for its rest. Raises DeviceNoAnswer for silence,
        ModbusRefused for an exception, DeviceDataBad for an answer that is cut off, garbled or another one's.
        """
        ...

    def close(self) -> None:
        """Release the node. Must not raise; the bus is not used afterwards."""
        ...


Bus = I2cBus | SerialBus


class Driver:
    """Base of every driver. `Config` and `channels` are what the agent asks before it opens anything."""

    Config: ClassVar[type[DriverConfig]] = DriverConfig
    bus_kind: ClassVar[Literal["i2c", "serial", "none"]] = "none"
    is_prompt: ClassVar[bool] = False  # no bus, and never waits (files of this machine): such sensors share a thread
    byte_bits: ClassVar[int] = 8  # data bits that it needs of a serial line; text does with 7
    addresses: ClassVar[Sequence[int]] = ()  # where `edge-agent detect` may look for the part on an I2C bus

    def __init__(self, config: Any, bus: Any = None) -> None:
        self.config = config
        self.bus = bus

    @classmethod
    def channels_of(cls, config: Any) -> Sequence[Channel]:
        """The channels a sensor with this config has, in the order of `read`. Opens nothing."""
        raise NotImplementedError(f"{cls.__name__} must say which channels it has")

    @classmethod
    def recognise(cls, bus: I2cBus, address: int) -> bool:
        """Whether the part at the address is one of these, by its id. Only reads; a DeviceError means no."""
        return False

    def open(self) -> None:
        """Probe the part and read what it keeps. Raises DeviceMismatch when another part answers."""

    def trigger(self) -> float:
        """Start a conversion. Returns the seconds until `read` is valid (0: at once)."""
        return 0.0

    def proceed(self) -> float:
        """Called after each wait that `trigger` or this asked for: take what is converted, start what comes next.

        Returns the seconds until the next call; 0 when `read` is valid.
        """
        return 0.0

    def read(self) -> Sequence[Cell]:
        """One cell per channel. Raises a DeviceError when the whole sensor failed."""
        raise NotImplementedError(f"{type(self).__name__} must read")

    def close(self) -> None:
        """Leave the part quiet. Must not raise."""
