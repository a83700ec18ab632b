"""The ioctls of /dev/i2c-N over an I2C line. Transports bring the caller's memory as `Block`s.

Source: linux/i2c-dev.h, linux/i2c.h and the kernel's SMBus-over-I2C emulation (i2c_smbus_xfer_emulated).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Protocol

from simulator.i2c_line import LineFault, Message

FUNCS = 0x0EFF0009  # I2C_FUNC_I2C | I2C_FUNC_SMBUS_EMUL, as the Pi's adapter says
SMBUS_REQUEST = struct.Struct("<BBxxIQ")  # struct i2c_smbus_ioctl_data
SMBUS_DATA_BYTES = 34  # union i2c_smbus_data
BLOCK_BYTES_MAX = 32
RDWR_REQUEST = struct.Struct("<QI4x")  # struct i2c_rdwr_ioctl_data
RDWR_MESSAGE = struct.Struct("<HHHxxQ")  # struct i2c_msg
RDWR_MESSAGES_MAX = 42
RDWR_BYTES_MAX = 8192
FLAG_READ, FLAG_TEN = 0x0001, 0x0010


class Ioctl(IntEnum):
    """The commands."""

    RETRIES = 0x0701
    TIMEOUT = 0x0702  # units of 10 ms
    SLAVE = 0x0703
    TENBIT = 0x0704
    FUNCS = 0x0705
    SLAVE_FORCE = 0x0706
    RDWR = 0x0707
    PEC = 0x0708
    SMBUS = 0x0720


class Smbus(IntEnum):
    """The kinds of an SMBus call."""

    QUICK = 0
    BYTE = 1
    BYTE_DATA = 2
    WORD_DATA = 3
    PROC_CALL = 4
    BLOCK_DATA = 5
    I2C_BLOCK_DATA = 8


class Line(Protocol):
    """What the ioctls need of a line, here or in another process."""

    timeout_s: float

    def transact(self, messages: Sequence[Message]) -> list[bytes]:
        """See `I2cLine`."""
        ...


class Block(Protocol):
    """A stretch of the caller's memory."""

    def load(self) -> bytes:
        """Its bytes."""
        ...

    def store(self, data: bytes) -> None:
        """Write from its start."""
        ...

    def follow(self, offset: int, length: int) -> Block:
        """The stretch that the pointer at `offset` points to."""
        ...


class OpenFile:
    """One open /dev/i2c-N: the address that I2C_SLAVE set."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.address = 0

    def ioctl(self, command: int, argument: int, follow: Callable[[int], Block]) -> int:
        """One call; `follow(n)` is the block of n bytes that the argument points to. Raises LineFault."""
        match command:
            case Ioctl.SLAVE | Ioctl.SLAVE_FORCE:
                if argument > 0x7F:
                    raise LineFault(errno.EINVAL)
                self.address = argument
                return 0
            case Ioctl.FUNCS:
                follow(8).store(struct.pack("<Q", FUNCS))
                return 0
            case Ioctl.TIMEOUT:
                self.line.timeout_s = argument * 0.010
                return 0
            case Ioctl.RETRIES:
                return 0
            case Ioctl.TENBIT | Ioctl.PEC:  # both are off, and stay so
                if argument:
                    raise LineFault(errno.EINVAL)
                return 0
            case Ioctl.RDWR:
                return self._rdwr(follow(RDWR_REQUEST.size))
            case Ioctl.SMBUS:
                return self._smbus(follow(SMBUS_REQUEST.size))
            case _:
                raise LineFault(errno.ENOTTY)

    def _rdwr(self, request: Block) -> int:
        pointer, count = RDWR_REQUEST.unpack(request.load())
        if not pointer or not 1 <= count <= RDWR_MESSAGES_MAX:
            raise LineFault(errno.EINVAL)
        table = request.follow(0, RDWR_MESSAGE.size * count)
        messages: list[Message] = []
        buffers: list[Block] = []
        for index, (address, flags, length, _) in enumerate(RDWR_MESSAGE.iter_unpack(table.load())):
            if length > RDWR_BYTES_MAX or flags & FLAG_TEN:
                raise LineFault(errno.EINVAL)
            if flags & ~FLAG_READ:
                raise LineFault(errno.EOPNOTSUPP)
            buffer = table.follow(RDWR_MESSAGE.size * index + 8, length) if length else None
            if flags & FLAG_READ:
                messages.append(Message(address, None, length))
                if buffer is not None:
                    buffers.append(buffer)
            else:
                messages.append(Message(address, buffer.load() if buffer is not None else b""))
        answers = [answer for answer in self.line.transact(messages) if answer]
        for buffer, answer in zip(buffers, answers):
            buffer.store(answer)
        return int(count)

    def _smbus(self, request: Block) -> int:
        reading, register, size, pointer = SMBUS_REQUEST.unpack(request.load())
        block = request.follow(8, SMBUS_DATA_BYTES) if pointer else None
        data = block.load() if block is not None else bytes(SMBUS_DATA_BYTES)
        messages, head = smbus_messages(self.address, bool(reading), register, size, data)
        answers = self.line.transact(messages)
        if answers and block is not None:
            block.store(head + answers[-1])
        return 0


def smbus_messages(address: int, reading: bool, register: int, size: int, data: bytes) -> tuple[list[Message], bytes]:
    """An SMBus call as I2C messages, and what stands before the answer in the caller's union.

    Raises LineFault(EOPNOTSUPP) for a kind that FUNCS does not name.
    """
    command = bytes([register])
    match size:
        case Smbus.QUICK:
            return [Message(address, None, 0) if reading else Message(address, b"")], b""
        case Smbus.BYTE:
            return [Message(address, None, 1) if reading else Message(address, command)], b""
        case Smbus.BYTE_DATA | Smbus.WORD_DATA:
            count = size - 1
            if reading:
                return [Message(address, command), Message(address, None, count)], b""
            return [Message(address, command + data[:count])], b""
        case Smbus.PROC_CALL:
            return [Message(address, command + data[:2]), Message(address, None, 2)], b""
        case Smbus.I2C_BLOCK_DATA:  # the union's first byte is the count
            count = data[0]
            if not 1 <= count <= BLOCK_BYTES_MAX:
                raise LineFault(errno.EINVAL)
            if reading:
                return [Message(address, command), Message(address, None, count)], bytes([count])
            return [Message(address, command + data[1 : 1 + count])], b""
        case Smbus.BLOCK_DATA if not reading:
            count = data[0]
            if not 1 <= count <= BLOCK_BYTES_MAX:
                raise LineFault(errno.EINVAL)
            return [Message(address, command + data[: 1 + count])], b""
        case _:
            raise LineFault(errno.EOPNOTSUPP)
