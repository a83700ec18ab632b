"""How the service is wired."""

from __future__ import annotations

import contextlib
import errno
import socket
import time

import pytest

from cloud_sync.http_api import server


def test_a_reader_that_takes_nothing_loses_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would hold its place in /v1/live, and a half-read answer, for ever."""
    monkeypatch.setattr(server, "READER_STALL_MS_MAX", 500)
    with server.listening("127.0.0.1", 0) as listener, socket.socket() as reader:
        listener.listen()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(listener.getsockname())
        serving, _ = listener.accept()
        with serving:
            serving.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while serving.send(bytes(65536)):
                    pass
            deadline = time.monotonic() + 30
            while not (broken := serving.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                assert time.monotonic() < deadline, "still connected"
                time.sleep(0.02)
            assert broken == errno.ETIMEDOUT
