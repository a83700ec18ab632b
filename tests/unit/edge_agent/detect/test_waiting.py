"""After a reboot without a clock: what models knew is kept until the time is known, or is needed no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.detect.detector import Detector, channels_of
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Session
from edge_agent.detect.watched import Watch
from tests.unit.edge_agent.detect import toys
from tests.unit.edge_agent.detect.test_detector import SETS, Disk
from wire.reading import Tick
from wire.segment import SCORE_NONE
from wire.series import SeriesSet

ONE = SeriesSet(SETS.series[:1])
OTHER = SeriesSet(SETS.series[1:2])
S = 1_000_000
CALIBRATION = 4  # rows, of the toy; its max_gap_s is 100


@pytest.fixture
def model(tmp_path: Path) -> Session:
    return toys.session(tmp_path)


@pytest.fixture
def disk(model: Session) -> Disk:
    """What a first boot left, at its second 9; an alarm of the model is raised."""
    running, disk = fresh(model, 1), Disk()
    for second in range(10):
        running.step(tick(second, 100 if second == 9 else 1))
    assert running.alarms()
    disk.commit(running)
    return disk


def fresh(model: Session, boot: int, *sets: SeriesSet) -> Detector:
    lanes = [(one, Runner(model).add(channels_of(one.series))) for one in sets or (ONE,)]
    return Detector(boot, [Watch(one, [(lane, range(len(one.series)))]) for one, lane in lanes])


def tick(second: int, value: int = 1, of: SeriesSet = ONE) -> Tick:
    return Tick(of.id, second * 1000, (value,))


def booted(model: Session, disk: Disk, *sets: SeriesSet) -> Detector:
    """The second boot, at its second 3: its clock is not set."""
    made = fresh(model, 2, *sets)
    assert made.restore(disk.slots, 3 * S, {1: 0}) == []
    assert made.waits
    return made


def offsets(gap_s: int) -> dict[int, int]:
    """Second 9 of the first boot was so long before second 3 of the second."""
    return {1: 0, 2: (9 + gap_s - 3) * S}


def test_a_model_goes_on_when_the_time_is_known(model: Session, disk: Disk) -> None:
    running, before = booted(model, disk), dict(disk.slots)
    assert [running.step(tick(second)).codes for second in (3, 4)] == [None, None]
    disk.commit(running)
    assert disk.slots == before
    assert running.settle(5 * S, offsets(50)) == []
    assert not running.waits
    assert running.step(tick(5)).codes is not None
    disk.commit(running)
    again = fresh(model, 2)
    assert again.restore(disk.slots, 6 * S) == []
    assert again.step(tick(6)).codes is not None


@pytest.mark.parametrize(
    ("gap_s", "reason"), [(150, "152 s went by, more than its 100 s"), (-20, "a time that is still to come")]
)
def test_a_gap_that_is_too_long_or_cannot_be_ends_the_wait(model: Session, disk: Disk, gap_s: int, reason: str) -> None:
    running = booted(model, disk)
    for second in (3, 4):
        running.step(tick(second))
    (told,) = running.settle(5 * S, offsets(gap_s))
    assert told.startswith("toy/1: ")
    assert reason in told
    assert [running.step(tick(second)).codes is None for second in (5, 6, 7)] == [True, True, False]  # it had learnt 2


def test_killed_while_it_waits_it_waits_again(model: Session, disk: Disk) -> None:
    for _ in range(3):
        running = booted(model, disk)
        running.step(tick(3))
        disk.commit(running)
        running.rolled_back()
        disk.commit(running)
    assert running.settle(4 * S, offsets(50)) == []
    assert running.step(tick(4)).codes is not None


def test_a_model_that_has_calibrated_meanwhile_needs_it_no_more(model: Session, disk: Disk) -> None:
    running, before = booted(model, disk), set(disk.slots)
    for second in range(3, 3 + CALIBRATION):
        running.step(tick(second))
    disk.commit(running)
    assert not running.waits
    assert running.settle(9 * S, offsets(50)) == []
    again = fresh(model, 2)
    assert again.restore(disk.slots, 9 * S) == []
    assert again.step(tick(9)).codes is not None
    assert len(disk.slots) <= len(before)


@pytest.mark.parametrize("settles", [True, False])
def test_a_sensor_may_be_added_meanwhile(model: Session, disk: Disk, settles: bool) -> None:
    """What waited stands under another set's name, and is deleted in the end."""
    both = SeriesSet(SETS.series[:2])
    running = booted(model, disk, both)
    for second in range(3, 5 if settles else 3 + CALIBRATION):
        running.step(Tick(both.id, second * 1000, (1, 1)))
    if settles:
        assert running.settle(5 * S, offsets(50)) == []
    disk.commit(running)
    assert {name.split("/")[1] for name in disk.slots} == {f"{both.id:016x}"}
    codes = running.step(Tick(both.id, 9000, (1, 1))).codes
    assert codes is not None
    assert [code == SCORE_NONE for code in codes] == [False, settles]


def test_one_that_waits_longer_costs_another_none_of_its_state(model: Session) -> None:
    """In the end the slots that were waited for are deleted, but for those that are written anew."""
    first, disk = fresh(model, 1, ONE, OTHER), Disk()
    for second in range(10):
        first.step(tick(second))
        first.step(tick(second, of=OTHER))
    disk.commit(first)
    running = booted(model, disk, ONE, OTHER)
    for second in range(3, 30):
        running.step(tick(second, of=OTHER))
        if second > 20:
            running.step(tick(second))
        disk.commit(running)
    assert not running.waits
    again = fresh(model, 2, ONE, OTHER)
    assert again.restore(disk.slots, 30 * S) == []
    assert again.step(tick(30)).codes is not None
    assert again.step(tick(30, of=OTHER)).codes is not None


def test_an_alarm_lasts_until_it_is_known_what_became_of_it(model: Session, disk: Disk) -> None:
    running = booted(model, disk)
    (raised,) = running.alarms()
    running.settle(5 * S, offsets(50))
    assert running.alarms() == {raised}
    running = booted(model, disk)
    for second in range(3, 3 + CALIBRATION):
        running.step(tick(second))
    running.changes()
    assert running.alarms() == set()


def test_what_is_no_lanes_of_ours_is_not_waited_for(model: Session, disk: Disk) -> None:
    running = fresh(model, 2, OTHER)
    (reason,) = running.restore(disk.slots, 3 * S, {1: 0})
    assert "nothing here is of toy/1" in reason
    assert not running.waits
    disk.commit(running)
    assert {name.split("/")[1] for name in disk.slots} <= {f"{OTHER.id:016x}"}
