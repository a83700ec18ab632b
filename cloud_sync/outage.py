"""Says once that something is gone and once that it is back, however often it is asked for in between."""

from __future__ import annotations

import logging
import threading

from wire.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)


class Outage:
    """One thing that can be away, such as the object store. Any thread may tell how a call went."""

    def __init__(self, what: str, clock: Clock) -> None:
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._since_ns = 0
        self._failures = 0
        self.error: Exception | None = None  # of the last call; None while it works

    def failed(self, error: Exception) -> None:
        """A call failed."""
        with self._lock:
            self._failures += 1
            self.error = error
            if self._failures > 1:
                return
            self._since_ns = self._clock.boottime_ns()
        log.error("%s lost, nothing is acknowledged until it is back error=%s", self._what, error)

    def worked(self) -> None:
        """A call succeeded."""
        if not self._failures:
            return
        with self._lock:
            failures, self._failures, self.error = self._failures, 0, None
            seconds = (self._clock.boottime_ns() - self._since_ns) / NS_PER_S
        if failures:
            log.warning("%s is back after_s=%.1f failures=%d", self._what, seconds, failures)
