"""Physical buses, as drivers get them. The only importer of smbus2.

`/dev/i2c-N` is the kernel's device. `unix:PATH` is a message-level bus over a Unix socket, for a simulator on
machines where no virtual device can be made. Both give the same errors.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import struct
from typing import Any

from hardware.errors import BusDown, DeviceDataBad, DeviceError, DeviceNoAnswer, DeviceTimeout

I2C_TIMEOUT = 0x0702  # linux/i2c-dev.h: adapter time-out, in units of 10 ms
ADAPTER_TIMEOUT_MS = 250  # a 12-byte burst takes 1.4 ms at 100 kHz; the Pi's adapter would wait 1 s by itself
SOCKET_TIMEOUT_S = 2.0  # longer than any simulated adapter waits
MESSAGE_BYTES_MAX = 8192  # linux/i2c-dev.c refuses longer messages

# The socket's frames, little-endian. Request: address, bytes to write, bytes to read, then the bytes to write.
# Answer: errno (0: done), bytes read, then the bytes.
REQUEST = struct.Struct("<BHH")
ANSWER = struct.Struct("<HH")

# Kernel documentation, i2c/fault-codes; the Pi's bcm2835 driver gives EREMOTEIO for a NAK, ETIMEDOUT for a stuck line.
NO_ANSWER = frozenset({errno.EREMOTEIO, errno.ENXIO})
SUSPECT = frozenset({errno.ETIMEDOUT, errno.EIO, errno.EAGAIN, errno.EBUSY})
GARBLED = frozenset({errno.EPROTO, errno.EBADMSG})


def open_i2c(device: str) -> SmbusBus | SocketBus:
    """Open an I2C bus: `/dev/i2c-N`, or `unix:PATH` for a simulated one.

    Raises BusDown, with the fix, when the node is missing or refused or the name is neither.
    """
    if device.startswith("unix:"):
        return SocketBus(device.removeprefix("unix:"))
    if re.fullmatch(r"/dev/i2c-\d+", device):
        return SmbusBus(device)
    raise BusDown(f"I2C bus {device!r} is neither /dev/i2c-N nor unix:PATH. Try: ls /dev/i2c-*")


def device_error(name: str, address: int, code: int) -> DeviceError:
    """The kernel's errno of a transaction as the error that says what to do next."""
    where = f"0x{address:02x} on {name}"
    if code in NO_ANSWER:
        hint = f"; try: i2cdetect -y {name.removeprefix('i2c-')}" if name.startswith("i2c-") else ""
        return DeviceNoAnswer(f"{where}: no answer (NAK). Check power, wiring and address{hint}")
    if code in SUSPECT:
        return DeviceTimeout(f"{where}: {os.strerror(code)} (clock or data line stuck?)")
    if code in GARBLED:
        return DeviceDataBad(f"{where}: {os.strerror(code)}")
    return BusDown(f"{name} is gone: {os.strerror(code)}")


class _Registers:
    """Register access in terms of one transaction; chips count their register pointer up by themselves."""

    name: str

    def transfer(self, address: int, data: bytes, length: int) -> bytes:
        """See `I2cBus`."""
        raise NotImplementedError

    def write(self, address: int, register: int, data: bytes) -> None:
        """See `I2cBus`."""
        self.transfer(address, bytes([register]) + data, 0)

    def read(self, address: int, register: int, length: int) -> bytes:
        """See `I2cBus`."""
        return self.transfer(address, bytes([register]), length)


class SmbusBus(_Registers):
    """`/dev/i2c-N` through smbus2, by combined transactions (I2C_RDWR)."""

    def __init__(self, device: str) -> None:
        """Open the node. Raises BusDown with the fix."""
        import smbus2

        self.name = device.removeprefix("/dev/")
        self._message = smbus2.i2c_msg
        try:
            self._smbus: Any = smbus2.SMBus(device)
        except OSError as error:
            raise BusDown(_open_problem(device, error)) from error
        try:
            fcntl.ioctl(self._smbus.fd or -1, I2C_TIMEOUT, ADAPTER_TIMEOUT_MS // 10)
        except OSError as error:
            self.close()
            raise BusDown(_open_problem(device, error)) from error

    def transfer(self, address: int, data: bytes, length: int) -> bytes:
        """See `I2cBus`."""
        answer = self._message.read(address, length) if length else None
        messages = [self._message.write(address, data)] if data else []
        if answer is not None:
            messages.append(answer)
        try:
            self._smbus.i2c_rdwr(*messages)
        except OSError as error:
            raise device_error(self.name, address, error.errno or errno.EIO) from error
        except TypeError as error:  # smbus2 forgets its descriptor in close()
            raise BusDown(f"{self.name} is closed") from error
        return bytes(answer) if answer is not None else b""

    def close(self) -> None:
        """See `I2cBus`."""
        self._smbus.close()


class SocketBus(_Registers):
    """A simulated bus behind a Unix stream socket. Connects again after a time-out or a broken connection."""

    def __init__(self, path: str, timeout_s: float = SOCKET_TIMEOUT_S) -> None:
        """Connect. Raises BusDown when nobody listens."""
        self.name = f"unix:{path}"
        self._path = path
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = self._connect()

    def transfer(self, address: int, data: bytes, length: int) -> bytes:
        """See `I2cBus`."""
        if max(len(data), length) > MESSAGE_BYTES_MAX:
            raise ValueError(f"{max(len(data), length)} bytes in one message; {MESSAGE_BYTES_MAX} are allowed")
        if self._socket is None:
            self._socket = self._connect()
        try:
            self._socket.sendall(REQUEST.pack(address, len(data), length) + data)
            code, count = ANSWER.unpack(receive_exactly(self._socket, ANSWER.size))
            answer = receive_exactly(self._socket, min(count, MESSAGE_BYTES_MAX))
        except TimeoutError as error:
            self.close()
            raise DeviceTimeout(f"0x{address:02x} on {self.name}: no answer in {self._timeout_s} s") from error
        except OSError as error:
            self.close()
            raise BusDown(f"{self.name} is gone: {error}") from error
        if code:
            raise device_error(self.name, address, code)
        if len(answer) != length:
            raise DeviceDataBad(f"0x{address:02x} on {self.name}: {len(answer)} bytes came, expected {length}")
        return answer

    def close(self) -> None:
        """See `I2cBus`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout_s)
        try:
            connection.connect(self._path)
        except OSError as error:
            connection.close()
            raise BusDown(f"{self.name}: {error}. Is the simulator running? Try: edge-sim bus --help") from error
        return connection


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """Read `count` bytes. Raises ConnectionResetError when the peer closes early, TimeoutError by the socket's."""
    chunks = bytearray()
    while len(chunks) < count:
        chunk = connection.recv(count - len(chunks))
        if not chunk:
            raise ConnectionResetError("the peer closed the connection")
        chunks += chunk
    return bytes(chunks)


def _open_problem(device: str, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            fix = "no such bus. Try: sudo raspi-config nonint do_i2c 0, then ls /dev/i2c-*"
        case errno.EACCES | errno.EPERM:
            fix = f"not allowed. Try: sudo usermod -aG i2c {os.environ.get('USER', 'USER')}, then log in again"
        case errno.ENOTTY:
            fix = "not an I2C device"
        case _:
            fix = os.strerror(error.errno or errno.EIO)
    return f"{device}: {fix}"
