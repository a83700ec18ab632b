"""What was read around an alarm outlives what is older and newer, and gives way before readings are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.detect.detector import Detector
from edge_agent.detect.rules import Rule, RuleKind
from edge_agent.detect.watched import Watch
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.pins import PINNED, WINDOWS_MAX, Pins, pin, pinned
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import Gateway, noise, series_set, waiting
from wire.clock import US_PER_S
from wire.codec import decode, zone
from wire.ranges import RangeSet
from wire.reading import Kind, LossReason, Priority, Tick
from wire.series import SeriesDef, SeriesSet

KIB = 1024
NORMAL = series_set(10)
CONTEXT_S = 30
STEP_S = 5
OPTIONS = OutboxOptions(
    journal_bytes=256 * KIB, wal_bytes=256 * KIB, bytes_max=1024 * KIB, alarm_context_s=float(CONTEXT_S)
)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path, OPTIONS)


def commit(gateway: Gateway, recorder: Recorder, count: int, seed: int = 0) -> None:
    """Commits STEP_S apart, each of 40 ticks that lie evenly in the time before it: an atom of 3.3 kB."""
    for at in range(count):
        gateway.clock.sleep(STEP_S)
        start = gateway.clock.boottime // 10**6 - 1000 * STEP_S
        batch = noise(NORMAL, 40, 1000 * seed + at)
        recorder.take([replace(tick, stamp=start + 1000 * STEP_S // 40 * tick.stamp) for tick in batch])
        recorder.commit()
        assert recorder.stats().disk_bytes <= OPTIONS.bytes_max


def raw(recorder: Recorder) -> RangeSet:
    """Spans in whole seconds of boottime of the readings that are there as they were taken."""
    found = RangeSet()
    for atom in waiting(recorder.view()):
        segment = decode(atom.data)
        if segment.kind is Kind.RAW:
            first, last = zone(segment)
            found.add(first // US_PER_S, last // US_PER_S + 1)
    recorder._requests.lend(1, RangeSet())  # looking is no sending
    return found


def alarm(gateway: Gateway, recorder: Recorder) -> int:
    """An alarm amid two commits; when, in seconds of boottime."""
    recorder.alarm()
    commit(gateway, recorder, 1, seed=77)
    return gateway.clock.boottime // 10**9


@pytest.mark.parametrize("thins", [True, False])
def test_readings_around_an_alarm_stay_as_they_were_taken(tmp_path: Path, thins: bool) -> None:
    gateway = Gateway(tmp_path, replace(OPTIONS, thins=thins))
    recorder = gateway.start(NORMAL)
    commit(gateway, recorder, 20)
    at = alarm(gateway, recorder)
    commit(gateway, recorder, 300, seed=1)
    kept = raw(recorder)
    assert kept.contains(at - CONTEXT_S, at + CONTEXT_S)
    assert not kept.overlaps(0, at - CONTEXT_S - STEP_S)
    assert not kept.overlaps(at + CONTEXT_S + STEP_S + 1, at + 2 * CONTEXT_S)
    assert kept.contains(at + 1450, at + 1500)  # and the newest are there too


def test_they_stay_over_a_kill_and_a_reboot(gateway: Gateway) -> None:
    recorder = gateway.start(NORMAL)
    commit(gateway, recorder, 20)
    at = alarm(gateway, recorder)
    gateway.kill()
    recorder = gateway.start(NORMAL)
    commit(gateway, recorder, 10, seed=1)
    gateway.reboot()
    gateway.clock.sleep(100_000)  # stamps of the two boots do not overlap
    recorder = gateway.start(NORMAL)
    commit(gateway, recorder, 300, seed=2)
    assert raw(recorder).contains(at - CONTEXT_S, at + CONTEXT_S)


def test_they_keep_their_place_in_a_new_epoch(gateway: Gateway) -> None:
    recorder = gateway.start(NORMAL)
    commit(gateway, recorder, 20)
    at = alarm(gateway, recorder)
    recorder.view().begin_epoch(RangeSet([(0, 100_000)]))
    commit(gateway, recorder, 300, seed=1)
    assert raw(recorder).contains(at - CONTEXT_S, at + CONTEXT_S)


def test_they_give_way_before_readings_are_refused(gateway: Gateway) -> None:
    """Alarms without an end must not keep the present out."""
    recorder = gateway.start(NORMAL)
    for turn in range(100):
        commit(gateway, recorder, 3, seed=turn)
        recorder._outbox.database.connection.execute("BEGIN")
        pin(recorder._outbox, 1, [gateway.clock.boottime // 1000], CONTEXT_S)
        recorder._outbox.database.connection.execute("COMMIT")
    stats = recorder.stats()
    assert stats.journal_ticks == 0
    assert set(stats.losses) <= {LossReason.THINNED, LossReason.EVICTED}
    now = gateway.clock.boottime // 10**9
    assert raw(recorder).contains(now - 60, now)


def test_a_detectors_alarm_pins_its_onset_and_its_moment(gateway: Gateway) -> None:
    oven = SeriesSet((SeriesDef("oven", "heat", "Cel"),))
    recorder = gateway.start(oven)
    rule = Rule(0, "oven/heat", "Cel", RuleKind.HIGH, 10.0, for_s=120.0)
    recorder.detect(Detector(1, [Watch(oven, [], [rule])]))
    for second in range(1000, 1130):
        recorder.take([Tick(oven.id, second * 1000, (20,))])
    recorder.look()
    recorder.commit()
    assert [alarm.onset_us for _, alarm in recorder.view().alarms(9)] == [1000 * US_PER_S]
    around = (
        [(at - CONTEXT_S) * US_PER_S for at in (1000, 1120)],
        [(at + CONTEXT_S) * US_PER_S + 1 for at in (1000, 1120)],
    )
    assert pinned(recorder._outbox).windows() == [(1, *each) for each in zip(*around)]


def test_a_sensor_of_the_alarm_class_pins_nothing(gateway: Gateway) -> None:
    """It speaks all the time."""
    recorder = gateway.start(NORMAL, priority=Priority.ALARM)
    commit(gateway, recorder, 2)
    assert pinned(recorder._outbox).windows() == []


def test_what_is_delivered_is_pinned_no_more(gateway: Gateway) -> None:
    recorder = gateway.start(NORMAL)
    first = alarm(gateway, recorder)
    commit(gateway, recorder, 40)
    second = alarm(gateway, recorder)
    assert [window[1] // US_PER_S for window in pinned(recorder._outbox).windows()] == [
        first - CONTEXT_S,
        second - CONTEXT_S,
    ]
    view = recorder.view()
    (offer,) = view.offers()
    waiting(view)
    view.acked(offer.epoch, RangeSet([(0, offer.next_seq)]))
    third = alarm(gateway, recorder)
    assert [window[1] // US_PER_S for window in pinned(recorder._outbox).windows()] == [second - CONTEXT_S]
    assert pinned(recorder._outbox).windows()[0][2] // US_PER_S == third + CONTEXT_S  # joined: the first is gone


def test_the_windows_are_bounded(gateway: Gateway) -> None:
    recorder = gateway.start(NORMAL)
    commit(gateway, recorder, 1)
    with recorder._outbox.database.transaction():
        for turn in range(WINDOWS_MAX + 10):
            pin(recorder._outbox, 1, [(1000 + 100 * turn) * US_PER_S, -1000 * US_PER_S], CONTEXT_S)
    windows = pinned(recorder._outbox).windows()
    assert len(windows) == WINDOWS_MAX
    assert windows[-1][1] == (1000 + 100 * (WINDOWS_MAX + 9) - CONTEXT_S) * US_PER_S


@pytest.mark.parametrize(
    "blob", [b"", b"\xff", b"7", b"[7]", b"[[1,2]]", b"[[1,5,5]]", b"[[1,-9,5]]", b"[[1,0,1e999]]", b"[" * 100_000]
)
def test_damage_pins_nothing_and_costs_no_commit(gateway: Gateway, blob: bytes) -> None:
    recorder = gateway.start(NORMAL)
    commit(gateway, recorder, 1)
    with recorder._outbox.database.transaction() as connection:
        connection.execute("INSERT INTO state VALUES (?, ?)", (PINNED, blob))
    assert pinned(recorder._outbox).windows() == []
    alarm(gateway, recorder)
    assert len(pinned(recorder._outbox).windows()) == 1


def test_an_atom_is_held_by_its_edges() -> None:
    pins = Pins([(3, 100, 200)])
    key = 3 << 44
    assert pins.holds((key, 0, 1, 50, 100))
    assert pins.holds((key, 0, 1, 199, 300))
    assert not pins.holds((key, 0, 1, 50, 99))
    assert not pins.holds((key, 0, 1, 200, 300))
    assert not pins.holds((4 << 44, 0, 1, 100, 200))
