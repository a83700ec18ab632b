"""How the service is wired."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time

import pytest
from fastapi import FastAPI, Request

from cloud_sync.http_api import server
from cloud_sync.http_api.live import Live


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


def slow_site() -> FastAPI:
    """One that waits for a body, and answers slower than a request may come."""
    app = FastAPI()
    app.state.live = Live()

    @app.post("/")
    async def take(request: Request) -> int:
        body = await request.body()
        await asyncio.sleep(server.REQUEST_S * 4)
        return len(body)

    return app


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that came until the other end closed or broke the connection."""
    async with asyncio.timeout(30):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"POST / HT",
        b"POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12345678",
    ],
)
async def test_a_request_that_does_not_come_is_given_up(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it drips."""
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    with server.listening("127.0.0.1", 0) as listener:
        async with server.serving(slow_site(), listener, None):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(said)
            dripping = asyncio.create_task(drip(writer)) if said.endswith(b": ") else None
            assert await ended(reader) == b""
            writer.close()
            if dripping is not None:
                dripping.cancel()


async def drip(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)


async def test_slow_answers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several on one connection, too."""
    monkeypatch.setattr(server, "REQUEST_S", 0.1)
    with server.listening("127.0.0.1", 0) as listener:
        async with server.serving(slow_site(), listener, None), asyncio.timeout(30):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            for _ in range(2):
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                assert await reader.readexactly(1) == b"3"
            writer.close()


async def test_connections_without_number_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand idle ones get 503 for what they ask; those beyond are closed, and cost no descriptor."""
    monkeypatch.setattr(server, "HELD_MAX", 3)
    with server.listening("127.0.0.1", 0) as listener:
        async with server.serving(slow_site(), listener, None):
            links = [await asyncio.open_connection(*listener.getsockname()) for _ in range(5)]
            closed = [asyncio.create_task(ended(reader)) for reader, _ in links]
            done, _ = await asyncio.wait(closed[3:], timeout=30)
            assert (len(done), any(task.done() for task in closed[:3])) == (2, False)
            for _, writer in links:
                writer.close()
            await asyncio.wait(closed)
