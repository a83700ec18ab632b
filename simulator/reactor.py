"""A small single-threaded loop: files that became readable, and calls that fell due."""

from __future__ import annotations

import heapq
import selectors
from collections.abc import Callable
from itertools import count
from typing import Protocol

from wire.clock import NS_PER_S, Clock


class HasFileno(Protocol):
    """A socket, or anything with a descriptor."""

    def fileno(self) -> int:
        """The descriptor."""
        ...


class Reactor:
    """Callbacks run on the thread that calls `run`; none of them may block."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()
        self._stopped = False

    def watch(self, file: int | HasFileno, callback: Callable[[], None]) -> None:
        """Call `callback` whenever the file is readable or hung up."""
        self._selector.register(file, selectors.EVENT_READ, callback)

    def forget(self, file: int | HasFileno) -> None:
        """Stop watching; the file stays open."""
        self._selector.unregister(file)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, after so long."""
        due = self._clock.boottime_ns() + int(seconds * NS_PER_S)
        heapq.heappush(self._due, (due, next(self._order), callback))

    def stop(self) -> None:
        """Make `run` return after the callback that runs now."""
        self._stopped = True

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopped:
            self._turn()

    def close(self) -> None:
        """Release the loop's own descriptor."""
        self._selector.close()

    def _turn(self) -> None:
        wait_s = None
        if self._due:
            wait_s = max(0.0, (self._due[0][0] - self._clock.boottime_ns()) / NS_PER_S)
        for key, _ in self._selector.select(wait_s):
            if key.fileobj in self._selector.get_map():  # an earlier callback may have forgotten it
                key.data()
        while self._due and self._due[0][0] <= self._clock.boottime_ns():
            heapq.heappop(self._due)[2]()
