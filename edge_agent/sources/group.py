"""A poll group: sensors of one bus, interval and priority, sampled with one stamp on a deadline grid."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.sources.sensor import Sensor
from hardware.driver import Raw
from wire.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from wire.reading import SERIES_PER_SET_MAX, CellState, Priority, Tick
from wire.series import SeriesSet, StampUnit

Cells = list[Raw | CellState]


class Cycle:
    """One round of a group. Cells are filled sensor by sensor, so that what was read survives one that hangs."""

    def __init__(self, group: PollGroup, stamp_ns: int) -> None:
        self.group = group
        self.stamp_ns = stamp_ns
        self.cells: dict[Sensor, tuple[Cells, int]] = {}  # and how late they came, in ns

    def fill(self, sensor: Sensor, cells: Cells, now_ns: int) -> None:
        """This sensor is done."""
        self.cells[sensor] = (cells, now_ns - self.stamp_ns)

    def fill_gap(self, sensor: Sensor, reason: CellState) -> None:
        """This sensor brings nothing but the reason."""
        self.cells[sensor] = ([reason] * len(sensor.flows), 0)


class PollGroup:
    """Due at start + n * interval. A late cycle keeps its real time; a missed one is counted."""

    def __init__(self, sensors: Sequence[Sensor], start_ns: int) -> None:
        self.sensors = list(sensors)
        plan = sensors[0].plan
        self.priority: Priority = plan.priority
        self.period_ns = round(plan.interval * NS_PER_S)
        self.due_ns = -(-start_ns // NS_PER_MS) * NS_PER_MS  # whole milliseconds: on-time stamps differ by the period
        self.cycles = 0
        self.missed = 0
        self.set = SeriesSet(tuple(flow.definition for sensor in self.sensors for flow in sensor.flows))

    def begin(self, now_ns: int) -> Cycle:
        """Start the cycle that is due, and set the time of the next."""
        behind = max(0, now_ns - self.due_ns) // self.period_ns
        self.missed += behind
        self.due_ns += (behind + 1) * self.period_ns
        self.cycles += 1
        return Cycle(self, now_ns)

    def finish(self, cycle: Cycle) -> Tick | None:
        """The tick of the cycle, filtered and judged; None when every cell was held back."""
        unit_ns = NS_PER_MS if self.set.stamp_unit is StampUnit.MS else NS_PER_US
        stamp_us = cycle.stamp_ns // NS_PER_US
        raws: list[Raw] = []
        states, quality = bytearray(), bytearray()
        for sensor in self.sensors:
            cells, late_ns = cycle.cells[sensor]
            late_us = late_ns // NS_PER_US
            if late_us <= sensor.plain_us and sensor.plain.take(cells, stamp_us):
                raws += cells
                states += bytes(len(cells))
                quality += bytes(len(cells))
                continue
            for flow, cell in zip(sensor.flows, cells):
                raw, state, doubts = flow.step(cell, stamp_us, late_us)
                raws.append(raw)
                states.append(state)
                quality.append(doubts)
        if states.count(CellState.ABSENT) == len(states):
            return None
        return Tick(
            self.set.id,
            cycle.stamp_ns // unit_ns,
            tuple(raws),
            bytes(states) if any(states) else None,
            bytes(quality) if any(quality) else None,
        )


def make_groups(sensors: Sequence[Sensor], start_ns: int) -> list[PollGroup]:
    """Sensors of one line as groups, by interval and priority; the shortest interval first. What is too much for one
    set is several groups."""
    together: dict[tuple[float, Priority], list[list[Sensor]]] = {}
    for sensor in sensors:
        lists = together.setdefault((sensor.plan.interval, sensor.plan.priority), [[]])
        if lists[-1] and sum(len(each.flows) for each in [*lists[-1], sensor]) > SERIES_PER_SET_MAX:
            lists.append([])
        lists[-1].append(sensor)
    return [PollGroup(each, start_ns) for key in sorted(together) for each in together[key]]
