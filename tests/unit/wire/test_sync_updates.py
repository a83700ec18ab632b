"""Assignments and reports in both machines: only on streams whose ends know them, and no report twice or lost."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from tests.sim.memory_outbox import Disk, MemoryOutbox
from wire.errors import ProtocolViolation
from wire.ranges import RangeSet
from wire.sync.cloud import CloudSession, StoreReports
from wire.sync.frames import (
    Ack,
    AssignmentFrame,
    EpochCoverage,
    EpochOffer,
    GatewayFrame,
    Hello,
    ReportsFrame,
    Welcome,
)
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.leave import Leave
from wire.sync.outcomes import HelloAnswer
from wire.sync.sender import REPORTS_PER_FRAME
from wire.sync.status import Reason
from wire.sync.updates import Report

GENERATION = 7


class Installer:
    """The port, in memory."""

    def __init__(self) -> None:
        self.count = 0
        self.documents: list[tuple[bytes, bytes]] = []
        self.waiting = [Report(number, 0, "toy", "toy/1", "tested") for number in range(1, REPORTS_PER_FRAME + 4)]

    def nonce(self) -> bytes:
        self.count += 1
        return bytes([self.count] * 16)

    def running(self) -> tuple[tuple[str, str], ...]:
        return (("toy", "toy/1"),)

    def reports(self) -> list[Report]:
        return self.waiting

    def reports_acked(self, ids: Iterable[int]) -> None:
        gone = set(ids)
        self.waiting = [report for report in self.waiting if report.id not in gone]

    def assigned(self, document: bytes, nonce: bytes) -> None:
        self.documents.append((document, nonce))


class Valve:
    bulk = True

    def leave(self, now: float) -> Leave:
        return Leave(bulk=self.bulk, ask_time=True)

    def told_time(self, server_time_us: int, now: float) -> None:
        pass


class Bench:
    def __init__(self, updates: Installer | None) -> None:
        numbers = iter(range(1, 1000))
        self.valve = Valve()
        outbox = MemoryOutbox(Disk(), 1, lambda: next(numbers), lambda atom: None)
        self.sync = GatewaySync(
            outbox, SyncOptions(), Identity(b"m", "0.1", "c"), random.Random(1), self.valve, updates
        )

    def connect(self, takes_reports: bool = True) -> tuple[Hello, list[GatewayFrame]]:
        (hello,) = self.sync.connected(0.0)
        assert isinstance(hello, Hello)
        coverage = tuple(EpochCoverage() for _ in hello.epochs)
        welcome = Welcome(GENERATION, coverage, 0, 1 << 20, takes_reports=takes_reports)
        return hello, self.sync.received(welcome, 0.0)


def ids(frame: GatewayFrame) -> list[int]:
    assert isinstance(frame, ReportsFrame)
    return [report.id for report in frame.reports]


def test_an_assignment_comes_with_the_nonce_of_its_stream() -> None:
    installer = Installer()
    bench = Bench(installer)
    hello, _ = bench.connect()
    assert (hello.nonce, hello.models) == (bytes([1] * 16), (("toy", "toy/1"),))
    bench.sync.received(AssignmentFrame(b"first"), 1.0)
    bench.sync.disconnected(2.0)
    bench.connect()
    bench.sync.received(AssignmentFrame(b"second"), 3.0)
    assert installer.documents == [(b"first", bytes([1] * 16)), (b"second", bytes([2] * 16))]


def test_who_takes_none_asks_for_none_and_drops_who_sends_one() -> None:
    bench = Bench(None)
    hello, frames = bench.connect()
    assert (hello.nonce, hello.models, frames) == (b"", (), [])
    bench.sync.received(AssignmentFrame(b"x"), 1.0)
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.PROTOCOL


def test_an_assignment_before_welcome_is_a_breach() -> None:
    installer = Installer()
    bench = Bench(installer)
    bench.sync.connected(0.0)
    bench.sync.received(AssignmentFrame(b"x"), 1.0)
    assert installer.documents == []
    assert bench.sync.wants_disconnect is not None


def test_reports_go_a_frame_at_a_time_and_again_when_they_were_not_acknowledged() -> None:
    installer = Installer()
    bench = Bench(installer)
    _, (first,) = bench.connect()
    assert ids(first) == list(range(1, REPORTS_PER_FRAME + 1))
    assert bench.sync.reported(1.0) == []
    bench.sync.disconnected(2.0)
    _, (again,) = bench.connect()
    assert ids(again) == ids(first)
    (rest,) = bench.sync.received(Ack(GENERATION, reports=tuple(ids(first))), 3.0)
    assert ids(rest) == [REPORTS_PER_FRAME + 1, REPORTS_PER_FRAME + 2, REPORTS_PER_FRAME + 3]
    assert bench.sync.received(Ack(GENERATION, reports=(*ids(rest), 999)), 4.0) == []
    assert installer.waiting == []
    installer.waiting.append(Report(77, 0, "toy", "toy/1", "committed"))
    (new,) = bench.sync.reported(5.0)
    assert ids(new) == [77]


def test_a_cloud_that_does_not_know_reports_gets_none() -> None:
    installer = Installer()
    _, frames = Bench(installer).connect(takes_reports=False)
    assert frames == []


def test_reports_keep_to_windows() -> None:
    bench = Bench(Installer())
    bench.valve.bulk = False
    _, frames = bench.connect()
    assert frames == []
    bench.valve.bulk = True
    assert [type(frame) for frame in bench.sync.tick(1.0)] == [ReportsFrame]


def test_silence_after_reports_is_a_stall() -> None:
    bench = Bench(Installer())
    bench.connect()
    bench.sync.tick(1000.0)
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.STALL


def test_the_cloud_stores_reports_before_it_acknowledges_them() -> None:
    session = CloudSession("gw")
    report = Report(5, 0, "toy", "toy/1", "refused", "latency", "slow")
    with pytest.raises(ProtocolViolation):
        session.received(ReportsFrame((report,)))
    session = CloudSession("gw")
    session.received(Hello(b"m", "0.1", "c", 0, (EpochOffer(1, 0, RangeSet()),), nonce=b"n" * 16))
    welcome = session.welcome(HelloAnswer(GENERATION, (EpochCoverage(),), ()), 0)
    assert welcome.takes_reports
    assert session.nonce == b"n" * 16
    effect = session.received(ReportsFrame((report,)))
    assert effect == StoreReports((report,))
    assert isinstance(effect, StoreReports)
    assert session.recorded(effect) == Ack(GENERATION, reports=(5,))
    assert session.assign(b"doc") == AssignmentFrame(b"doc")
