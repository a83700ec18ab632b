"""The asyncio shell round the ingestor: collects messages of all streams, writes packs on worker threads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cloud_sync.errors import CatalogDown, CloudError, StoreDown
from cloud_sync.ingest.ingestor import Ingestor, Resolved
from cloud_sync.ingest.queue import CommitQueue, Submission
from cloud_sync.metrics import Metrics
from wire.sync.frames import MessageFrame

log = logging.getLogger(__name__)

PACKS_IN_FLIGHT_MAX = 2  # one is decoded while the other is fsynced
HELD_BYTES_MAX = 64 * 1024 * 1024  # messages in memory; streams that bring more wait

Done = Callable[[Resolved | CloudError], None]


class GroupCommit:
    """Runs inside one event loop. `run` must be running while `submit` is used."""

    def __init__(self, ingestor: Ingestor, metrics: Metrics) -> None:
        self._ingestor = ingestor
        self._metrics = metrics
        self._queue: CommitQueue[tuple[Done, float]] = CommitQueue()
        self._pool = ThreadPoolExecutor(PACKS_IN_FLIGHT_MAX, thread_name_prefix="ingest")
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._held_bytes = 0  # queued or being written

    @property
    def load(self) -> float:
        """Share of the memory for messages that is taken; streams wait at 1."""
        return self._held_bytes / HELD_BYTES_MAX

    async def submit(self, gateway: str, message: MessageFrame, done: Done) -> None:
        """Queue a message once there is room for it.

        `done` is called in the event loop: with a CloudError when nothing may be acknowledged (drop the stream, the
        gateway sends again), else with what became of the message.
        """
        while self._held_bytes > HELD_BYTES_MAX:
            self._room.clear()
            await self._room.wait()
        now_s = asyncio.get_running_loop().time()
        self._held_bytes += len(message.segment)
        self._queue.add(Submission(gateway, message, (done, now_s)), now_s)
        self._changed.set()

    async def run(self) -> None:
        """Write packs until cancelled. What is in flight is then written to its end; what waits is dropped."""
        flights: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        try:
            while True:
                due_s = self._queue.due_s()
                if due_s is None or len(flights) >= PACKS_IN_FLIGHT_MAX:
                    await self._wait(flights, None)
                elif due_s > loop.time():
                    await self._wait(flights, due_s - loop.time())
                else:
                    flights.add(asyncio.create_task(self._write(self._queue.take(loop.time())), name="pack"))
                for task in [task for task in flights if task.done()]:
                    flights.remove(task)
                    task.result()  # a mistake of ours ends the service
        finally:
            if flights:
                await asyncio.wait(flights)
            self._pool.shutdown(wait=False)

    async def _wait(self, flights: set[asyncio.Task[None]], seconds: float | None) -> None:
        """Until the queue changes, a pack lands, or the time is over."""
        self._changed.clear()
        waker = asyncio.create_task(self._changed.wait())
        try:
            await asyncio.wait({waker, *flights}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waker.cancel()

    async def _write(self, batch: list[Submission[tuple[Done, float]]]) -> None:
        items = [(submission.gateway, submission.message) for submission in batch]
        loop = asyncio.get_running_loop()
        results: Sequence[Resolved | CloudError]
        try:
            results = await loop.run_in_executor(self._pool, self._ingestor.write, items)
            self._queue.committed(self._ingestor.commit_s)
        except CloudError as error:
            self._metrics.pack_failures.labels(type(error).__name__).inc()
            # What is away is said once, by its `Outage`.
            said = logging.DEBUG if isinstance(error, (CatalogDown, StoreDown)) else logging.ERROR
            log.log(said, "pack given up messages=%d error=%s", len(batch), error)
            results = [error] * len(batch)
        finally:
            self._held_bytes -= sum(len(message.segment) for _, message in items)
            self._room.set()
        for submission, result in zip(batch, results):
            done, arrived_s = submission.done
            self._metrics.commit_seconds.observe(loop.time() - arrived_s)
            done(result)
