"""A gateway's side for tests of the cloud: segments to send, and a client that speaks the real protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import numpy as np

from wire.clock import Anchor, SyncState
from wire.codec import encode
from wire.messages import SYNC_METHOD, GatewayFrames
from wire.ranges import RangeSet
from wire.reading import Kind, Priority
from wire.segment import AtomRef, Block, Segment
from wire.series import SeriesDef, SeriesSet
from wire.sync.frames import CloudFrame, EpochOffer, GatewayFrame, Hello, MessageFrame, Welcome

S = 1_000_000
T0_US = 1_800_000_000 * S
ROOM = SeriesSet((SeriesDef("room", "temperature", "Cel", den=100), SeriesDef("room", "humidity", "%RH", den=100)))
EPOCH = 7


class DialClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now_us = T0_US

    def wall_ns(self) -> int:
        return self.now_us * 1000

    def boottime_ns(self) -> int:
        return self.wall_ns()

    def sync_state(self) -> SyncState:
        return SyncState(True, 0)

    def sleep(self, seconds: float) -> None:
        self.now_us += int(seconds * S)


def segment(first: int, rows: int = 5, series_set: SeriesSet = ROOM, kind: Kind = Kind.RAW) -> bytes:
    """`rows` ticks of `series_set` as one atom from Seq `first` on."""
    stamps = np.arange(first, first + rows, dtype=np.int64) * 1000
    columns: list[np.ndarray] = [np.arange(rows, dtype=np.int64) + index for index in range(len(series_set.series))]
    atom = AtomRef(first, rows * len(columns), (rows,))
    block = Block(series_set.id, stamps, list(columns), stamp_unit=series_set.stamp_unit)
    return encode(Segment(Priority.NORMAL, kind, Anchor(1, T0_US, True, 500), (atom,), [block]))


def message(id_: int, first: int, rows: int = 5, epoch: int = EPOCH) -> MessageFrame:
    """A message of ROOM; it takes `2 * rows` Seq numbers."""
    return MessageFrame(id_, epoch, first + 2 * rows, segment(first, rows))


def hello(*epochs: int, sets: Iterable[int] = ()) -> Hello:
    """A Hello that offers nothing."""
    offers = tuple(EpochOffer(epoch, 0, RangeSet()) for epoch in epochs or (EPOCH,))
    return Hello(b"m" * 16, "1.0", "config", 0, offers, tuple(sets))


class Client:
    """One stream of one gateway."""

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        self.call = call
        self.frames = GatewayFrames()

    async def send(self, frame: GatewayFrame) -> None:
        await self.call.write(self.frames.encode(frame))

    async def receive(self) -> CloudFrame | None:
        """The next frame; None at the end of the stream. Raises grpc's error when it was ended with a code."""
        data = await self.call.read()
        if data is grpc.aio.EOF:
            if await self.call.code() is not grpc.StatusCode.OK:
                raise grpc.aio.AioRpcError(
                    await self.call.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), await self.call.details()
                )
            return None
        return self.frames.decode(data)

    async def open(self, first: Hello | None = None) -> Welcome:
        await self.send(first or hello())
        answer = await self.receive()
        assert isinstance(answer, Welcome)
        return answer


@asynccontextmanager
async def connect(address: str, keys: Path, ca: Path | None = None, certified: bool = True) -> AsyncIterator[Client]:
    """A stream with the certificate in `keys` (or none)."""
    pair = ((keys / "key.pem").read_bytes(), (keys / "cert.pem").read_bytes()) if certified else (None, None)
    credentials = grpc.ssl_channel_credentials((ca or keys / "ca.pem").read_bytes(), *pair)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        yield Client(channel.stream_stream(SYNC_METHOD)())
