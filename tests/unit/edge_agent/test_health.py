from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import pytest

from edge_agent.health import Notifier, watchdog_period_s
from edge_agent.log import LineFormatter, in_journal


@pytest.mark.parametrize("abstract", [False, True])
def test_notifications_arrive_as_one_datagram(tmp_path: Path, abstract: bool) -> None:
    address = f"@tidegate-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:] if abstract else address)
        manager.settimeout(5)
        Notifier(address).send("READY=1", "STATUS=collecting")
        assert manager.recv(1000) == b"READY=1\nSTATUS=collecting"


def test_no_manager_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Notifier(str(tmp_path / "gone")).send("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().send("READY=1")


@pytest.mark.parametrize(
    ("microseconds", "pid", "period"),
    [("60000000", None, 30.0), ("60000000", "own", 30.0), ("60000000", "1", None), ("", None, None)],
)
def test_the_watchdog_is_fed_at_half_its_time(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str | None, period: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert watchdog_period_s() == period


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("edge_agent.sources.sensor", level, __file__, 1, message, (), None)


def test_one_line_per_event_whatever_it_holds() -> None:
    line = LineFormatter(in_journal=True).format(record(logging.WARNING, 'sensor "a"\nlost \\'))
    assert line == '<4>level=warning part=sources.sensor msg="sensor \\"a\\"\\nlost \\\\"'


def test_the_time_stands_there_where_no_journal_adds_it() -> None:
    line = LineFormatter(in_journal=False).format(record(logging.INFO, "x"))
    assert line[10] == "T"
    assert line.endswith('Z level=info part=sources.sensor msg="x"')


def test_the_journal_is_known_by_the_stream_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert in_journal()
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
        assert not in_journal()
