"""One gateway's stream: frames in, the session's effects carried out, frames out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from cloud_sync.auth.trust import Trust
from cloud_sync.catalog.catalog import Catalog
from cloud_sync.errors import CloudError
from cloud_sync.grpc_api.assigning import Assigning, Listener
from cloud_sync.ingest.group_commit import GroupCommit
from cloud_sync.ingest.ingestor import Ingestor, Resolved
from cloud_sync.metrics import Metrics
from wire.clock import NS_PER_S, NS_PER_US, Clock
from wire.messages import CloudFrames
from wire.ranges import RangeSet
from wire.sync.cloud import (
    AskHello,
    CloudSession,
    Effect,
    Ingest,
    StoreAlarms,
    StoreReports,
    StoreSeriesSets,
    StoreTombstones,
)
from wire.sync.frames import Ack, Answer, CloudFrame, Hello, Welcome

T = TypeVar("T")
log = logging.getLogger(__name__)

HELLO_S_MAX = 30.0  # a stream that says nothing holds a place
OUTGOING_FRAMES_MAX = 1024  # answers that the gateway does not read; then its frames are not read either
WRITE_S_MAX = 120.0  # one write that the gateway does not take


class HelloMissing(Exception):
    """Nothing came in time."""


@dataclass(frozen=True, slots=True)
class StreamPorts:
    """What every stream works with. `run_blocking` runs a call off the event loop."""

    ingestor: Ingestor
    group: GroupCommit
    catalog: Catalog
    clock: Clock
    metrics: Metrics
    run_blocking: Callable[[Callable[[], object]], Awaitable[object]]
    assigning: Assigning
    trust: Trust


class Stream:
    """Carries out one `CloudSession`, of the gateway with this id and a certificate of this CA (key identifier)."""

    def __init__(self, gateway: str, ports: StreamPorts, issuer: bytes = b"") -> None:
        self._gateway = gateway
        self._issuer = issuer
        self._ports = ports
        self._session = CloudSession(gateway)
        self._frames = CloudFrames()
        self._outgoing: list[CloudFrame] = []
        self._in_flight = 0
        self._withheld = False  # said once
        self._failure: CloudError | None = None
        self._listener: Listener | None = None
        self._changed = asyncio.Event()  # something to write, or nothing in flight any more
        self._drained = asyncio.Event()
        self._read_end = False

    async def run(
        self, read: Callable[[], Awaitable[bytes | None]], write: Callable[[bytes], Awaitable[object]]
    ) -> None:
        """Serve the stream until the gateway ends it and every message is answered. `read` gives the next frame's
        bytes, None at the peer's end.

        Raises:
            ProtocolViolation: the gateway broke the protocol.
            CloudError: something could not be made durable; nothing of it was acknowledged.
            HelloMissing: no Hello came.
        """
        reader = asyncio.create_task(self._read_all(read), name=f"read {self._gateway}")
        writer = asyncio.create_task(self._write_all(write), name=f"write {self._gateway}")
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_EXCEPTION)
            for task in (reader, writer):
                if task.done():
                    task.result()
        finally:
            if self._listener is not None:
                self._ports.assigning.leave(self._listener)
            for task in (reader, writer):
                task.cancel()
            await asyncio.wait({reader, writer})

    async def _read_all(self, read: Callable[[], Awaitable[bytes | None]]) -> None:
        try:
            async with asyncio.timeout(HELLO_S_MAX):
                data = await read()
        except TimeoutError as error:
            raise HelloMissing(f"no Hello within {HELLO_S_MAX:.0f} s") from error
        while data is not None:
            await self._carry_out(self._session.received(self._frames.decode(data)))
            while len(self._outgoing) > OUTGOING_FRAMES_MAX:
                self._drained.clear()
                await self._drained.wait()
            data = await read()
        self._read_end = True
        self._changed.set()

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Ingest(message):
                self._in_flight += 1
                resolved = partial(self._resolved, effect, self._ports.clock.boottime_ns())
                await self._ports.group.submit(self._gateway, message, resolved)
            case AskHello(hello):
                self._send(await self._welcome(hello))
                if hello.nonce:
                    self._listener = Listener(
                        self._gateway, hello.nonce, lambda document: self.command(self._session.assign(document))
                    )
                    await self._ports.assigning.enter(self._listener)
            case StoreSeriesSets(sets):
                await self._blocking(partial(self._ports.ingestor.put_series_sets, self._gateway, sets))
            case StoreTombstones(tombstones):
                await self._blocking(partial(self._ports.ingestor.record_tombstones, self._gateway, tombstones))
                self._send(self._session.recorded(effect))
            case StoreAlarms(alarms):
                await self._blocking(partial(self._ports.ingestor.record_alarms, self._gateway, alarms))
                self._send(self._session.recorded(effect))
            case StoreReports(reports):
                await self._blocking(partial(self._ports.assigning.record_reports, self._gateway, reports))
                self._send(self._session.recorded(effect))

    async def _welcome(self, hello: Hello) -> Welcome:
        ports = self._ports
        answer = await self._blocking(partial(ports.catalog.hello, self._gateway, hello))
        renew = ports.trust.is_outgoing(self._issuer)
        if renew and await self._blocking(partial(ports.catalog.is_cloned, self._gateway)):
            renew = False  # the first clone to renew would shut the other out, whose data is taken
        news = ports.trust.news(hello.ca_bundle)
        now_us = ports.clock.wall_ns() // NS_PER_US
        return self._session.welcome(answer, now_us, ports.group.load, ca_bundle=news, renew=renew)

    async def _blocking(self, call: Callable[[], T]) -> T:
        found: list[T] = []
        await self._ports.run_blocking(lambda: found.append(call()))
        return found[0]

    def _resolved(self, effect: Ingest, came_ns: int, result: Resolved | CloudError) -> None:
        self._in_flight -= 1
        if isinstance(result, CloudError):
            self._failure = result
            self._changed.set()
        else:
            held_s = (self._ports.clock.boottime_ns() - came_ns) / NS_PER_S
            self._send(self._session.resolved(effect, result.outcome, result.atoms, held_s))

    async def command(self, frame: CloudFrame) -> bool:
        """Send what tells the gateway to do something: the only way for that, as `_send` is for answers.

        False, and nothing is sent, while two machines use the gateway's certificate: nobody knows which of them would
        do it. Looked at each time, because a copy may appear at any moment. Raises CatalogDown.
        """
        if await self._blocking(partial(self._ports.catalog.is_cloned, self._gateway)):
            self._ports.metrics.commands_withheld.inc()
            if not self._withheld:
                log.warning("command withheld, two machines use one certificate gateway=%s", self._gateway)
            self._withheld = True
            return False
        self._withheld = False
        self._put(frame)
        return True

    def _send(self, frame: Answer) -> None:
        self._put(frame)

    def _put(self, frame: CloudFrame) -> None:
        self._outgoing.append(frame)
        self._changed.set()

    async def _write_all(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            frames, self._outgoing = merge_acks(self._outgoing), []
            for place, frame in enumerate(frames):
                if isinstance(frame, Ack):  # it tells how much may be on its way from now on
                    frames[place] = replace(frame, credit_bytes=self._session.grant(self._ports.group.load))
            self._drained.set()
            for frame in frames:
                async with asyncio.timeout(WRITE_S_MAX):
                    await write(self._frames.encode(frame))
            self._ports.metrics.acks.inc(sum(isinstance(frame, Ack) for frame in frames))
            if self._failure is not None:
                raise self._failure
            if self._read_end and not self._in_flight and not self._outgoing:
                return


def merge_acks(frames: list[CloudFrame]) -> list[CloudFrame]:
    """The same answers with all acknowledgements in one frame, after the others: their order is free."""
    acks = [frame for frame in frames if isinstance(frame, Ack)]
    if len(acks) < 2:
        return frames
    stored: dict[int, RangeSet] = {}
    for ack in acks:
        for epoch, ranges in ack.stored:
            stored.setdefault(epoch, RangeSet()).update(ranges)
    merged = Ack(
        acks[-1].generation,
        tuple(stored.items()),
        tuple(tombstone for ack in acks for tombstone in ack.tombstones),
        tuple(id_ for ack in acks for id_ in ack.message_ids),
        alarms=tuple(key for ack in acks for key in ack.alarms),
        reports=tuple(id_ for ack in acks for id_ in ack.reports),
        held_ms=tuple(held for ack in acks for held in ack.held_ms),
    )
    return [*(frame for frame in frames if not isinstance(frame, Ack)), merged]
