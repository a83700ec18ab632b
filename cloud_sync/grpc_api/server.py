"""The gRPC server: mutual TLS always, one `Sync` stream per gateway, refusals with a reason and a count."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes to stderr what the log says once and better
import grpc
import grpc.aio

from cloud_sync.auth.identity import IdentityRefused
from cloud_sync.errors import AccessDenied, CatalogDown, CloudError, ConfigInvalid, JoinRefused, TooManyEpochs
from cloud_sync.grpc_api.peer import Gatekeeper, Peer
from cloud_sync.grpc_api.stream import HelloMissing, Stream
from cloud_sync.metrics import Metrics
from wire.errors import ProtocolViolation
from wire.join import join_address
from wire.messages import FRAME_BYTES_MAX, SYNC_METHOD

log = logging.getLogger(__name__)

STREAMS_MAX = 20_000  # an idle one holds about 85 kB: 1.7 GB
STREAMS_PER_GATEWAY_MAX = 4  # a gateway whose link broke may leave some behind; the oldest gives way
STOP_GRACE_S = 5.0
END_SETTLES_S = 0.05  # grpc tells a broken link as an end first and cancels the call 0.1 ms later, more under load
RECHECK_S = 1.0  # how long a stream may go on after its gateway was revoked
RECHECK_OVERLAP_US = 30_000_000  # a change is dated before it is committed

_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),  # its pings cost a gateway's data plan
    ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
    ("grpc.max_send_message_length", FRAME_BYTES_MAX),
    ("grpc.max_concurrent_streams", 64),  # per connection
    ("grpc.max_metadata_size", 8192),
    ("grpc.keepalive_time_ms", 300_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not shared
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM: the CA that signs gateways, and what the server shows."""

    ca: bytes
    certificate: bytes
    key: bytes


@dataclass(eq=False, slots=True)
class _Call:
    """An open stream."""

    peer: Peer
    task: asyncio.Task[object]
    superseded: bool = field(default=False)
    denied: str = field(default="")  # why the certificate is not good any more


PeerHandler = Callable[[Peer, bytes], Awaitable[bytes]]  # request and answer as they go over the wire


class GrpcServer:
    """Listens for gateways. `make_stream` gives the stream for a gateway; `unary` are the methods beside it.

    Whoever adds a method cannot forget the gatekeeper: handlers are called with the peer that it let in.
    """

    def __init__(
        self,
        credentials: Credentials,
        make_stream: Callable[[Peer], Stream],
        metrics: Metrics,
        gatekeeper: Gatekeeper,
        unary: Mapping[str, PeerHandler],
    ) -> None:
        self._credentials = credentials
        self._make_stream = make_stream
        self._metrics = metrics
        self._gatekeeper = gatekeeper
        self._unary = unary
        self._server: grpc.aio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._calls: dict[str, list[_Call]] = {}
        self._count = 0
        self._stopping = False

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises ConfigInvalid when it cannot."""
        handlers = {SYNC_METHOD: grpc.stream_stream_rpc_method_handler(self._sync)}  # `wire.messages` decodes
        handlers |= {
            name: grpc.unary_unary_rpc_method_handler(self._guarded(handler)) for name, handler in self._unary.items()
        }
        tls = grpc.ssl_server_credentials(
            [(self._credentials.key, self._credentials.certificate)], self._credentials.ca, require_client_auth=True
        )
        self._server, bound = await listen(handlers, tls, _OPTIONS, host, port, "--grpc")
        self._watch = asyncio.create_task(self._watch_access(), name="access")
        return bound

    async def stop(self) -> None:
        """Take no more streams and end the open ones; what they have not been told is sent again elsewhere."""
        self._stopping = True
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait({self._watch})
        if self._server is not None:
            for call in [call for calls in self._calls.values() for call in calls]:
                call.task.cancel()
            await self._server.stop(STOP_GRACE_S)

    async def _admit(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> Peer:
        """Ends the call unless the gateway is welcome."""
        code = grpc.StatusCode
        try:
            return await self._gatekeeper.admit(context)
        except IdentityRefused as error:
            await self._refuse(context, code.PERMISSION_DENIED, "identity", str(error))
        except AccessDenied as error:
            await self._refuse(context, code.PERMISSION_DENIED, "revoked", str(error))
        except CatalogDown as error:
            await self._refuse(context, code.UNAVAILABLE, "CatalogDown", f"not admitted: {error}", level=logging.DEBUG)
        raise AssertionError("a refused call has ended")

    def _guarded(self, handler: PeerHandler) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def call(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            """The handler's answer, for who is let in; otherwise the call ends with a code."""
            peer = await self._admit(context)
            try:
                return await handler(peer, request)
            except (AccessDenied, JoinRefused) as error:
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
            except CloudError as error:
                await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError("a refused call has ended")

        return call

    async def _watch_access(self) -> None:
        """End the streams of gateways whose certificate is not good any more."""
        since_us = 0
        while True:
            await asyncio.sleep(RECHECK_S)
            if not self._calls:
                continue
            try:
                changed, newest_us = await self._gatekeeper.changed(set(self._calls), since_us)
                for call in [call for gateway in changed for call in self._calls.get(gateway, ())]:
                    await self._recheck(call)
            except CatalogDown:
                continue  # said once where it failed; looked at again
            since_us = newest_us - RECHECK_OVERLAP_US

    async def _recheck(self, call: _Call) -> None:
        try:
            await self._gatekeeper.recheck(call.peer)
        except AccessDenied as error:
            call.denied = str(error)
            call.task.cancel()

    async def _sync(self, _: object, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        peer = await self._admit(context)
        if self._count >= STREAMS_MAX:
            detail = f"{self._count} streams are open, the most is {STREAMS_MAX}"
            await self._refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "streams", detail)
            return
        call = self._enter(peer)
        try:
            await self._serve(context, call)
        finally:
            self._leave(call)

    async def _serve(self, context: grpc.aio.ServicerContext[bytes, bytes], call: _Call) -> None:
        async def read() -> bytes | None:
            data = await context.read()
            if data is not grpc.aio.EOF:
                return bytes(data)
            await asyncio.sleep(END_SETTLES_S)
            return None

        write: Callable[[bytes], Awaitable[object]] = context.write
        code = grpc.StatusCode
        try:
            await self._make_stream(call.peer).run(read, write)
        except ProtocolViolation as error:
            await self._refuse(context, code.INVALID_ARGUMENT, "protocol", f"protocol: {error}", call.peer.gateway)
        except TooManyEpochs as error:
            await self._refuse(context, code.RESOURCE_EXHAUSTED, "epochs", str(error), call.peer.gateway)
        except CloudError as error:
            detail = f"not stored: {error}"  # said once for all streams where it failed
            await self._refuse(
                context, code.UNAVAILABLE, type(error).__name__, detail, call.peer.gateway, level=logging.DEBUG
            )
        except HelloMissing as error:
            await self._refuse(context, code.DEADLINE_EXCEEDED, "hello", str(error), call.peer.gateway)
        except TimeoutError:
            await self._refuse(context, code.DEADLINE_EXCEEDED, "unread", "answers were not read", call.peer.gateway)
        except asyncio.CancelledError:
            if self._stopping:
                await self._refuse(context, code.UNAVAILABLE, "stopping", "the service is stopping", call.peer.gateway)
            elif call.denied:
                await self._refuse(context, code.PERMISSION_DENIED, "revoked", call.denied, call.peer.gateway)
            elif call.superseded:
                detail = f"more than {STREAMS_PER_GATEWAY_MAX} streams of this gateway; the oldest ends"
                await self._refuse(context, code.ABORTED, "superseded", detail, call.peer.gateway)
            else:
                self._metrics.streams_ended.labels("link").inc()
                raise
        else:
            self._metrics.streams_ended.labels("done").inc()

    async def _refuse(
        self,
        context: grpc.aio.ServicerContext[bytes, bytes],
        code: grpc.StatusCode,
        reason: str,
        detail: str,
        gateway: str = "",
        level: int = logging.WARNING,
    ) -> None:
        """End this stream with a code and count it; the others go on."""
        self._metrics.streams_ended.labels(reason).inc()
        log.log(level, "stream ended gateway=%s peer=%s reason=%s detail=%s", gateway, context.peer(), reason, detail)
        await context.abort(code, detail)

    def _enter(self, peer: Peer) -> _Call:
        task = asyncio.current_task()
        assert task is not None
        calls = self._calls.setdefault(peer.gateway, [])
        if len(calls) >= STREAMS_PER_GATEWAY_MAX:
            oldest = next((call for call in calls if not call.superseded), calls[0])
            oldest.superseded = True
            oldest.task.cancel()
        call = _Call(peer, task)
        calls.append(call)
        self._count += 1
        self._metrics.streams.set(self._count)
        return call

    def _leave(self, call: _Call) -> None:
        calls = self._calls[call.peer.gateway]
        calls.remove(call)
        if not calls:
            del self._calls[call.peer.gateway]
        self._count -= 1
        self._metrics.streams.set(self._count)


async def listen(
    handlers: Mapping[str, Any],
    tls: grpc.ServerCredentials,
    options: Sequence[tuple[str, int]],
    host: str,
    port: int,
    option: str,
) -> tuple[grpc.aio.Server, int]:
    """A started server of these methods, and its port. Raises ConfigInvalid when it cannot listen there."""
    server = grpc.aio.server(options=options)
    for name, handler in handlers.items():
        service, _, method = name.strip("/").partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    address = join_address(host, port)
    try:
        bound = server.add_secure_port(address, tls)
    except RuntimeError as error:
        raise ConfigInvalid(
            f"cannot listen for gateways on {address}: the port is in use or the address is not of this machine. "
            f"Try: {option} HOST:0 for any free port"
        ) from error
    await server.start()
    return server, int(bound)
