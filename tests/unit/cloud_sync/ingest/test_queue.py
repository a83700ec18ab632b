"""When a pack is written, and what is in it."""

from __future__ import annotations

import pytest

from cloud_sync.ingest.queue import (
    LINGER_S_MAX,
    LINGER_S_MIN,
    PACK_BYTES_MAX,
    PACK_MESSAGES_MAX,
    CommitQueue,
    Submission,
)
from wire.sync.frames import MessageFrame


def submission(id_: int, size: int = 10) -> Submission[int]:
    return Submission("gw-a", MessageFrame(id_, 7, 0, bytes(size)), id_)


def test_nothing_is_due_when_nothing_waits() -> None:
    assert CommitQueue[int]().due_s() is None


def test_the_first_message_waits_for_others_and_the_clock_starts_with_it() -> None:
    queue = CommitQueue[int]()
    queue.add(submission(1), 100.0)
    queue.add(submission(2), 100.015)
    assert queue.due_s() == 100.0 + LINGER_S_MIN
    assert [one.done for one in queue.take(100.02)] == [1, 2]
    assert queue.due_s() is None
    assert queue.waiting_bytes == 0


def test_eight_mebibytes_go_at_once() -> None:
    queue = CommitQueue[int]()
    size = 256 * 1024
    for id_ in range(PACK_BYTES_MAX // size):
        assert queue.due_s() is None or queue.due_s() > 5.0  # type: ignore[operator]
        queue.add(submission(id_, size), 5.0)
    assert queue.due_s() == 5.0
    queue.add(submission(99, size), 5.0)
    assert len(queue.take(5.0)) == PACK_BYTES_MAX // size
    assert (len(queue), queue.waiting_bytes) == (1, size)


def test_many_small_messages_go_at_once() -> None:
    queue = CommitQueue[int]()
    for id_ in range(PACK_MESSAGES_MAX + 1):
        queue.add(submission(id_), 5.0)
    assert queue.due_s() == 5.0
    assert len(queue.take(5.0)) == PACK_MESSAGES_MAX


def test_a_message_larger_than_a_pack_still_goes() -> None:
    queue = CommitQueue[int]()
    queue.add(submission(1, PACK_BYTES_MAX + 1), 0.0)
    assert len(queue.take(0.0)) == 1


def test_slow_commits_make_it_linger_longer_and_fast_ones_shorter() -> None:
    queue = CommitQueue[int]()
    seen = []
    for commit_s in (0.001, 0.05, 0.05, 10.0, *[0.001] * 60):
        queue.committed(commit_s)
        seen.append(queue.linger_s)
    assert seen[0] == LINGER_S_MIN
    assert seen[0] < seen[1] < seen[2] < seen[3] == LINGER_S_MAX
    assert seen[-1] == pytest.approx(LINGER_S_MIN)
