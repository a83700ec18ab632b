"""What commands a gateway is withheld while two machines use its certificate; data is taken all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.auth.trust import Trust
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.grpc_api.assigning import Assigning
from cloud_sync.grpc_api.stream import Stream, StreamPorts
from cloud_sync.ingest.group_commit import GroupCommit
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.metrics import Metrics
from cloud_sync.rollout.director import Director
from cloud_sync.storage.local_store import LocalStore
from tests.unit.cloud_sync.gateway import ROOM, hello, message
from wire.clock import SystemClock
from wire.messages import GatewayFrames
from wire.sync.frames import Ack, CloudFrame, GatewayFrame, NeedSeries, SeriesSetsFrame, Welcome

COMMAND = NeedSeries(7, ())  # stands for a frame that commands: any will do


class Box:
    """A machine that talks with a stream without a network between."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.frames = GatewayFrames()
        self._in: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._out: asyncio.Queue[bytes] = asyncio.Queue()

    def send(self, frame: GatewayFrame) -> None:
        self._in.put_nowait(self.frames.encode(frame))

    async def receive(self) -> CloudFrame:
        async with asyncio.timeout(20):
            return self.frames.decode(await self._out.get())

    async def open(self, machine: bytes) -> None:
        self.send(replace(hello(), machine=machine))
        assert isinstance(await self.receive(), Welcome)

    async def store(self) -> None:
        self.send(SeriesSetsFrame((ROOM,)))
        self.send(message(1, 0))
        assert isinstance(await self.receive(), Ack)

    async def run(self) -> None:
        await self.stream.run(self._in.get, self._out.put)


class Service:
    """A catalog, a store, and streams on them."""

    def __init__(self, folder: Path) -> None:
        clock = SystemClock()
        self.metrics = Metrics()
        self.catalog = SqlCatalog.open(folder / "catalog.sqlite", clock)
        ingestor = Ingestor(self.catalog, LocalStore(folder / "objects"), clock, self.metrics)
        self.group = GroupCommit(ingestor, self.metrics)
        off_loop, director = asyncio.to_thread, Director(folder / "ota", clock)
        assigning = Assigning(self.catalog.assignments, director, clock, off_loop)
        parts = ingestor, self.group, self.catalog, clock, self.metrics
        self._ports = StreamPorts(*parts, off_loop, assigning, Trust(b""))

    @property
    def withheld(self) -> float:
        return self.metrics.registry.get_sample_value("tidegate_commands_withheld_total") or 0.0

    @asynccontextmanager
    async def box(self, machine: bytes) -> AsyncIterator[Box]:
        box = Box(Stream("gw-a", self._ports))
        task = asyncio.create_task(box.run())
        try:
            await box.open(machine)
            yield box
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(tmp_path)
    running = asyncio.create_task(made.group.run())
    yield made
    running.cancel()
    await asyncio.wait({running})
    made.catalog.close()


async def test_commands_are_withheld_from_both_clones_and_data_is_taken(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with service.box(b"original") as original:
        assert await original.stream.command(COMMAND)
        assert await original.receive() == COMMAND
        async with service.box(b"copy") as copy:
            for each in (original, copy, original):
                assert not await each.stream.command(COMMAND)
            await copy.store()
        await original.store()  # an Ack came next: nothing of the commands was sent
        assert service.withheld == 3
        assert caplog.text.count("two machines use one certificate gateway=gw-a") == 2, "once a stream"
        service.catalog.retire_machine("gw-a", b"copy")
        assert await original.stream.command(COMMAND)
        assert await original.receive() == COMMAND
