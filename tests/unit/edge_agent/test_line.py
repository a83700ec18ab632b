from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from edge_agent.sources import group
from edge_agent.sources.group import make_groups
from edge_agent.sources.line import Abandoned, Watch
from edge_agent.sources.sensor import REASONS, Sensor, reason_of
from hardware.driver import Cell
from hardware.errors import (
    BusDown,
    DeviceDataBad,
    DeviceError,
    DeviceMismatch,
    DeviceNoAnswer,
    DeviceNotReady,
    DeviceTimeout,
    EndOfData,
)
from tests.unit.edge_agent.parts import MS, Bus, ManualClock, Script, TwoChannels, line_of, sensor_plan
from wire.reading import CellState, Priority, Tick


def raising(error: Exception) -> Script:
    def read() -> Sequence[Cell]:
        raise error

    return Script(read)


def test_cycles_stand_on_the_grid_and_a_late_one_keeps_its_time() -> None:
    clock = ManualClock(5_000 * MS)
    line = line_of(clock, sensor_plan("a", Script()))
    stamps = [line.run_due()[0].stamp]
    assert line.next_due_ns() == 6_000 * MS
    clock.now_ns = 6_000 * MS
    stamps.append(line.run_due()[0].stamp)
    clock.now_ns = 7_300 * MS
    stamps.append(line.run_due()[0].stamp)
    assert stamps == [5_000, 6_000, 7_300]
    assert line.next_due_ns() == 8_000 * MS
    assert line.groups[0].missed == 0


def test_missed_cycles_are_counted_and_not_made_up() -> None:
    clock = ManualClock(5_000 * MS)
    line = line_of(clock, sensor_plan("a", Script()))
    line.run_due()
    clock.now_ns = 9_100 * MS
    assert [tick.stamp for tick in line.run_due()] == [9_100]
    assert line.run_due() == []
    assert (line.groups[0].missed, line.groups[0].cycles, line.next_due_ns()) == (3, 2, 10_000 * MS)


def test_one_stamp_for_the_channels_of_a_group_and_one_group_per_interval_and_priority() -> None:
    clock = ManualClock()
    plans = [
        sensor_plan("a", Script(), interval=1),
        sensor_plan("b", Script(), interval=5),
        sensor_plan("c", Script(), interval=1),
        sensor_plan("d", Script(), interval=1, priority=Priority.LOW),
    ]
    groups = make_groups([Sensor(plan) for plan in plans], clock.boottime_ns())
    assert [[sensor.name for sensor in group.sensors] for group in groups] == [["a", "c"], ["d"], ["b"]]
    line = line_of(clock, *plans)
    ticks = line.run_due()
    assert [len(tick.raw) for tick in ticks] == [2, 1, 1]
    assert len({tick.set_id for tick in ticks}) == 3


def test_conversions_run_together() -> None:
    clock = ManualClock()
    scripts = [Script(), Script()]
    scripts[0].conversion_s, scripts[1].conversion_s = 0.010, 0.040
    line = line_of(clock, *[sensor_plan(str(at), script) for at, script in enumerate(scripts)])
    before = clock.now_ns
    line.run_due()
    assert clock.now_ns - before == 40 * MS


def test_a_conversion_of_several_steps_is_waited_for_and_a_step_that_fails_is_that_sensors_gap() -> None:
    clock = ManualClock()
    scripts = [Script(), Script(), Script()]
    scripts[0].conversion_s, scripts[0].steps = 0.010, [0.030, 0.005]
    scripts[1].conversion_s = 0.020
    scripts[2].conversion_s, scripts[2].steps = 0.001, [DeviceDataBad("x"), 5.0]
    line = line_of(clock, *[sensor_plan(str(at), script) for at, script in enumerate(scripts)])
    before = clock.now_ns
    (tick,) = line.run_due()
    assert clock.now_ns - before == (20 + 30 + 5) * MS
    assert tick.states == bytes([0, 0, CellState.BAD_DATA])
    assert [script.reads for script in scripts] == [1, 1, 0]
    assert (scripts[0].steps, scripts[2].steps) == ([], [5.0])


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DeviceNoAnswer("x"), CellState.NO_ANSWER),
        (DeviceTimeout("x"), CellState.TIMEOUT),
        (DeviceNotReady("x"), CellState.NOT_READY),
        (DeviceDataBad("x"), CellState.BAD_DATA),
        (DeviceMismatch("x"), CellState.WRONG_DEVICE),
        (BusDown("x"), CellState.BUS_DOWN),
        (ZeroDivisionError("x"), CellState.DRIVER_ERROR),
    ],
)
def test_every_failure_is_a_gap_with_its_reason(error: Exception, state: CellState) -> None:
    line = line_of(ManualClock(), sensor_plan("a", raising(error)))
    (tick,) = line.run_due()
    assert (tick.raw, tick.states) == ((0,), bytes([state]))


def test_every_device_error_has_a_reason_of_its_own() -> None:
    kinds = DeviceError.__subclasses__()
    assert {kind for kind, _ in REASONS} == set(kinds)
    assert len({state for _, state in REASONS}) == len(kinds)
    assert reason_of(ValueError()) is CellState.DRIVER_ERROR


def test_a_dead_sensor_leaves_its_neighbours_alone() -> None:
    line = line_of(ManualClock(), sensor_plan("dead", raising(DeviceNoAnswer("x"))), sensor_plan("well", Script()))
    (tick,) = line.run_due()
    assert (tick.raw, tick.states) == ((0, 1), bytes([CellState.NO_ANSWER, 0]))


def test_a_channel_may_fail_alone() -> None:
    script = Script(lambda: [DeviceDataBad("skipped"), 7])
    line = line_of(ManualClock(), sensor_plan("a", script, driver=TwoChannels))
    (tick,) = line.run_due()
    assert (tick.raw, tick.states) == ((0, 7), bytes([CellState.BAD_DATA, 0]))
    assert script.closed == 0


def test_a_channel_that_failed_alone_is_told_once_and_once_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bad: Sequence[Cell] = [DeviceDataBad("skipped"), 7]
    answers: list[Sequence[Cell]] = [bad, bad, [6, 7], [6, 7]]
    clock = ManualClock()
    line = line_of(clock, sensor_plan("a", Script(lambda: answers.pop(0)), driver=TwoChannels))
    while answers:
        clock.now_ns = max(clock.now_ns, line.next_due_ns())
        line.run_due()
    told = [record.getMessage() for record in caplog.records if "channel" in record.getMessage()]
    assert [text.split()[3] for text in told] == ["lost", "back"]


def test_a_driver_that_gives_too_few_cells_has_failed() -> None:
    line = line_of(ManualClock(), sensor_plan("a", Script(lambda: [1]), driver=TwoChannels))
    (tick,) = line.run_due()
    assert tick.states == bytes([CellState.DRIVER_ERROR] * 2)


def test_a_conversion_longer_than_the_timeout_is_refused() -> None:
    script = Script()
    script.conversion_s = 5.0
    line = line_of(ManualClock(), sensor_plan("a", script, timeout=1.0))
    assert line.run_due()[0].states == bytes([CellState.DRIVER_ERROR])


def test_loss_and_recovery_are_told_once_and_retried_with_back_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    script = raising(DeviceNoAnswer("0x76 on i2c-1: NAK"))
    line = line_of(clock, sensor_plan("a", script))
    for _ in range(100):
        line.run_due()
        clock.move(1)
    assert script.opened < 12
    well = Script()
    script.read = well.read
    for _ in range(70):
        line.run_due()
        clock.move(1)
    messages = [record.getMessage() for record in caplog.records]
    assert [text.split(" ")[3] for text in messages] == ["lost", "back"], messages
    assert line.sensors[0].error == ""


def test_an_ended_file_is_one_gap_and_then_nothing() -> None:
    clock = ManualClock()
    line = line_of(clock, sensor_plan("a", raising(EndOfData("no more rows"))))
    assert line.run_due()[0].states == bytes([CellState.END_OF_DATA])
    for _ in range(3):
        clock.move(1)
        assert line.run_due() == []
    assert line.sensors[0].ended


def test_a_bus_that_is_down_is_opened_again_and_all_its_sensors_come_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    is_there = False

    def open_bus() -> Bus:
        if not is_there:
            raise BusDown("/dev/i2c-9: no such bus")
        return Bus()

    line = line_of(clock, sensor_plan("a", Script()), sensor_plan("b", Script()), open_bus=open_bus)
    assert line.run_due()[0].states == bytes([CellState.BUS_DOWN] * 2)
    assert line.error
    is_there = True
    clock.move(70)
    assert line.run_due()[0].states is None
    assert line.error == ""
    told = [record.getMessage() for record in caplog.records]
    assert told == ['bus "i2c-9" is down: /dev/i2c-9: no such bus', 'bus "i2c-9" is back']


def test_a_sensor_that_stays_dead_when_its_bus_is_back_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    errors: list[Exception] = [BusDown("gone"), DeviceNoAnswer("no ack")]

    def read() -> Sequence[Cell]:
        if errors:
            raise errors.pop(0)
        return [1]

    plans = [sensor_plan("a", Script(read)), sensor_plan("b", Script())]
    line = line_of(clock, *plans, open_bus=Bus)
    for _ in range(3):
        line.run_due()
        clock.move(70)
    told = [record.getMessage().replace(" after 70s", "") for record in caplog.records]
    lost = 'sensor "a" is lost (no_answer): no ack'
    assert told == ['bus "i2c-9" is down: gone', 'bus "i2c-9" is back', lost, 'sensor "a" is back']


def test_a_bus_that_goes_down_between_two_sensors_takes_both() -> None:
    plans = [sensor_plan("a", raising(BusDown("gone"))), sensor_plan("b", Script())]
    line = line_of(ManualClock(), *plans, open_bus=Bus)
    assert line.run_due()[0].states == bytes([CellState.BUS_DOWN] * 2)
    assert [sensor.error for sensor in line.sensors] == ["gone", "gone"]


def test_three_time_outs_in_a_row_open_the_bus_anew() -> None:
    clock = ManualClock()
    buses: list[Bus] = []

    def open_bus() -> Bus:
        buses.append(Bus())
        return buses[-1]

    line = line_of(clock, sensor_plan("a", raising(DeviceTimeout("stuck"))), open_bus=open_bus)
    for _ in range(20):
        line.run_due()
        clock.move(1)
    assert len(buses) == 2
    assert buses[0].closed.is_set()


def test_close_leaves_every_part_and_the_bus() -> None:
    bus = Bus()
    script = Script()
    line = line_of(ManualClock(), sensor_plan("a", script), open_bus=lambda: bus)
    line.run_due()
    line.close()
    assert script.closed == 1
    assert bus.closed.is_set()


def test_a_call_that_comes_back_after_its_deadline_ends_its_thread() -> None:
    clock = ManualClock()
    watch = Watch(clock)

    def late() -> int:
        clock.move(1)
        assert watch.expire(clock.boottime_ns())
        return 1

    with pytest.raises(Abandoned):
        watch.call(None, 0.5, late)
    with pytest.raises(Abandoned):
        watch.call(None, 0.5, int)


def test_a_call_within_its_deadline_cannot_expire() -> None:
    clock = ManualClock()
    watch = Watch(clock)
    assert watch.call(None, 0.5, lambda: watch.expire(clock.boottime_ns())) is False
    clock.move(10)
    assert not watch.expire(clock.boottime_ns())


def test_a_line_of_parts_without_a_bus_goes_on_where_one_of_them_hangs() -> None:
    clock = ManualClock(5_000 * MS)
    first, hangs, last = Script(), Script(), Script()
    line = line_of(clock, *[sensor_plan(name, script) for name, script in zip("ahz", (first, hangs, last))])

    def hang() -> Sequence[Cell]:
        hangs.read = lambda: [9]
        clock.move(0.5)
        assert line.watch.expire(clock.boottime_ns())
        assert line.set_aside() is line.sensors[1]
        return [9]

    hangs.read = hang
    with pytest.raises(Abandoned):
        line.run_due()
    assert line.next_due_ns() <= clock.boottime_ns()
    (finished,) = line.run_due()  # by another thread
    assert (finished.stamp, finished.raw, finished.states) == (5_000, (1, 0, 1), bytes([0, CellState.TIMEOUT, 0]))
    clock.move(0.5)
    (after,) = line.run_due()
    assert (after.stamp, after.raw, after.states) == (6_000, (1, 0, 1), bytes([0, CellState.TIMEOUT, 0]))
    clock.move(59)  # it has cost the others: a minute's rest
    assert line.run_due()[0].states is not None
    clock.move(1)
    (after,) = line.run_due()
    assert (after.raw, after.states) == ((1, 9, 1), None)
    assert [script.opened for script in (first, hangs, last)] == [1, 2, 1]  # its call has returned: it is tried again


def test_one_that_is_set_aside_is_not_asked_before_its_call_returns() -> None:
    clock = ManualClock()
    hangs = Script()
    line = line_of(clock, sensor_plan("h", hangs), sensor_plan("a", Script()))
    asked = []

    def hang() -> Sequence[Cell]:
        hangs.read = lambda: [9]
        clock.move(1.5)
        assert line.watch.expire(clock.boottime_ns())
        line.set_aside()
        for _ in range(20):
            clock.move(30)
            asked.append(line.run_due()[-1].states)
        return [9]

    hangs.read = hang
    with pytest.raises(Abandoned):
        line.run_due()
    assert set(asked) == {bytes([CellState.TIMEOUT, 0])}
    assert hangs.opened == 1
    clock.move(1)
    assert line.run_due()[-1].states is None


def test_two_hangs_in_two_groups_lose_nobody_elses_reading() -> None:
    """The slower group waits for its end when a part of the quicker one hangs too."""
    clock, quick, slow = ManualClock(5_000 * MS), Script(), Script()
    plans = [
        sensor_plan(name, script, interval=s) for name, script, s in zip("abc", (quick, Script(), slow), (1, 5, 5))
    ]
    line = line_of(clock, *plans)

    def hang(script: Script) -> None:
        def read() -> Sequence[Cell]:
            script.read = lambda: [9]
            clock.move(1.5)
            assert line.watch.expire(clock.boottime_ns())
            line.set_aside()
            return [9]

        script.read = read

    hang(slow)
    with pytest.raises(Abandoned):
        line.run_due()
    hang(quick)
    with pytest.raises(Abandoned):
        line.run_due()
    ticks = line.run_due()
    assert [(tick.raw, tick.states) for tick in ticks[:2]] == [((1,), None), ((1, 0), bytes([0, CellState.TIMEOUT]))]
    assert [tick.stamp for tick in ticks if len(tick.raw) == 2] == [5_000]


def test_who_hung_twice_is_left_out_while_its_neighbours_are_asked_again() -> None:
    """Of a bus: the line comes back at its own pace, and does not stumble over the same part each time."""
    clock, hangs, well = ManualClock(5_000 * MS), Script(), Script()
    line = line_of(clock, sensor_plan("h", hangs), sensor_plan("w", well), open_bus=Bus)

    def hang() -> Sequence[Cell]:
        clock.move(0.5)
        assert line.watch.expire(clock.boottime_ns())
        line.take_over()
        return [9]

    hangs.read = hang
    for _ in range(2):
        with pytest.raises(Abandoned):
            line.run_due()
        clock.move(0.5)
    (tick,) = line.run_due()
    assert tick.states == bytes([CellState.TIMEOUT, CellState.VALUE])


def test_what_one_set_cannot_hold_is_several_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "SERIES_PER_SET_MAX", 5)
    sensors = [Sensor(sensor_plan(name, Script(), driver=TwoChannels)) for name in "abcde"]
    groups = make_groups(sensors, 0)
    assert [[sensor.name for sensor in each.sensors] for each in groups] == [["a", "b"], ["c", "d"], ["e"]]


@pytest.mark.parametrize("on_bus", [True, False])
def test_what_other_groups_read_before_a_hang_is_kept(on_bus: bool) -> None:
    """The group of the shorter interval is through when one of the longer hangs."""
    clock, hangs = ManualClock(5_000 * MS), Script()
    plans = [
        sensor_plan(name, script, interval=s) for name, script, s in zip("abc", (Script(), hangs, Script()), (1, 5, 5))
    ]
    line = line_of(clock, *plans, open_bus=Bus if on_bus else None)
    ticks: list[Tick] = []

    def hang() -> Sequence[Cell]:
        clock.move(0.5)
        assert line.watch.expire(clock.boottime_ns())
        if on_bus:
            ticks.extend(line.take_over()[1])
        else:
            line.set_aside()
        return [9]

    hangs.read = hang
    with pytest.raises(Abandoned):
        line.run_due()
    if not on_bus:
        ticks += line.run_due()  # by another thread
    assert [tick.raw for tick in ticks] == [(1,), (0, 0) if on_bus else (0, 1)]


def test_what_was_read_before_a_hang_is_kept() -> None:
    clock = ManualClock()
    first, last = Script(), Script()
    line = line_of(clock, sensor_plan("first", first), sensor_plan("hangs", Script()), sensor_plan("last", last))
    taken = []

    def hang() -> Sequence[Cell]:
        clock.move(1)
        assert line.watch.expire(clock.boottime_ns())
        taken.append(line.take_over())
        return [9]

    hanging = line.sensors[1].plan.config.script
    hanging.read = hang
    with pytest.raises(Abandoned):
        line.run_due()
    ((culprit, (tick,)),) = taken
    assert culprit is line.sensors[1]
    assert tick.raw == (1, 0, 0)
    assert tick.states == bytes([0, CellState.TIMEOUT, CellState.BUS_DOWN])
    assert last.reads == 0
