"""What a governor holds back does not leave, what it lets go does, and an idle stream is not kept for nothing."""

from __future__ import annotations

import random

from tests.unit.wire.test_sync_gateway import Bench, atoms_of, messages, only
from wire.alarm import Phase
from wire.reading import LossReason, Priority, Tombstone
from wire.sync.frames import Ack, AlarmsFrame, MessageFrame, TombstonesFrame
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.leave import Leave
from wire.sync.status import Reason


class Valve:
    """A governor that a test turns."""

    def __init__(self, leave: Leave) -> None:
        self.now = leave
        self.times: list[int] = []

    def leave(self, now: float) -> Leave:
        return self.now

    def told_time(self, server_time_us: int, now: float) -> None:
        self.times.append(server_time_us)


CLOSED = Leave(bulk=False, why="closed")


class Held(Bench):
    """A bench with a valve."""

    def __init__(self, leave: Leave = CLOSED, **options: float) -> None:
        self.valve = Valve(leave)
        super().__init__(**options)

    def start(self) -> None:
        options = SyncOptions(**self.options)
        self.sync = GatewaySync(self.outbox, options, Identity(b"m", "0.1", "c"), random.Random(1), self.valve)


def test_nothing_to_say_is_no_reason_to_connect() -> None:
    bench = Held()
    bench.commit()
    assert not bench.sync.wants_stream(0.0)
    bench.valve.now = Leave()
    assert bench.sync.wants_stream(0.0)


def test_an_alarm_goes_while_bulk_is_held_and_then_the_stream_ends() -> None:
    bench = Held()
    bench.commit()
    bench.outbox.alarm(5, Phase.RAISED, 9)
    assert bench.sync.wants_stream(0.0)
    (frame,) = bench.connect()
    assert isinstance(frame, AlarmsFrame)
    assert bench.sync.wants_disconnect is None, "its ack is awaited"
    bench.sync.received(Ack(77, alarms=tuple(alarm.key for _, alarm in frame.alarms)), 1.0)
    wish = bench.sync.wants_disconnect
    assert wish is not None
    assert wish.reason is Reason.HELD
    bench.sync.disconnected(2.0)
    assert bench.sync.reconnect_at == 2.0, "no failure, no back-off"
    assert bench.sync.status.last_error == ""
    assert not bench.sync.wants_stream(2.0)
    assert bench.held() == [(0, 2)]


def test_atoms_of_the_alarm_class_go_while_bulk_is_held() -> None:
    bench = Held()
    bench.commit()
    alarm = bench.commit(Priority.ALARM)
    assert bench.sync.wants_stream(0.0)
    assert atoms_of(only(bench.connect())) == [alarm]


def test_alarms_may_be_held_too() -> None:
    bench = Held(Leave(bulk=False, alarms=False))
    bench.outbox.alarm(5, Phase.RAISED, 9)
    bench.commit(Priority.ALARM)
    assert not bench.sync.wants_stream(0.0)
    assert bench.connect() == []


def test_tombstones_are_bulk() -> None:
    bench = Held(Leave())
    bench.commit()
    bench.outbox.live.tombstones[(bench.epoch, 0, 2, int(LossReason.EVICTED))] = Tombstone(
        bench.epoch, 0, 2, LossReason.EVICTED, 2
    )
    assert any(isinstance(frame, TombstonesFrame) for frame in bench.connect())
    bench.sync.disconnected(0.0)
    bench.valve.now = CLOSED
    assert bench.connect() == []


def test_a_window_that_closes_stops_bulk_and_one_that_opens_sends_it() -> None:
    bench = Held(Leave(until=10.0))
    bench.commit()
    first = only(bench.connect())
    assert bench.sync.wakeup == 10.0
    bench.valve.now = Leave(bulk=False, until=50.0)
    bench.commit()
    assert bench.sync.committed(10.0) == []
    assert bench.sync.wants_disconnect is None, "an answer is awaited"
    bench.now = 11.0
    assert bench.ack(first) == []
    assert bench.sync.wants_disconnect is not None
    bench.sync.disconnected(11.0)
    bench.valve.now = Leave()
    assert [atoms_of(frame) for frame in messages(bench.connect())] == [[(2, 4)]]


def test_what_waits_on_a_stream_that_is_held_open_goes_when_it_may() -> None:
    """An alarm's ack keeps the stream; the window opens meanwhile."""
    bench = Held(Leave(bulk=False, until=5.0))
    waiting = bench.commit()
    bench.outbox.alarm(5, Phase.RAISED, 9)
    bench.connect()
    assert bench.sync.wakeup == 5.0
    bench.valve.now = Leave()
    assert atoms_of(only(bench.sync.tick(5.0))) == [waiting]


def test_the_time_is_asked_for_and_told() -> None:
    bench = Held(Leave(bulk=False, ask_time=True))
    bench.commit()
    assert bench.sync.wants_stream(0.0)
    assert bench.connect() == []
    assert bench.valve.times == [0]


def test_hurry_forgets_the_back_off() -> None:
    bench = Held(Leave(), backoff_base_s=60.0)
    for at in range(5):
        bench.sync.disconnected(float(at))
    bench.sync.hurry(10.0)
    assert bench.sync.reconnect_at == 10.0


def test_the_rate_cap_paces_bulk_and_not_alarms() -> None:
    """In virtual time: 20 kB/s over a link without limits, and an alarm in between."""
    bench = Held(Leave(), rate_max=20_000.0)
    bench.now = 100.0
    for _ in range(400):
        bench.commit(pairs=30)
    frames = bench.connect()
    sent = 0
    while messages(frames) or bench.sync.status.in_flight or bench.sync.wakeup is not None:
        batch = messages(frames)
        sent += sum(len(frame.segment) for frame in batch)
        frames = bench.ack(*batch) if batch else []
        if not messages(frames):
            wakeup = bench.sync.wakeup
            if wakeup is None:
                break
            bench.now = wakeup
            frames = bench.sync.tick(bench.now)
    assert bench.held() == []
    seconds = bench.now - 100.0
    assert 17_000 <= sent / seconds <= 20_000
    bench.commit(pairs=30)
    bench.commit(pairs=30)
    alarm = bench.commit(Priority.ALARM)
    first = messages(bench.sync.committed(bench.now))[0]
    assert isinstance(first, MessageFrame)
    assert atoms_of(first) == [alarm]


def test_an_alarm_does_not_wait_for_the_rate_cap() -> None:
    bench = Held(Leave(), rate_max=100.0)
    bench.now = 100.0
    bulk = bench.commit(pairs=30)
    assert [atoms_of(frame) for frame in messages(bench.connect())] == [[bulk]]
    bench.commit(pairs=30)
    assert messages(bench.sync.committed(bench.now)) == [], "the cap is used up for a while"
    alarm = bench.commit(Priority.ALARM)
    assert [atoms_of(frame) for frame in messages(bench.sync.committed(bench.now))] == [[alarm]]
