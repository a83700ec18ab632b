"""The control socket: one JSON request per line, one JSON answer per line, on a Unix socket in the runtime directory.

Request `{"op": "status"}`; answer `{"ok": true, "result": …}` or `{"ok": false, "error": "…"}`. docs/operating/agent.md
lists the operations. Lines, clients and waits are bounded; who may connect is decided by the socket's mode, 0660.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.asking import ANSWER_S_MAX, SOCKET_NAME, RequestRefused
from edge_agent.errors import StateBusy, StateUnusable

log = logging.getLogger(__name__)

SOCKET_MODE = 0o660
PATH_BYTES_MAX = 107  # unix(7): sun_path holds 108 with its end
REQUEST_BYTES_MAX = 4096
CLIENTS_MAX = 16
IDLE_S_MAX = 30.0

Operation = Callable[[Mapping[str, Any]], object]


class ControlServer:
    """Serves operations by name. `run` lives as long as its task."""

    def __init__(self, runtime_dir: Path, operations: Mapping[str, Operation]) -> None:
        self.path = runtime_dir / SOCKET_NAME
        self._operations = dict(operations)
        self._clients: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None

    def bind(self) -> None:
        """Take the socket's path. Raises StateBusy when another agent answers there, StateUnusable when it cannot."""
        if len(os.fsencode(self.path)) > PATH_BYTES_MAX:
            raise StateUnusable(
                f"{self.path}: a socket's path is at most {PATH_BYTES_MAX} bytes; choose a shorter [agent] runtime_dir"
            )
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self.path.exists() and _answers(self.path):
                raise StateBusy(f"{self.path}: another agent answers there. See: edge-agent status")
            self.path.unlink(missing_ok=True)
            before = os.umask(0o777 & ~SOCKET_MODE)
            try:
                listener.bind(str(self.path))
            finally:
                os.umask(before)
            listener.listen(CLIENTS_MAX)
        except OSError as error:
            listener.close()
            raise StateUnusable(f"{self.path}: {error.strerror}. Is [agent] runtime_dir writable?") from error
        except StateBusy:
            listener.close()
            raise
        listener.setblocking(False)
        self._listener = listener

    async def run(self) -> None:
        """Serve until cancelled; then the socket is gone and every client's task has ended."""
        assert self._listener is not None, "bind first"
        server = await asyncio.start_unix_server(self._serve, sock=self._listener, limit=REQUEST_BYTES_MAX)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in self._clients:
                task.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)
            self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) > CLIENTS_MAX:
                with suppress(TimeoutError):  # a socket closed over unread bytes is reset, and the answer with it
                    await asyncio.wait_for(reader.read(REQUEST_BYTES_MAX), ANSWER_S_MAX)
                await _answer(writer, {"ok": False, "error": f"{CLIENTS_MAX} clients are connected already"})
                return
            while await self._serve_one(reader, writer):
                pass
        except (OSError, TimeoutError):
            return  # the client went away or idles: nobody to tell
        finally:
            self._clients.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one line; False when the connection ends."""
        try:
            line = await asyncio.wait_for(reader.readuntil(), IDLE_S_MAX)
        except asyncio.IncompleteReadError:
            return False
        except asyncio.LimitOverrunError:
            await _answer(writer, {"ok": False, "error": f"a request is one line of at most {REQUEST_BYTES_MAX} bytes"})
            return False
        await _answer(writer, self._result(line))
        return True

    def _result(self, line: bytes) -> dict[str, object]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": 'not JSON; a request is one line such as {"op": "status"}'}
        name = request.get("op") if isinstance(request, dict) else None
        operation = self._operations.get(name) if isinstance(name, str) else None
        if operation is None:
            return {"ok": False, "error": f"unknown op {name!r:.40}; known: {', '.join(sorted(self._operations))}"}
        try:
            return {"ok": True, "result": operation(request)}
        except RequestRefused as error:
            return {"ok": False, "error": str(error)}


async def _answer(writer: asyncio.StreamWriter, answer: dict[str, object]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await asyncio.wait_for(writer.drain(), ANSWER_S_MAX)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
