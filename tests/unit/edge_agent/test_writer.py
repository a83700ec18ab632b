from __future__ import annotations

import logging
import time

import pytest

from edge_agent.errors import OutboxCorrupt, OutboxFull
from edge_agent.writer import Writer
from tests.unit.edge_agent.parts import ManualClock
from wire.clock import SystemClock


class Disk:
    """Counts commits; fails as told."""

    def __init__(self) -> None:
        self.commits = 0
        self.error: Exception | None = None

    def commit(self) -> None:
        if self.error is not None:
            raise self.error
        self.commits += 1


def test_commits_stand_on_the_grid() -> None:
    clock, disk, told = ManualClock(), Disk(), []
    writer = Writer(disk, 5.0, lambda: told.append(clock.now_ns), clock)
    assert writer.step() == 5.0
    clock.move(5)
    assert writer.step() == 5.0
    clock.move(12)
    assert writer.step() == 3.0
    assert (disk.commits, len(told)) == (2, 2)


def test_a_poke_commits_at_once() -> None:
    clock, disk = ManualClock(), Disk()
    writer = Writer(disk, 5.0, lambda: None, clock)
    clock.move(1)
    writer.poke()
    writer.step()
    assert disk.commits == 1


def test_a_full_disk_is_told_once_tried_again_and_its_end_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock, disk, told = ManualClock(), Disk(), []
    writer = Writer(disk, 5.0, lambda: told.append(1), clock)
    disk.error = OutboxFull("no space left on device")
    for _ in range(3):
        clock.move(5)
        writer.step()
    assert writer.error
    assert told == []
    disk.error = None
    clock.move(5)
    writer.step()
    assert (writer.error, told) == ("", [1])
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_the_thread_commits_and_once_more_at_the_end() -> None:
    disk = Disk()
    writer = Writer(disk, 0.05, lambda: None, SystemClock())
    writer.start()
    deadline = time.monotonic() + 5
    while disk.commits < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    writer.stop(5)
    count = disk.commits
    assert count >= 4
    time.sleep(0.1)
    assert disk.commits == count


def test_a_damaged_outbox_ends_the_thread_and_is_handed_on() -> None:
    disk = Disk()
    disk.error = OutboxCorrupt("page 7")
    writer = Writer(disk, 0.01, lambda: None, SystemClock())
    writer.start()
    deadline = time.monotonic() + 5
    while writer.failure is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(writer.failure, OutboxCorrupt)
    writer.stop(1)
