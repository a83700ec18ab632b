"""The socket to break things while a bench runs: one JSON object a line, one answer a line."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.reactor import Reactor

LINE_BYTES_MAX = 65_536
Command = Callable[..., dict[str, Any]]


class Refusal(Exception):
    """A command that cannot be done; the message goes to the caller."""


class ControlServer:
    """`{"do": "fault", "bus": 1, "address": 118, "fault": "nak"}` → `{"ok": true}` or `{"error": "..."}`."""

    def __init__(self, path: Path, reactor: Reactor, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._reactor = reactor
        self._commands = commands
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        os.chmod(path, 0o600)
        self._socket.listen()
        reactor.watch(self._socket, self._accept)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._reactor.forget(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        connection, _ = self._socket.accept()
        buffer = bytearray()

        def readable() -> None:
            data = connection.recv(4096)
            buffer.extend(data)
            if not data or len(buffer) > LINE_BYTES_MAX:
                self._reactor.forget(connection)
                connection.close()
                return
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                connection.sendall(json.dumps(self._answer(line)).encode() + b"\n")

        self._reactor.watch(connection, readable)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            command = self._commands[request.pop("do")]
        except (ValueError, KeyError, AttributeError):
            return {"error": f'write {{"do": ...}} with one of: {", ".join(self._commands)}'}
        try:
            return {"ok": True, **command(**request)}
        except (Refusal, TypeError) as error:
            return {"error": str(error)}


def ask(path: Path, do: str, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
    """One command to a bench. Raises Refusal with its message, OSError when no bench listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline(LINE_BYTES_MAX) or b'{"error": "the bench is gone"}')
    if "error" in answer:
        raise Refusal(answer["error"])
    return answer
