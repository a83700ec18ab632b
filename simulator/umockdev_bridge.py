"""A virtual /dev/i2c-N that `stat` and directory listings see too, by umockdev's preload. Run by `i2c_umockdev`.

Usage: PYTHONPATH=PROJECT /usr/bin/python3 -m simulator.umockdev_bridge N=SOCKET...
A separate process under the system's Python, because GObject introspection lives there. Each I2C ioctl becomes
messages to the simulator's socket. Prints the testbed's folder, then serves until its standard input closes.
"""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Sequence
from typing import Any

from hardware.buses import ANSWER, REQUEST, receive_exactly
from simulator.i2c_ioctl import Block, OpenFile
from simulator.i2c_line import LineFault, Message


class RemoteLine:
    """A line behind the simulator's socket."""

    def __init__(self, path: str) -> None:
        self.timeout_s = 1.0  # the simulator's line keeps its own
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)

    def transact(self, messages: Sequence[Message]) -> list[bytes]:
        """A write and the read after it go as one transaction."""
        answers = []
        written = b""
        for index, message in enumerate(messages):
            following = messages[index + 1] if index + 1 < len(messages) else None
            if message.data is not None:
                written = message.data
                if following is not None and following.data is None and following.address == message.address:
                    continue
            answer = self._transfer(message.address, written, message.length)
            written = b""
            if message.data is None:
                answers.append(answer)
        return answers

    def _transfer(self, address: int, data: bytes, length: int) -> bytes:
        self._socket.sendall(REQUEST.pack(address, len(data), length) + data)
        code, count = ANSWER.unpack(receive_exactly(self._socket, ANSWER.size))
        answer = receive_exactly(self._socket, count)
        if code:
            raise LineFault(code)
        return answer


class TestbedBlock:
    """A stretch of the caller's memory as umockdev hands it over (`Block`)."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def load(self) -> bytes:
        """See `Block`."""
        return bytes(self._data.retrieve())

    def store(self, data: bytes) -> None:
        """See `Block`."""
        self._data.update(0, list(data))

    def follow(self, offset: int, length: int) -> Block:
        """See `Block`."""
        return TestbedBlock(self._data.resolve(offset, length))


def main() -> None:
    """Make the testbed, say where it is, serve."""
    importlib.import_module("gi").require_version("UMockdev", "1.0")
    glib = importlib.import_module("gi.repository.GLib")
    umockdev = importlib.import_module("gi.repository.UMockdev")
    testbed = umockdev.Testbed.new()
    keep = []
    for item in sys.argv[1:]:
        number, _, path = item.partition("=")
        node = f"/dev/i2c-{number}"
        testbed.add_from_string(
            f"P: /devices/i2c-{number}/i2c-dev/i2c-{number}\nN: i2c-{number}=00\n"
            f"E: SUBSYSTEM=i2c-dev\nE: DEVNAME={node}\nA: name=simulated\\n\n"
        )
        line = RemoteLine(path)
        files: dict[Any, OpenFile] = {}

        def handle(_: Any, client: Any, line: RemoteLine = line, files: dict[Any, OpenFile] = files) -> bool:
            file = files.setdefault(client, OpenFile(line))
            argument = client.get_arg()
            try:
                value = file.ioctl(
                    client.get_request(),
                    number_of(argument),
                    lambda length: TestbedBlock(argument.resolve(0, length)),
                )
            except LineFault as fault:
                client.complete(-1, fault.code)
            else:
                client.complete(value, 0)
            return True

        def forget(_: Any, client: Any, files: dict[Any, OpenFile] = files) -> None:
            files.pop(client, None)

        handler = umockdev.IoctlBase()
        handler.connect("handle-ioctl", handle)
        handler.connect("client-vanished", forget)
        testbed.attach_ioctl(node, handler)
        keep.append(handler)
    print(testbed.get_root_dir(), flush=True)
    loop = glib.MainLoop()
    glib.io_add_watch(
        sys.stdin.fileno(), glib.PRIORITY_DEFAULT, glib.IOCondition.HUP | glib.IOCondition.IN, lambda *_: loop.quit()
    )
    loop.run()


def number_of(argument: Any) -> int:
    """The argument as the integer that I2C_SLAVE and I2C_TIMEOUT take."""
    return int.from_bytes(bytes(argument.retrieve()), "little")


if __name__ == "__main__":
    main()
