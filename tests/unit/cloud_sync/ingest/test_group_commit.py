"""Many streams, few packs; an error reaches every sender; a bound on memory holds senders back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import CloudError, StoreDown
from cloud_sync.ingest import group_commit as group_commit_module
from cloud_sync.ingest.group_commit import GroupCommit
from cloud_sync.ingest.ingestor import Ingestor, Resolved
from cloud_sync.metrics import Metrics
from cloud_sync.storage.local_store import LocalStore
from tests.unit.cloud_sync.gateway import ROOM, DialClock, message
from wire.sync.frames import MessageFrame
from wire.sync.outcomes import Stored


@asynccontextmanager
async def running(ingestor: Ingestor) -> AsyncIterator[GroupCommit]:
    group = GroupCommit(ingestor, Metrics())
    task = asyncio.create_task(group.run())
    try:
        yield group
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
def ingestor(tmp_path: Path) -> Iterator[Ingestor]:
    catalog = SqlCatalog.open(tmp_path / "catalog.sqlite", DialClock())
    catalog.put_series_sets("gw-0", [ROOM])
    yield Ingestor(catalog, LocalStore(tmp_path / "objects"), DialClock(), Metrics())
    catalog.close()


class Gate(Ingestor):
    """An ingestor that waits until a test lets it through."""

    def __init__(self) -> None:
        self.commit_s = 0.0
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.error: CloudError | None = None

    def write(self, items: Sequence[tuple[str, MessageFrame]]) -> list[Resolved]:
        self.batches.append(len(items))
        self.entered.set()
        assert self.open.wait(10)
        if self.error:
            raise self.error
        from wire.ranges import RangeSet

        return [Resolved(Stored(), RangeSet()) for _ in items]


async def submit(group: GroupCommit, gateway: str, frame: MessageFrame) -> asyncio.Future[Resolved | CloudError]:
    future: asyncio.Future[Resolved | CloudError] = asyncio.get_running_loop().create_future()
    await group.submit(gateway, frame, future.set_result)
    return future


async def test_many_streams_share_a_pack(ingestor: Ingestor, tmp_path: Path) -> None:
    async with running(ingestor) as group:
        futures = [await submit(group, f"gw-{index}", message(1, 0)) for index in range(200)]
        results = await asyncio.gather(*futures)
    assert [r.outcome for r in results if isinstance(r, Resolved)] == [Stored()] * 200
    assert len(list(LocalStore(tmp_path / "objects").list("packs/"))) == 1


async def test_an_error_reaches_every_sender_and_the_next_pack_goes_on() -> None:
    gate = Gate()
    gate.open.set()
    gate.error = StoreDown("full")
    async with running(gate) as group:
        futures = [await submit(group, "gw-a", message(index, 0)) for index in range(5)]
        assert await asyncio.gather(*futures) == [gate.error] * 5
        gate.error = None
        assert isinstance(await (await submit(group, "gw-a", message(9, 0))), Resolved)


async def test_two_packs_at_most_are_in_flight_and_the_rest_gathers() -> None:
    gate = Gate()
    async with running(gate) as group:
        futures = []
        for round_ in range(5):
            futures += [await submit(group, "gw-a", message(round_ * 10 + index, 0)) for index in range(10)]
            async with asyncio.timeout(30):
                while len(gate.batches) < min(round_ + 1, 2):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # a third would begin meanwhile
        assert gate.batches == [10, 10]
        gate.open.set()
        await asyncio.gather(*futures)
    assert gate.batches == [10, 10, 30]


async def test_senders_wait_while_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit_module, "HELD_BYTES_MAX", 1000)
    gate = Gate()
    async with running(gate) as group:
        big = MessageFrame(1, 7, 0, bytes(1001))
        first = await submit(group, "gw-a", big)
        second = asyncio.create_task(submit(group, "gw-a", big))
        await asyncio.sleep(0.1)
        assert not second.done()
        gate.open.set()
        await first
        await (await second)


async def test_what_is_in_flight_is_written_to_its_end() -> None:
    gate = Gate()
    async with running(gate) as group:
        future = await submit(group, "gw-a", message(1, 0))
        assert await asyncio.to_thread(gate.entered.wait, 10)
        asyncio.get_running_loop().call_later(0.1, gate.open.set)
    assert isinstance(future.result(), Resolved)
