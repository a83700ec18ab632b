"""Threads for blocking work, so that the event loop that acknowledges data never waits for a query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

THREADS = 2  # numpy holds the interpreter lock for part of the work: more threads only add latency
WAITING_MAX = 64


class Busy(Exception):
    """More calls wait than the bound allows: the caller tries again later."""


class Workers:
    """A bounded pool. Used from one event loop."""

    def __init__(self, threads: int = THREADS, waiting_max: int = WAITING_MAX) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="query")
        self._bound = threads + waiting_max
        self._inside = 0

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Call `work(*args)` on a thread. Raises Busy at once when too many wait."""
        if self._inside >= self._bound:
            raise Busy(f"{self._inside} queries are waiting; the most is {self._bound}. Try again in a second")
        self._inside += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*args))
        # A caller that goes away does not free the thread: the place is given back when the work ends.
        future.add_done_callback(self._leave)
        return await asyncio.shield(future)

    def _leave(self, future: asyncio.Future[T]) -> None:
        self._inside -= 1
        if not future.cancelled():
            future.exception()  # seen, even when the caller has gone

    def close(self) -> None:
        """Let running work end and take no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)
