"""The writer: one thread that commits what the journal holds when the recorder says so, and tells the syncer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from edge_agent.errors import AgentError, OutboxCorrupt
from wire.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)

# From the first poke to the look, so that ticks of that time share one: the detector's code and data are met again
# while they are in the caches (docs/decisions/0180, 0230). An alarm waits for it.
GATHER_S = 0.25
WAIT_S_MAX = 2.0  # it looks up at least so often, so that the watchdog sees it alive


class Commits(Protocol):
    """What the writer needs of the recorder."""

    def look(self) -> float:
        """Put what was taken through the detector; seconds until the next look without a reading."""
        ...

    def due_in_s(self, now_ns: int) -> float:
        """Seconds until the next commit."""
        ...

    def commit(self) -> object | None:
        """Store what was journalled since the last commit; None when there was nothing."""
        ...


class Writer:
    """`step` is one look at the clock, without a thread; the thread only repeats it."""

    def __init__(
        self,
        recorder: Commits,
        on_commit: Callable[[], None],
        clock: Clock,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """`prepare` is the thread's first work: what takes long and is not needed to take readings."""
        self._recorder = recorder
        self._on_commit = on_commit
        self._clock = clock
        self._prepare = prepare
        self.alive_ns = clock.boottime_ns()
        self.error = ""  # of the last commit; empty: it succeeded
        self.failure: BaseException | None = None  # what ended the thread
        self._poked = threading.Event()
        self._stopping = False
        self._asked: Callable[[], None] | None = None
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, work: Callable[[], None]) -> None:
        """Have this done by the writer's thread soon, after a commit; of several, the last. For any thread."""
        self._asked = work
        self._poked.set()

    def poke(self) -> None:
        """Look soon whether a commit is due: the journal is filling up, or an alarm waits. For any thread."""
        if not self._poked.is_set():
            self._poked.set()

    def stop(self, timeout_s: float) -> None:
        """Commit what is left and end. Call when the sources have ended."""
        self._stopping = True
        self._poked.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def is_running(self) -> bool:
        """False once the thread has ended, or never began."""
        return self._thread.is_alive()

    def is_alive(self, now_ns: int, limit_s: float) -> bool:
        """Whether the thread looked up within the limit."""
        return self.failure is None and now_ns - self.alive_ns <= limit_s * NS_PER_S

    def step(self) -> float:
        """Look for alarms, commit if it is due; the seconds until the next step. Raises OutboxCorrupt."""
        self.alive_ns = self._clock.boottime_ns()
        look_s = self._recorder.look()
        if self._recorder.due_in_s(self.alive_ns) <= 0:
            self.commit()
        return min(look_s, self._recorder.due_in_s(self._clock.boottime_ns()))

    def commit(self) -> None:
        """Commit now; a disk that refuses is told once, and tried again when the recorder says."""
        try:
            wrote = self._recorder.commit() is not None
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
        if wrote:
            self._on_commit()

    def _run(self) -> None:
        try:
            if self._prepare is not None:
                self._prepare()
            while not self._stopping:
                asked, self._asked = self._asked, None
                if asked is not None:
                    self.commit()
                    asked()
                wait_s = self.step()
                if self._poked.wait(max(0.0, min(wait_s, WAIT_S_MAX))) and not self._stopping:
                    self._clock.sleep(GATHER_S)
                self._poked.clear()  # before the look: a poke from here on asks for another
            self.commit()
        except BaseException as error:  # the agent ends on it
            self.failure = error
