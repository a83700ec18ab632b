"""Alarms on the gateway's machine: first of all, one frame at a time, kept until they are acknowledged."""

from __future__ import annotations

import random

from tests.sim.memory_outbox import ANCHOR, Disk, MemoryOutbox
from wire.alarm import Phase
from wire.reading import LossReason, Priority, Tombstone
from wire.sync.frames import Ack, AlarmsFrame, EpochCoverage, GatewayFrame, MessageFrame, TombstonesFrame, Welcome
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.sender import ALARMS_IN_FLIGHT_MAX, ALARMS_PER_FRAME

GENERATION = 7


class Bench:
    def __init__(self) -> None:
        numbers = iter(range(1, 1000))
        self.outbox = MemoryOutbox(Disk(), 1, lambda: next(numbers), lambda atom: None)
        self.sync = GatewaySync(self.outbox, SyncOptions(), Identity(b"m", "0.1", "c"), random.Random(1))

    @property
    def epoch(self) -> int:
        return self.outbox.live.epochs[-1].id

    def connect(self) -> list[GatewayFrame]:
        self.sync.connected(0.0)
        coverage = tuple(EpochCoverage() for _ in self.outbox.live.epochs)
        return self.sync.received(Welcome(GENERATION, coverage, 0, 1 << 20), 0.0)


def ids(frame: GatewayFrame) -> list[int]:
    assert isinstance(frame, AlarmsFrame)
    return [alarm.id for _, alarm in frame.alarms]


def test_alarms_go_before_tombstones_and_messages() -> None:
    bench = Bench()
    bench.outbox.commit(0, [1, 2], Priority.ALARM, ANCHOR)
    stone = Tombstone(bench.epoch, 0, 0, LossReason.POWER_CUT, 3)
    bench.outbox.live.tombstones[stone.key] = stone
    bench.outbox.alarm(5, Phase.RAISED, 10)
    assert [type(frame) for frame in bench.connect()] == [AlarmsFrame, TombstonesFrame, MessageFrame]


def test_a_new_alarm_does_not_wait_for_the_answer_to_an_older_one_and_few_are_unanswered() -> None:
    bench = Bench()
    for number in range(1, ALARMS_PER_FRAME + 3):
        bench.outbox.alarm(number, Phase.RAISED, number)
    (first,) = bench.connect()
    assert isinstance(first, AlarmsFrame)
    assert ids(first) == list(range(1, ALARMS_PER_FRAME + 1))
    bench.outbox.alarm(99, Phase.RAISED, 99)
    (second,) = bench.sync.committed(1.0, alarm=True)
    assert ids(second) == [ALARMS_PER_FRAME + 1, ALARMS_PER_FRAME + 2, 99]
    for number in range(1000, 1000 + 2 * ALARMS_IN_FLIGHT_MAX):
        bench.outbox.alarm(number, Phase.RAISED, number)
    sent = set(ids(first)) | set(ids(second))
    while frames := bench.sync.committed(1.0, alarm=True):
        assert not sent & set(ids(frames[0])), "none goes twice"
        sent |= set(ids(frames[0]))
    assert ALARMS_IN_FLIGHT_MAX <= len(sent) < ALARMS_IN_FLIGHT_MAX + ALARMS_PER_FRAME
    keys = tuple(alarm.key for _, alarm in first.alarms)
    (more,) = bench.sync.received(Ack(GENERATION, alarms=keys), 1.0)
    assert not sent & set(ids(more))


def test_what_was_not_acknowledged_goes_again_on_the_next_stream() -> None:
    bench = Bench()
    bench.outbox.alarm(5, Phase.RAISED, 10)
    assert ids(bench.connect()[0]) == [5]
    bench.sync.disconnected(2.0)
    assert ids(bench.connect()[0]) == [5]


def test_an_alarm_of_an_epoch_that_hello_did_not_name_waits() -> None:
    bench = Bench()
    bench.connect()
    bench.outbox._mint(1)
    bench.outbox.alarm(5, Phase.RAISED, 10)
    assert bench.sync.committed(1.0, alarm=True) == []
    bench.sync.disconnected(2.0)
    assert ids(bench.connect()[0]) == [5]


def test_silence_after_an_alarm_is_a_stall() -> None:
    bench = Bench()
    bench.outbox.alarm(5, Phase.RAISED, 10)
    bench.connect()
    assert bench.sync.wakeup is not None
    bench.sync.tick(bench.sync.wakeup)
    assert bench.sync.wants_disconnect is not None
