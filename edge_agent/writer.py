"""The writer: one thread that commits what the journal holds, on a grid, and tells the syncer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from edge_agent.errors import AgentError, OutboxCorrupt
from wire.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)

WAIT_S_MAX = 2.0  # it looks up at least so often, so that the watchdog sees it alive


class Commits(Protocol):
    """What the writer needs of the recorder."""

    def commit(self) -> object:
        """Store what was journalled since the last commit."""
        ...


class Writer:
    """`step` is one look at the clock, without a thread; the thread only repeats it."""

    def __init__(self, recorder: Commits, interval_s: float, on_commit: Callable[[], None], clock: Clock) -> None:
        self._recorder = recorder
        self._interval_ns = round(interval_s * NS_PER_S)
        self._on_commit = on_commit
        self._clock = clock
        self.alive_ns = clock.boottime_ns()
        self.committed_ns = self.alive_ns  # when the last commit succeeded
        self.error = ""  # of the last commit; empty: it succeeded
        self.failure: BaseException | None = None  # what ended the thread
        self._due_ns = self.alive_ns + self._interval_ns
        self._poked = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def poke(self) -> None:
        """Commit now and not only at the next grid point: the journal is filling up, or an alarm waits."""
        self._due_ns = self._clock.boottime_ns()
        self._poked.set()

    def stop(self, timeout_s: float) -> None:
        """Commit what is left and end. Call when the sources have ended."""
        self._stopping = True
        self._poked.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def step(self) -> float:
        """Commit if it is due; the seconds until the next. Raises OutboxCorrupt."""
        self.alive_ns = self._clock.boottime_ns()
        if self.alive_ns >= self._due_ns:
            behind = (self.alive_ns - self._due_ns) // self._interval_ns
            self._due_ns += (behind + 1) * self._interval_ns
            self.commit()
        return max(0.0, (self._due_ns - self._clock.boottime_ns()) / NS_PER_S)

    def commit(self) -> None:
        """Commit now; a disk that refuses is told once, and tried again at the next grid point."""
        try:
            self._recorder.commit()
        except OutboxCorrupt:
            raise
        except AgentError as error:
            if not self.error:
                log.error("commit failed, readings stay in the journal: %s", error)
            self.error = str(error)
            return
        if self.error:
            log.info("commits work again")
        self.error = ""
        self.committed_ns = self._clock.boottime_ns()
        self._on_commit()

    def _run(self) -> None:
        try:
            while not self._stopping:
                if self._poked.wait(min(self.step(), WAIT_S_MAX)):
                    self._poked.clear()
            self.commit()
        except BaseException as error:  # the agent ends on it
            self.failure = error
