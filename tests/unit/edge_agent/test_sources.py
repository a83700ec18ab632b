"""The threads: real ones, with parts that hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from edge_agent.commands.read import run_once
from edge_agent.config.drivers import Drivers
from edge_agent.config.model import I2cSection
from edge_agent.sources import sensor
from edge_agent.sources.line import BusLine
from edge_agent.sources.sensor import Sensor
from edge_agent.sources.sources import PROMPT, Sources, make_lines
from hardware.driver import Cell
from hardware.errors import DeviceNoAnswer
from tests.unit.edge_agent.parts import Bus, Prompt, S, Script, Taken, line_of, sensor_plan
from wire.clock import SystemClock
from wire.reading import CellState, Tick

CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off from 0.1 s instead of 1 s: the tests wait for real threads."""
    monkeypatch.setattr(sensor, "BACKOFF_NS", S // 10)


class Hanging(Script):
    """Blocks in `read` until it is let go."""

    def __init__(self) -> None:
        super().__init__(self._hang)
        self.let_go = threading.Event()
        self.hangs = True

    def _hang(self) -> Sequence[Cell]:
        if self.hangs:
            self.let_go.wait(30)
        return [7]


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    script = Hanging()
    yield script
    script.let_go.set()


def states_of(ticks: list[Tick], set_id: int) -> list[int]:
    return [tick.states[0] if tick.states else 0 for tick in ticks if tick.set_id == set_id]


def test_one_line_per_bus_and_one_per_sensor_without() -> None:
    buses = {"i2c-1": I2cSection(kind="i2c", device="/dev/i2c-1")}
    plans = [
        sensor_plan("a", Script(), bus="i2c-1"),
        sensor_plan("b", Script()),
        sensor_plan("c", Script(), bus="i2c-1"),
    ]
    lines = make_lines(plans, buses, CLOCK)
    assert [[sensor.name for sensor in line.sensors] for line in lines] == [["a", "c"], ["b"]]


def test_lines_run_on_their_own_threads_and_stop_after_their_cycle() -> None:
    taken = Taken()
    lines = [line_of(CLOCK, sensor_plan(name, Script(), interval=0.02)) for name in "ab"]
    sources = Sources(lines, taken, CLOCK)
    sources.start()
    ids = [line.groups[0].set.id for line in lines]
    taken.wait_for(lambda ticks: all(len(states_of(ticks, each)) >= 5 for each in ids))
    names = {thread.name for thread in threading.enumerate()}
    assert {"bus sensor a", "bus sensor b", "sources guard"} <= names
    assert sources.is_alive(CLOCK.boottime_ns(), 5)
    assert sources.stop(5) == []
    count = len(taken.ticks)
    time.sleep(0.06)
    assert len(taken.ticks) == count
    assert all(script.closed == 1 for line in lines for script in [line.sensors[0].plan.config.script])


def test_a_part_that_hangs_gaps_alone_and_comes_back(hanging: Hanging) -> None:
    taken = Taken()
    stuck = line_of(CLOCK, sensor_plan("stuck", hanging, interval=0.05, timeout=0.1))
    well = line_of(CLOCK, sensor_plan("well", Script(), interval=0.05))
    sources = Sources([stuck, well], taken, CLOCK)
    sources.start()
    stuck_id, well_id = stuck.groups[0].set.id, well.groups[0].set.id
    ticks = taken.wait_for(lambda ticks: states_of(ticks, stuck_id).count(CellState.TIMEOUT) >= 3)
    assert set(states_of(ticks, stuck_id)) == {CellState.TIMEOUT}
    assert len(states_of(ticks, well_id)) >= 5
    assert set(states_of(ticks, well_id)) == {0}
    hanging.hangs = False
    taken.wait_for(lambda ticks: states_of(ticks, stuck_id)[-1:] == [0], 15)
    assert sources.is_alive(CLOCK.boottime_ns(), 5)
    assert sources.quarantined() == []
    assert sources.stop(5) == []


def test_neighbours_on_a_hanging_bus_say_bus_down_and_the_old_bus_is_closed_in_the_end(hanging: Hanging) -> None:
    taken = Taken()
    buses: list[Bus] = []

    def open_bus() -> Bus:
        buses.append(Bus())
        return buses[-1]

    plans = [sensor_plan("stuck", hanging, interval=0.05, timeout=0.1), sensor_plan("near", Script(), interval=0.05)]
    sources = Sources([line_of(CLOCK, *plans, open_bus=open_bus)], taken, CLOCK)
    sources.start()
    gap = bytes([CellState.TIMEOUT, CellState.BUS_DOWN])
    taken.wait_for(lambda ticks: any(tick.states == gap for tick in ticks))
    hanging.hangs = False
    hanging.let_go.set()
    taken.wait_for(lambda ticks: bool(ticks) and ticks[-1].states is None, 15)
    assert len(buses) >= 2
    assert buses[0].closed.wait(5)
    assert not buses[-1].closed.is_set()
    assert sources.stop(5) == []


def test_a_part_that_never_comes_back_leaves_few_threads_behind(hanging: Hanging) -> None:
    taken = Taken()
    line = line_of(CLOCK, sensor_plan("stuck", hanging, interval=0.02, timeout=0.05))
    sources = Sources([line], taken, CLOCK)
    sources.start()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        threads = [thread for thread in threading.enumerate() if thread.name == "bus sensor stuck"]
        assert len(threads) <= 3
        time.sleep(0.1)
    assert sources.quarantined() == ["sensor stuck"]
    assert hanging.reads == 3
    began = time.monotonic()
    sources.stop(5)
    assert time.monotonic() - began < 2


def test_a_part_that_naks_and_recovers() -> None:
    answers = iter([True, False, False, True])

    def read() -> Sequence[Cell]:
        if next(answers, True):
            return [3]
        raise DeviceNoAnswer("NAK")

    taken = Taken()
    line = line_of(CLOCK, sensor_plan("a", Script(read), interval=0.03))
    sources = Sources([line], taken, CLOCK)
    sources.start()
    set_id = line.groups[0].set.id
    ticks = taken.wait_for(
        lambda ticks: CellState.NO_ANSWER in states_of(ticks, set_id) and states_of(ticks, set_id)[-1] == 0
    )
    assert all(tick.raw == (0,) for tick in ticks if tick.states)
    sources.stop(5)


def test_our_own_mistake_is_handed_to_the_agent() -> None:
    def broken(ticks: Sequence[Tick]) -> None:
        raise AssertionError("a mistake")

    sources = Sources([line_of(CLOCK, sensor_plan("a", Script(), interval=0.02))], broken, CLOCK)
    sources.start()
    deadline = time.monotonic() + 5
    while sources.failure() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(sources.failure(), AssertionError)
    assert not sources.is_alive(CLOCK.boottime_ns(), 5)
    sources.stop(5)


def test_stop_waits_once_for_a_part_that_does_not_return_in_time(hanging: Hanging) -> None:
    line = line_of(CLOCK, sensor_plan("slow", hanging, interval=0.02, timeout=30))
    sources = Sources([line], Taken(), CLOCK)
    sources.start()
    time.sleep(0.1)
    began = time.monotonic()
    assert sources.stop(0.3) == ["sensor slow"]
    assert sources.stop(0.3) == ["sensor slow"]
    assert time.monotonic() - began < 0.5


def test_prompt_sensors_share_a_line_and_a_tick() -> None:
    plans = [sensor_plan(name, Script(), driver=Prompt, interval=1) for name in "abc"]
    plans += [sensor_plan("d", Script()), sensor_plan("e", Script(), driver=Prompt, interval=2)]
    lines = make_lines(plans, {}, CLOCK)
    assert [(line.name, [sensor.name for sensor in line.sensors]) for line in lines] == [
        ("this machine", ["a", "b", "c", "e"]),
        ("sensor d", ["d"]),
    ]
    assert [[sensor.name for sensor in group.sensors] for group in lines[0].groups] == [["a", "b", "c"], ["e"]]


def test_a_prompt_part_that_hangs_costs_the_others_no_cell_of_a_tick_and_comes_back(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "BACKOFF_NS_MAX", S)
    taken = Taken()
    scripts = [Script(), hanging, Script()]
    plans = [
        sensor_plan(name, script, driver=Prompt, interval=0.05, timeout=0.1) for name, script in zip("aHz", scripts)
    ]
    (line,) = make_lines(plans, {}, CLOCK)
    sources = Sources([line], taken, CLOCK)
    sources.start()
    gap = bytes([0, CellState.TIMEOUT, 0])
    ticks = taken.wait_for(lambda ticks: len(ticks) >= 10)
    assert {tick.states for tick in ticks} == {gap}
    assert [tick.stamp for tick in ticks] == sorted({tick.stamp for tick in ticks})
    assert hanging.reads == 1  # nobody else waits for it
    assert sources.quarantined() == []
    assert sources.is_alive(CLOCK.boottime_ns(), 5)
    hanging.hangs = False
    hanging.let_go.set()
    taken.wait_for(lambda ticks: ticks[-1].states is None, 15)
    assert sources.stop(5) == []


def test_prompt_parts_that_all_hang_leave_one_thread_each_behind(hanging: Hanging) -> None:
    taken = Taken()
    plans = [sensor_plan(name, hanging, driver=Prompt, interval=0.02, timeout=0.05) for name in "abc"]
    (line,) = make_lines(plans, {}, CLOCK)
    sources = Sources([line], taken, CLOCK)
    sources.start()
    gap = bytes([CellState.TIMEOUT] * 3)
    ticks = taken.wait_for(lambda ticks: len(ticks) >= 20)
    assert {tick.states for tick in ticks} == {gap}
    assert len([thread for thread in threading.enumerate() if thread.name == "bus this machine"]) == 4
    assert hanging.reads == 3
    assert sources.stop(5) == []


def test_one_read_on_the_command_line_leaves_a_prompt_part_behind_too(hanging: Hanging) -> None:
    plans = [
        sensor_plan(name, script, driver=Prompt, timeout=0.1)
        for name, script in zip("aHz", (Script(), hanging, Script()))
    ]
    (line,) = make_lines(plans, {}, CLOCK)
    run_once(line, CLOCK)
    assert [sensor.flows[0].values for sensor in line.sensors] == [1, 0, 1]
    assert "did not return" in line.sensors[1].error


def test_one_read_whose_part_hangs_as_it_is_closed_reads_nobody_twice(hanging: Hanging) -> None:
    class Sticks(Prompt):
        def close(self) -> None:
            hanging.let_go.wait(20)

    scripts = (Script(), Script())
    plans = [
        sensor_plan(name, script, driver=driver, interval=3600, timeout=0.1)
        for name, script, driver in zip("ab", scripts, (Sticks, Prompt))
    ]
    (line,) = make_lines(plans, {}, CLOCK)
    run_once(line, CLOCK)  # it would wait for the next hour
    assert [each.flows[0].values for each in line.sensors] == [1, 1]


def test_a_bus_may_be_called_as_the_line_of_prompt_sensors() -> None:
    plans = [sensor_plan("a", Script(), driver=Prompt), sensor_plan("b", Script(), bus="this machine")]
    lines = make_lines(plans, {"this machine": I2cSection(kind="i2c", device="/dev/i2c-9")}, CLOCK)
    assert [[each.name for each in line.sensors] for line in lines] == [["a"], ["b"]]


def test_what_others_have_read_is_handed_out_though_a_part_hangs_at_the_stop(hanging: Hanging) -> None:
    taken = Taken()
    plans = [
        sensor_plan("quick", Script(), driver=Prompt, interval=0.5),
        sensor_plan("slow", hanging, driver=Prompt, interval=1, timeout=30),
    ]
    (line,) = make_lines(plans, {}, CLOCK)
    sources = Sources([line], taken, CLOCK)
    sources.start()
    deadline = time.monotonic() + 20
    while not hanging.reads and time.monotonic() < deadline:
        time.sleep(0.01)
    quick = line.sensors[0].flows[0]
    assert sources.stop(0.3) == ["this machine"]
    assert sum(len(tick.raw) == 1 and tick.states is None for tick in taken.ticks) == quick.values > 0


def test_a_thread_that_begins_during_the_stop_is_told_to_stop_too(hanging: Hanging) -> None:
    entered, go_on = threading.Event(), threading.Event()

    class Line(BusLine):
        def set_aside(self) -> Sensor | None:
            entered.set()
            go_on.wait(20)
            return super().set_aside()

    plans = [
        sensor_plan(name, script, driver=Prompt, interval=0.05, timeout=0.1)
        for name, script in zip("aH", (Script(), hanging))
    ]
    sources = Sources([Line(PROMPT, [Sensor(plan) for plan in plans], None, CLOCK)], Taken(), CLOCK)
    sources.start()
    assert entered.wait(20)
    threading.Timer(0.3, go_on.set).start()
    assert sources.stop(10) == []


def test_no_driver_of_a_bus_is_prompt_and_replayed_files_are() -> None:
    drivers = {name: Drivers().load(name) for name in Drivers().names()}
    assert {name for name, driver in drivers.items() if driver.is_prompt} == {"csv-replay"}
    assert all(driver.bus_kind == "none" for driver in drivers.values() if driver.is_prompt)
