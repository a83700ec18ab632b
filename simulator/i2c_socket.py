"""The message-level bus `unix:PATH` of `hardware.buses`: the simulator's end. Works wherever Unix sockets do."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from hardware.buses import ANSWER, MESSAGE_BYTES_MAX, REQUEST
from simulator.i2c_line import I2cLine, LineFault, Message
from simulator.reactor import Reactor
from simulator.tied_child import tied


class SocketTransport:
    """Serves each line on a Unix socket in one folder; programs are told `unix:FOLDER/i2c-N`."""

    name = "unix"

    def __init__(self, lines: Mapping[int, I2cLine], reactor: Reactor, folder: Path) -> None:
        self._folder = folder
        self._listeners = [_Listener(line, reactor, folder / f"i2c-{number}") for number, line in lines.items()]

    def device(self, number: int) -> str:
        """What a program calls the bus."""
        return f"unix:{self._folder}/i2c-{number}"

    def launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the command; it ends with us."""
        return subprocess.Popen(tied(command), env=None if environment is None else dict(environment))

    def close(self) -> None:
        """Stop listening and remove the sockets."""
        for listener in self._listeners:
            listener.close()


class _Listener:
    def __init__(self, line: I2cLine, reactor: Reactor, path: Path) -> None:
        self._line = line
        self._reactor = reactor
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        os.chmod(path, 0o600)
        self._socket.listen()
        reactor.watch(self._socket, self._accept)

    def close(self) -> None:
        """Stop listening."""
        self._reactor.forget(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        _Connection(connection, self._line, self._reactor)


class _Connection:
    """One program's connection; requests are answered in order, a held line holds the connection."""

    def __init__(self, connection: socket.socket, line: I2cLine, reactor: Reactor) -> None:
        self._socket = connection
        self._line = line
        self._reactor = reactor
        self._buffer = bytearray()
        self._socket.setblocking(True)  # answers are small: they fit the socket's buffer
        reactor.watch(connection, self._readable)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._reactor.forget(self._socket)
            self._socket.close()
            return
        self._buffer += data
        while len(self._buffer) >= REQUEST.size:
            address, count, length = REQUEST.unpack_from(self._buffer)
            end = REQUEST.size + count
            if max(count, length) > MESSAGE_BYTES_MAX or len(self._buffer) < end:
                return
            written = bytes(self._buffer[REQUEST.size : end])
            del self._buffer[:end]
            self._transact(address, written, length)

    def _transact(self, address: int, written: bytes, length: int) -> None:
        messages = [Message(address, written)] if written or not length else []
        if length:
            messages.append(Message(address, None, length))
        try:
            answers = self._line.transact(messages)
        except LineFault as fault:
            failure = ANSWER.pack(fault.code, 0)
            if fault.hold_s:
                self._reactor.later(fault.hold_s, lambda: self._send(failure))
            else:
                self._send(failure)
            return
        answer = b"".join(answers)
        self._send(ANSWER.pack(0, len(answer)) + answer)

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:  # the program is gone; `_readable` will see it
            return
