"""When to write a pack: a queue with a bound and an adaptive linger. No clock and no thread of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from wire.sync.frames import MessageFrame

PACK_BYTES_MAX = 8 * 1024 * 1024  # flushed at once
PACK_MESSAGES_MAX = 4096
LINGER_S_MIN = 0.020
LINGER_S_MAX = 0.250
LINGER_PER_COMMIT = 2.0
COMMIT_WEIGHT = 0.25  # of the newest commit in the running mean

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Submission(Generic[T]):
    """A message of a gateway, and whom to tell."""

    gateway: str
    message: MessageFrame
    done: T


class CommitQueue(Generic[T]):
    """Messages that wait for their pack. Times are seconds of one monotonic clock of the caller's."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._waiting: list[Submission[T]] = []
        self._oldest_s = 0.0
        self._commit_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def linger_s(self) -> float:
        """How long the first message of a pack waits for others: longer where commits are slow."""
        return min(LINGER_S_MAX, max(LINGER_S_MIN, self._commit_s * LINGER_PER_COMMIT))

    def add(self, submission: Submission[T], now_s: float) -> None:
        """Queue a message. The caller keeps `waiting_bytes` bounded."""
        if not self._waiting:
            self._oldest_s = now_s
        self._waiting.append(submission)
        self.waiting_bytes += len(submission.message.segment)

    def due_s(self) -> float | None:
        """When the next pack should be written: a time in the past for at once, None for nothing waits."""
        if not self._waiting:
            return None
        full = self.waiting_bytes >= PACK_BYTES_MAX or len(self._waiting) >= PACK_MESSAGES_MAX
        return self._oldest_s if full else self._oldest_s + self.linger_s

    def take(self, now_s: float) -> list[Submission[T]]:
        """The messages of the next pack, in the order of arrival."""
        size = count = 0
        for submission in self._waiting[:PACK_MESSAGES_MAX]:
            size += len(submission.message.segment)
            if count and size > PACK_BYTES_MAX:
                size -= len(submission.message.segment)
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self.waiting_bytes -= size
        self._oldest_s = now_s
        return taken

    def committed(self, seconds: float) -> None:
        """Tell how long a pack took from its PUT to its commit."""
        self._commit_s += (seconds - self._commit_s) * (COMMIT_WEIGHT if self._commit_s else 1.0)
