"""The application behind a real server on a free port of loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from cloud_sync.auth.roles import Role
from cloud_sync.http_api.app import create_app
from tests.unit.cloud_sync.query.seeding import Cloud


class Server(uvicorn.Server):
    """Ends live streams first, as the service does."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.live.close()  # type: ignore[union-attr]
        await super().shutdown(sockets)


def bearer(cloud: Cloud, role: Role = Role.READONLY) -> dict[str, str]:
    """Headers with a fresh token."""
    return {"authorization": f"Bearer {cloud.catalog.people.create_token('test', role, 10**9)}"}


@contextmanager
def served(
    cloud: Cloud,
    require_writable: Callable[[], None] | None = None,
    more: Callable[[FastAPI], object] = lambda app: None,
) -> Iterator[str]:
    """The base URL of the cloud's HTTP side; stops with the block."""
    app = create_app(cloud.catalog, cloud.query, cloud.clock, CollectorRegistry(), (), require_writable)
    more(app)
    server = Server(uvicorn.Config(app, log_level="critical", ws="none"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http")
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.005)
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive()
