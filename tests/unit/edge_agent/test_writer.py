from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from edge_agent.errors import OutboxCorrupt, OutboxFull
from edge_agent.writer import Writer
from tests.unit.edge_agent.parts import ManualClock, S
from wire.clock import Clock, SystemClock


class Disk:
    """Counts commits; due every `interval_s`; fails as told."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self.commits = self.looks = 0
        self.error: Exception | None = None
        self.is_empty = False
        self._clock = clock
        self._interval_ns = round(interval_s * S)
        self.due_ns = clock.boottime_ns() + self._interval_ns

    def look(self) -> float:
        self.looks += 1
        return 60.0

    def due_in_s(self, now_ns: int) -> float:
        return (self.due_ns - now_ns) / S

    def commit(self) -> object | None:
        self.due_ns = self._clock.boottime_ns() + self._interval_ns
        if self.error is not None:
            raise self.error
        self.commits += 1
        return None if self.is_empty else self


def test_commits_when_the_recorder_says_and_tells_the_syncer() -> None:
    clock = ManualClock()
    disk, told = Disk(clock, 5.0), []
    writer = Writer(disk, lambda: told.append(clock.now_ns), clock)
    assert writer.step() == 5.0
    clock.move(4)
    assert writer.step() == 1.0
    clock.move(1)
    assert writer.step() == 5.0
    assert (disk.commits, len(told)) == (1, 1)


def test_an_empty_commit_is_nothing_to_tell() -> None:
    clock = ManualClock()
    disk, told = Disk(clock, 5.0), []
    disk.is_empty = True
    writer = Writer(disk, lambda: told.append(1), clock)
    clock.move(5)
    writer.step()
    assert (disk.commits, told) == (1, [])


def test_a_full_disk_is_told_once_tried_again_and_its_end_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    disk, told = Disk(clock, 5.0), []
    writer = Writer(disk, lambda: told.append(1), clock)
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
    disk = Disk(SystemClock(), 0.05)
    writer = Writer(disk, lambda: None, SystemClock())
    writer.start()
    wait_until(lambda: disk.commits >= 3)
    writer.stop(5)
    count = disk.commits
    assert count >= 4
    time.sleep(0.1)
    assert disk.commits == count


def test_a_poke_makes_the_thread_look_at_once() -> None:
    disk = Disk(SystemClock(), 60.0)
    writer = Writer(disk, lambda: None, SystemClock())
    writer.start()
    time.sleep(0.05)
    disk.due_ns = 0
    writer.poke()
    wait_until(lambda: disk.commits == 1, 1.0)
    writer.stop(5)


class HeldClock(SystemClock):
    """Sleeps until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Event()
        self.let_go = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.asleep.set()
        assert self.let_go.wait(30)


def test_pokes_that_come_together_are_one_look_and_none_is_forgotten() -> None:
    clock = HeldClock()
    disk = Disk(clock, 60.0)
    writer = Writer(disk, lambda: None, clock)
    writer.start()
    wait_until(lambda: disk.looks == 1)
    writer.poke()
    assert clock.asleep.wait(30)
    for _ in range(10):
        writer.poke()
    clock.let_go.set()
    wait_until(lambda: disk.looks == 2)
    writer.poke()
    wait_until(lambda: disk.looks == 3)
    writer.stop(5)
    assert disk.looks == 3


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_damaged_outbox_ends_the_thread_and_is_handed_on() -> None:
    disk = Disk(SystemClock(), 0.01)
    disk.error = OutboxCorrupt("page 7")
    writer = Writer(disk, lambda: None, SystemClock())
    writer.start()
    wait_until(lambda: writer.failure is not None)
    assert isinstance(writer.failure, OutboxCorrupt)
    assert not writer.is_alive(SystemClock().boottime_ns(), 5)
    writer.stop(1)
