"""Carries the sync machine's frames over one gRPC stream with mutual TLS: connect, pump, back off, connect again."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from contextlib import suppress
from dataclasses import replace

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its C core writes to stderr what the log says once and better
import grpc
import grpc.aio

from edge_agent.enrol.trust import Learning, TrustFile
from edge_agent.errors import AgentError, CredentialsRejected, LinkDown, OutboxFull, StateBusy
from edge_agent.sync.channel import brief, call_once, first_done, open_channel
from edge_agent.sync.credentials import Credentials
from edge_agent.sync.meter import SocketMeter
from edge_agent.sync.policy import SyncPolicy
from edge_agent.sync.route import interface_to
from wire.clock import NS_PER_S, Clock
from wire.errors import ProtocolViolation
from wire.messages import SYNC_METHOD, GatewayFrames
from wire.sync.frames import GatewayFrame, Welcome
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.leave import Leave
from wire.sync.outbox_view import OutboxView
from wire.sync.status import Reason, SyncStatus
from wire.sync.updates import Updates

log = logging.getLogger(__name__)

CONNECT_S_MAX = 20.0
REJECTED_S_MIN = 30.0  # refused credentials do not heal by themselves: no need to try often
PROBE_S_MIN = 30.0  # between two handshakes of our own while nobody answers
METER_S = 1.0  # between two looks at the socket's counters
FIND_S = 0.05  # between two looks for sockets while a connection is made: shorter than a handshake on a dear link
FOREVER_S = 3600.0
LOOK_S_MAX = 60.0  # between two looks at the route while nothing may leave
_IDENTITY_CODES = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


class SyncClient:
    """Runs one `GatewaySync` on the event loop that calls `run`. All calls but `run` return at once."""

    def __init__(
        self,
        view: OutboxView,
        identity: Identity,
        options: SyncOptions,
        credentials: Credentials,
        *,
        address: str,
        server_name: str,
        policy: SyncPolicy,
        clock: Clock,
        rng: random.Random,
        updates: Updates | None = None,
        trust: TrustFile | None = None,
    ) -> None:
        """`address`: host:port. `server_name`: the name in the server's certificate; empty: the host. `updates`: who
        installs what the cloud assigns. `trust`: the CAs that it may replace."""
        self._view = view
        self._machine = GatewaySync(view, options, identity, rng, policy, updates)
        self.policy = policy
        self._credentials = credentials
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._server_name = server_name
        self.learning = Learning(trust, self._host, self._port, server_name or self._host)
        self._clock = clock
        self._out: asyncio.Queue[GatewayFrame] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._told: type[AgentError] | None = None  # what was logged since the last connection
        self._held = ""  # what was logged of what may not leave
        self._probed_at = -PROBE_S_MIN
        self._renewed = asyncio.Event()
        self._not_before = 0.0
        self._meter = SocketMeter()
        self._channel: grpc.aio.Channel | None = None  # of the open stream
        self._addresses: list[str] = []  # of the host, as last resolved
        self._interface = ""
        self.socket_bytes = 0  # of IP, both ways, since the process began

    @property
    def status(self) -> SyncStatus:
        """The machine's own words."""
        return self._machine.status

    @property
    def is_rejected(self) -> bool:
        """Did the last connection fail for its certificates?"""
        return self._told is CredentialsRejected

    @property
    def retry_in_s(self) -> float | None:
        """Seconds to the next try; None while a stream is open or being opened."""
        at = self._machine.reconnect_at
        return None if at is None else max(at, self._not_before) - self._now()

    def reconnect(self) -> None:
        """The certificate was renewed: use it from now on. On the event loop's thread."""
        self._renewed.set()
        self._not_before = 0.0
        self._changed.set()

    def committed(self, alarm: bool = False) -> None:
        """New atoms are in the outbox. On the event loop's thread."""
        self._put(self._machine.committed(self._now(), alarm=alarm))
        if self.policy.is_open_now:
            self.flush()

    def hurry(self) -> None:
        """`edge-agent sync now`: connect at once, windows or not, and send what waits."""
        self.policy.open_now()
        self._machine.hurry(self._now())
        self._not_before = 0.0
        self.flush()

    def reconsider(self) -> None:
        """What may leave has changed."""
        self._put(self._machine.tick(self._now()))

    def flush(self) -> None:
        """Send at once what waits to be merged. On the event loop's thread."""
        self._put(self._machine.flush(self._now()))

    def reported(self) -> None:
        """There are new reports of updates. On the event loop's thread."""
        self._put(self._machine.reported(self._now()))

    def leave(self) -> Leave:
        """What may leave now; a call's data is bulk."""
        return self.policy.leave(self._now())

    async def call(self, method: str, data: bytes, timeout_s: float) -> bytes:
        """One call beside the open stream, over its connection: metered with it. Raises LinkDown."""
        if self._channel is None or not self._machine.status.connected:
            raise LinkDown("there is no connection now")
        return await call_once(self._channel, method, data, timeout_s)

    def is_drained(self) -> bool:
        """Is everything committed so far acknowledged?"""
        return not any(offer.offered for offer in self._view.offers()) and not self._view.tombstones(1)

    async def run(self) -> None:
        """Connect, and again after every loss, until cancelled. A failing link is never an error of the agent's."""
        while True:
            await self._may_connect()
            try:
                await self._metered()
            except CredentialsRejected as error:
                self._lose(error, CredentialsRejected)
                self._not_before = self._now() + REJECTED_S_MIN
            except (LinkDown, ProtocolViolation, OutboxFull, StateBusy) as error:  # a new generation needs room as well
                self._lose(error, LinkDown)

    async def _may_connect(self) -> None:
        """Wait for the back-off, and for a reason to connect."""
        while (wait_s := self.retry_in_s or 0.0) > 0:
            await self._change(wait_s)
        while True:
            if not self._addresses:
                await self._resolve()
            self.policy.route(self._route())
            now = self._now()
            if self._machine.wants_stream(now):
                break
            leave = self.policy.leave(now)
            if leave.why != self._held:
                self._held = leave.why
                log.info("sync: %s", leave.why)
            await self._change(min(LOOK_S_MAX, LOOK_S_MAX if leave.until is None else max(leave.until - now, 0.1)))
        await self._resolve()

    async def _change(self, seconds: float) -> None:
        """Until something is new, or the time is over."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _resolve(self) -> None:
        """The addresses that gRPC is about to try; the meter knows the socket by them."""
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError:
            return  # gRPC meets it too, and tells
        self._addresses = [str(address[0]) for *_, address in found]

    def _route(self, source: str | None = None) -> str:
        found = (interface_to(address, source) for address in self._addresses)
        return next((name for name in found if name), "")

    def _now(self) -> float:
        return self._clock.boottime_ns() / NS_PER_S

    def _put(self, frames: list[GatewayFrame]) -> None:
        for frame in frames:
            self._out.put_nowait(frame)
        self._changed.set()

    def _lose(self, error: Exception, kind: type[AgentError]) -> None:
        """Tell a loss once, and once more when it turns out to be of another kind."""
        wish = self._machine.wants_disconnect
        self._machine.disconnected(self._now(), str(error))
        if wish is not None and wish.reason is Reason.HELD:
            return
        if self._told not in (kind, CredentialsRejected):
            reason = self._machine.status.last_error
            fix = "" if kind is CredentialsRejected else ". Try: edge-agent sync explain"  # a refusal names its own
            log.warning("sync: not connected to %s; readings are kept and sent later: %s%s", self.address, reason, fix)
            self._told = kind

    def _recover(self) -> None:
        log.info("sync: connected to %s%s", self.address, "" if self._told is None else " again")
        self._told = None
        self._held = ""

    async def _metered(self) -> None:
        """A connection, and the count of what it costs."""
        measuring = asyncio.create_task(self._measure(), name="meter")
        try:
            await self._stream()
        finally:
            measuring.cancel()
            with suppress(asyncio.CancelledError):
                await measuring
            self._count()
            self._meter.close()

    async def _measure(self) -> None:
        local, settled = None, False  # settled: gRPC opens no other socket while this one lives
        while True:
            if not (settled and self._meter.is_open):
                settled = self._machine.status.connected
                local = self._meter.find(self._port, self._addresses)
            if local is not None:
                self._interface = self._route(local)
                self.policy.route(self._interface)
            self._count()
            await asyncio.sleep(METER_S if self._machine.status.connected else FIND_S)

    def _count(self) -> None:
        count = self._meter.spent()
        self.socket_bytes += count
        self.policy.spend(self._interface, count)

    async def _stream(self) -> None:
        """One connection from start to end. Raises LinkDown, CredentialsRejected, ProtocolViolation."""
        self._renewed.clear()
        async with open_channel(self.address, self._server_name, self._credentials) as channel:
            call = channel.stream_stream(SYNC_METHOD)()
            self._channel = channel
            try:
                await self._open(call)
                self._out = asyncio.Queue()
                frames = GatewayFrames()
                self._machine.identity = replace(self._machine.identity, ca_bundle=self.learning.digest())
                self._put(self._machine.connected(self._now()))
                pumps = self._read(call, frames), self._write(call, frames)
                await first_done(*pumps, self._watch(), self._follow(), self.learning.run())
            except grpc.aio.AioRpcError as error:
                await self._explain(error)
            except grpc.aio.UsageError as error:
                raise LinkDown(f"the stream is closed: {error}") from error
            finally:
                self._channel = None
                call.cancel()

    async def _open(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                await call.wait_for_connection()
        except TimeoutError as error:
            raise LinkDown(f"no connection within {CONNECT_S_MAX:.0f} s") from error

    async def _read(self, call: grpc.aio.StreamStreamCall[bytes, bytes], frames: GatewayFrames) -> None:
        while True:
            data = await call.read()
            if data is grpc.aio.EOF:
                code, detail = await call.code(), await call.details()
                if code in _IDENTITY_CODES:
                    raise CredentialsRejected(f"the cloud says {code.name}: {detail}")
                raise LinkDown(f"the cloud ended the stream: {code.name} {brief(detail or '')}".rstrip())
            connected = self._machine.status.connected
            frame = frames.decode(bytes(data))
            if isinstance(frame, Welcome):
                self.learning.told(frame.ca_bundle, frame.renew)
            self._put(self._machine.received(frame, self._now()))
            if not connected and self._machine.status.connected:
                self._recover()
            if self.policy.is_open_now and self.is_drained():
                self.policy.sent_all()
                self.reconsider()

    async def _write(self, call: grpc.aio.StreamStreamCall[bytes, bytes], frames: GatewayFrames) -> None:
        while True:
            await call.write(frames.encode(await self._out.get()))

    async def _watch(self) -> None:
        """Give the machine its ticks; leave when it wants to."""
        while self._machine.wants_disconnect is None:
            wakeup = self._machine.wakeup
            await self._change(FOREVER_S if wakeup is None else max(wakeup - self._now(), 0.0))
            if wakeup is not None and self._now() >= wakeup:
                self._put(self._machine.tick(self._now()))
        raise LinkDown(self._machine.wants_disconnect.detail)

    async def _follow(self) -> None:
        """Leave when there is a new certificate."""
        await self._renewed.wait()
        raise LinkDown("the certificate was renewed")

    async def _explain(self, error: grpc.aio.AioRpcError) -> None:
        """Turn gRPC's word into ours. Raises LinkDown or CredentialsRejected."""
        detail = error.details() or ""
        if error.code() in _IDENTITY_CODES:
            raise CredentialsRejected(f"the cloud says {error.code().name}: {detail}") from error
        if error.code() is grpc.StatusCode.UNAVAILABLE and self._now() - self._probed_at >= PROBE_S_MIN:
            self._probed_at = self._now()
            reason = await asyncio.to_thread(self._credentials.refusal, self._host, self._port, self._server_name)
            if reason is not None:
                raise CredentialsRejected(reason) from error
        raise LinkDown(f"{error.code().name}: {brief(detail)}") from error
