"""The ioctls of /dev/i2c-N over a line, with this process' own bytes as the caller's memory."""

import errno
import struct

import pytest

from simulator.chips.chip import Fault
from simulator.i2c_ioctl import FUNCS, RDWR_MESSAGE, RDWR_REQUEST, SMBUS_REQUEST, OpenFile, Smbus, smbus_messages
from simulator.i2c_line import I2cLine, LineFault, Message


class Memory:
    """Flat memory; a block is a view of it."""

    def __init__(self) -> None:
        self.data = bytearray(65536)


class MemoryBlock:
    """See `Block`."""

    def __init__(self, memory: Memory, address: int, length: int) -> None:
        self.memory, self.address, self.length = memory, address, length

    def load(self) -> bytes:
        return bytes(self.memory.data[self.address : self.address + self.length])

    def store(self, data: bytes) -> None:
        self.memory.data[self.address : self.address + len(data)] = data

    def follow(self, offset: int, length: int) -> "MemoryBlock":
        return MemoryBlock(self.memory, struct.unpack_from("<Q", self.load(), offset)[0], length)


class Echo:
    """A part that remembers what was written and reads counting bytes."""

    fault = Fault.NONE

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def read(self, length: int) -> bytes:
        return bytes(range(1, length + 1))


class Rig:
    def __init__(self) -> None:
        self.chip = Echo()
        self.line = I2cLine(1, {0x76: self.chip})
        self.file = OpenFile(self.line)
        self.memory = Memory()

    def call(self, command: int, argument: int) -> int:
        return self.file.ioctl(command, argument, lambda n: MemoryBlock(self.memory, argument, n))

    def smbus(self, reading: bool, register: int, size: int, data: bytes = b"") -> bytes:
        self.memory.data[256 : 256 + 34] = data.ljust(34, b"\0")
        SMBUS_REQUEST.pack_into(self.memory.data, 64, reading, register, size, 256)
        assert self.call(0x720, 64) == 0
        return bytes(self.memory.data[256 : 256 + 34])

    def rdwr(self, *messages: tuple[int, int, int, int], count: int | None = None) -> int:
        RDWR_REQUEST.pack_into(self.memory.data, 64, 1024, len(messages) if count is None else count)
        for index, message in enumerate(messages):
            RDWR_MESSAGE.pack_into(self.memory.data, 1024 + 16 * index, *message)
        return self.call(0x707, 64)


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.call(0x703, 0x76)
    return rig


def test_funcs_are_those_of_the_pi(rig: Rig) -> None:
    rig.call(0x705, 512)
    assert struct.unpack_from("<Q", rig.memory.data, 512)[0] == FUNCS


def test_smbus_calls_become_messages(rig: Rig) -> None:
    assert rig.smbus(True, 0, Smbus.BYTE)[:1] == b"\x01"
    rig.smbus(False, 0x11, Smbus.BYTE)
    assert rig.smbus(True, 0x12, Smbus.BYTE_DATA)[:1] == b"\x01"
    rig.smbus(False, 0x13, Smbus.BYTE_DATA, b"\xaa")
    assert rig.smbus(True, 0x14, Smbus.WORD_DATA)[:2] == b"\x01\x02"
    rig.smbus(False, 0x15, Smbus.WORD_DATA, b"\xbb\xcc")
    assert rig.smbus(True, 0x16, Smbus.I2C_BLOCK_DATA, b"\x03")[:4] == b"\x03\x01\x02\x03"
    rig.smbus(False, 0x17, Smbus.I2C_BLOCK_DATA, b"\x02\xdd\xee")
    rig.smbus(False, 0x18, Smbus.BLOCK_DATA, b"\x02\xdd\xee")
    assert rig.smbus(False, 0x19, Smbus.PROC_CALL, b"\x05\x06")[:2] == b"\x01\x02"
    rig.smbus(False, 0, Smbus.QUICK)
    assert rig.chip.written == [
        b"\x11",
        b"\x12",
        b"\x13\xaa",
        b"\x14",
        b"\x15\xbb\xcc",
        b"\x16",
        b"\x17\xdd\xee",
        b"\x18\x02\xdd\xee",
        b"\x19\x05\x06",
        b"",
    ]


def test_combined_transactions(rig: Rig) -> None:
    rig.memory.data[2048] = 0xF7
    assert rig.rdwr((0x76, 0, 1, 2048), (0x76, 1, 8, 4096)) == 2
    assert rig.memory.data[4096:4104] == bytes(range(1, 9))
    assert rig.chip.written == [b"\xf7"]


@pytest.mark.parametrize(
    ("code", "messages", "count"),
    [
        (errno.EREMOTEIO, [(0x40, 1, 1, 4096)], None),
        (errno.EINVAL, [], None),
        (errno.EINVAL, [(0x76, 1, 1, 4096)], 43),
        (errno.EINVAL, [(0x76, 1, 8193, 4096)], None),
        (errno.EINVAL, [(0x76, 0x10, 1, 4096)], None),
        (errno.EOPNOTSUPP, [(0x76, 0x401, 1, 4096)], None),
    ],
)
def test_what_the_kernel_refuses_is_refused(
    rig: Rig, code: int, messages: list[tuple[int, int, int, int]], count: int | None
) -> None:
    with pytest.raises(LineFault) as fault:
        rig.rdwr(*messages, count=count)
    assert fault.value.code == code


@pytest.mark.parametrize(
    ("command", "argument", "code"),
    [(0x703, 0x80, errno.EINVAL), (0x704, 1, errno.EINVAL), (0x708, 1, errno.EINVAL), (0x710, 0, errno.ENOTTY)],
)
def test_other_ioctls(rig: Rig, command: int, argument: int, code: int) -> None:
    with pytest.raises(LineFault) as fault:
        rig.call(command, argument)
    assert fault.value.code == code


def test_kinds_that_are_not_named_are_refused() -> None:
    for reading, size in ((True, Smbus.BLOCK_DATA), (True, 7), (False, 99)):
        with pytest.raises(LineFault) as fault:
            smbus_messages(0x76, reading, 0, size, bytes(34))
        assert fault.value.code == errno.EOPNOTSUPP
    with pytest.raises(LineFault):
        smbus_messages(0x76, True, 0, Smbus.I2C_BLOCK_DATA, bytes([33]) + bytes(33))


def test_a_hanging_part_holds_the_line_for_the_adapters_timeout(rig: Rig) -> None:
    rig.chip.fault = Fault.HANG
    for wanted in (1.0, 0.25):
        with pytest.raises(LineFault) as fault:
            rig.line.transact([Message(0x76, b"")])
        assert (fault.value.code, fault.value.hold_s) == (errno.ETIMEDOUT, wanted)
        rig.call(0x702, 25)
