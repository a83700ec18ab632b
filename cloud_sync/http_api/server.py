"""The HTTP side's socket: plain on loopback, TLS anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from cloud_sync.errors import ConfigInvalid

STOP_S = 5
READER_STALL_MS_MAX = 30_000  # a reader that takes nothing for so long loses its connection, and its place in /v1/live
HEADER_BYTES_MAX = 16 << 10  # of one request: cookies of other services on this host are the longest part
CONNECTIONS_MAX = 1_000  # then 503; each costs about 50 kB
HELD_MAX = CONNECTIONS_MAX + 100  # then they are closed at once: gateways need descriptors as well
REQUEST_S = 10.0  # a request that is not whole at two looks, so far apart, is given up


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate with its chain, and its key, PEM."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 and later with this certificate. Raises ConfigInvalid, naming the file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for file in (self.certificate, self.key):
            try:
                file.read_bytes()
            except OSError as error:
                raise ConfigInvalid(f"{file} cannot be read: {error.strerror}") from error
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise ConfigInvalid(
                f"{self.certificate} and {self.key} are no certificate and its key in PEM, without a password: {error}"
            ) from error
        return context


def _no_password() -> str:
    raise ValueError("the key has a password")


def require_safe(host: str, port: int, tls: bool) -> None:
    """Raise ConfigInvalid for plain HTTP that leaves this machine: it would carry tokens in the clear."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost" and not tls:
        raise ConfigInvalid(
            f"--http {host}:{port}: plain HTTP is for loopback only, it would carry tokens in the clear. Try: "
            "--http-tls for the service's own certificate, or --http-cert FILE --http-key FILE; or on loopback, and "
            f"from afar: ssh -L {port}:127.0.0.1:{port} HOST"
        )


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: the service stops its parts in its own order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


class Punctual(H11Protocol):
    """uvicorn's connection, for so many and so long only as somebody asks on it: else strangers could hold them all."""

    _look: asyncio.TimerHandle | None = None
    _seen: object = H11Protocol  # the request before, at the last look that found the next one awaited

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio."""
        super().connection_made(transport)
        if len(self.connections) > HELD_MAX:
            transport.abort()
        self._look = self.loop.call_later(REQUEST_S, self._look_at)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _look_at(self) -> None:
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            if self._seen is self.cycle:
                self.transport.abort()
                return
            self._seen = self.cycle
        else:
            self._seen = H11Protocol
        self._look = self.loop.call_later(REQUEST_S, self._look_at)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound for HTTP. Raises ConfigInvalid when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READER_STALL_MS_MAX)  # connections inherit it
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigInvalid(
                f"cannot listen for HTTP on {host}:{port}: {error.strerror}. Try: --http {host}:0 for any free port"
            ) from error
        yield listener


@asynccontextmanager
async def serving(app: FastAPI, listener: socket.socket, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
    """Serve while the context lasts. A proxy on this machine may tell the scheme and client (X-Forwarded-*)."""
    config = uvicorn.Config(
        app,
        http=Punctual,  # h11: its bound on headers is ours to set
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=STOP_S,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        limit_concurrency=CONNECTIONS_MAX,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn tells it by a flag only
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        app.state.live.close()
        server.should_exit = True
        await running
