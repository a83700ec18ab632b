"""When to commit: each interval, earlier for an alarm or a ring that fills, not again at once after a failure."""

from __future__ import annotations

from edge_agent.outbox.options import OutboxOptions
from wire.clock import NS_PER_S

EARLY_FILL = 0.5  # of the ring: do not wait for the interval


class Schedule:
    """Times are boottime nanoseconds."""

    def __init__(self, options: OutboxOptions, now_ns: int) -> None:
        self._interval_ns = round(options.commit_interval_s * NS_PER_S)
        self._alarm_ns = round(options.alarm_interval_s * NS_PER_S)
        self._failed_ns = now_ns - self._alarm_ns
        self.committed_ns = now_ns
        self.alarm = False

    def failed(self, now_ns: int) -> None:
        """A commit could not be written."""
        self._failed_ns = now_ns

    def may_try(self, now_ns: int) -> bool:
        """False just after a failure: another try would fail too, and cost the caller its time."""
        return now_ns - self._failed_ns >= self._alarm_ns

    def committed(self, now_ns: int) -> None:
        """A commit has emptied the ring."""
        self.committed_ns = now_ns

    def hurry(self) -> None:
        """What waits has waited for an interval already."""
        self.committed_ns -= self._interval_ns

    def early(self, fill: float) -> bool:
        """Is there a reason not to wait for the interval?"""
        return self.alarm or fill > EARLY_FILL

    def due_in_ns(self, now_ns: int, fill: float, *, waiting: bool) -> int:
        """Until the next commit; the whole interval when nothing is `waiting`."""
        if not waiting and not self.alarm:
            return self._interval_ns
        wait = self._alarm_ns if self.early(fill) else self._interval_ns
        return max(self.committed_ns + wait, self._failed_ns + self._alarm_ns) - now_ns
