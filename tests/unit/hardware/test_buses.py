"""Buses: the errno table, and the message bus over a Unix socket against a peer that misbehaves."""

import errno
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hardware import buses
from hardware.errors import BusDown, DeviceDataBad, DeviceNoAnswer, DeviceTimeout


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.EREMOTEIO, DeviceNoAnswer),
        (errno.ENXIO, DeviceNoAnswer),
        (errno.ETIMEDOUT, DeviceTimeout),
        (errno.EIO, DeviceTimeout),
        (errno.EPROTO, DeviceDataBad),
        (errno.ENODEV, BusDown),
        (errno.EBADF, BusDown),
    ],
)
def test_errno_says_what_to_do_next(code: int, kind: type[Exception]) -> None:
    error = buses.device_error("i2c-1", 0x76, code)
    assert type(error) is kind
    assert "i2c-1" in str(error)


@pytest.mark.parametrize("device", ["i2c-1", "/dev/ttyUSB0", "", "unix:/no/such/socket", "/dev/i2c-99"])
def test_a_bus_that_cannot_be_opened_says_the_fix(device: str) -> None:
    with pytest.raises(BusDown, match="Try:"):
        buses.open_i2c(device)


def peer(path: Path, answer: Callable[[socket.socket], None]) -> threading.Thread:
    """Serve `answer` to every connection, until the listener is closed by the last one."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def run() -> None:
        with listener:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    answer(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_the_message_bus_carries_transactions_and_errors(tmp_path: Path) -> None:
    seen = []

    def answer(connection: socket.socket) -> None:
        for _ in range(3):
            try:
                address, count, length = buses.REQUEST.unpack(buses.receive_exactly(connection, buses.REQUEST.size))
            except ConnectionResetError:
                return
            seen.append((address, buses.receive_exactly(connection, count), length))
            code = errno.EREMOTEIO if address == 0x40 else 0
            connection.sendall(buses.ANSWER.pack(code, length) + bytes(range(length)))

    thread = peer(tmp_path / "bus", answer)
    bus = buses.open_i2c(f"unix:{tmp_path}/bus")
    assert bus.read(0x76, 0xF7, 8) == bytes(range(8))
    bus.write(0x76, 0xF4, b"\x25")
    with pytest.raises(DeviceNoAnswer):
        bus.read(0x40, 0, 1)
    bus.close()
    assert seen == [(0x76, b"\xf7", 8), (0x76, b"\xf4\x25", 0), (0x40, b"\x00", 1)]
    buses.SocketBus(f"{tmp_path}/bus").close()
    thread.join(5)


def test_a_silent_peer_is_a_timeout_and_the_next_call_connects_again(tmp_path: Path) -> None:
    release = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.recv(100)
        if release.is_set():
            connection.sendall(buses.ANSWER.pack(0, 1) + b"\x60")
        else:
            release.wait(5)

    thread = peer(tmp_path / "bus", answer)
    bus = buses.SocketBus(f"{tmp_path}/bus", timeout_s=0.05)
    with pytest.raises(DeviceTimeout):
        bus.read(0x76, 0xD0, 1)
    release.set()
    bus._timeout_s = 5
    assert bus.read(0x76, 0xD0, 1) == b"\x60"
    bus.close()
    thread.join(5)


def test_a_short_answer_and_a_closed_peer_are_told_apart(tmp_path: Path) -> None:
    rounds = iter([buses.ANSWER.pack(0, 1) + b"\x60", b""])

    def answer(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(next(rounds))

    thread = peer(tmp_path / "bus", answer)
    bus = buses.SocketBus(f"{tmp_path}/bus")
    with pytest.raises(DeviceDataBad, match="1 bytes came, expected 2"):
        bus.read(0x76, 0xD0, 2)
    bus.close()
    with pytest.raises(BusDown):
        bus.read(0x76, 0xD0, 2)
    thread.join(5)
