"""The chips of a virtual box: each value that they give out is another one, so that it can be told from all others."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import Enum

from wire.reading import CellState, Priority, Tick
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType

PERIOD_S = 0.5
TIGHT_PERIOD_S = 0.05
NOISE = 1 << 16  # between two values, so that they fill the budget
ALARM_SHARE = 0.01  # of samples
SELDOM_SHARE = 0.0005
DOOR_SHARE = 0.05  # of samples that bring the set of class alarm as well
GAP_SHARE = 0.02  # of cells
PLAIN = SeriesSet(tuple(SeriesDef("oven", f"t{n}", "Cel", den=100) for n in range(3)))
FAST = SeriesSet((SeriesDef("arm", "x", "m/s2", ValueType.FLOAT64),), StampUnit.US)
LOW = SeriesSet((SeriesDef("hall", "rh", "%RH"), SeriesDef("hall", "co2", "ppm")))
ALARM = SeriesSet((SeriesDef("door", "open", "/"),))
SETS = ((PLAIN, Priority.NORMAL), (FAST, Priority.NORMAL), (LOW, Priority.LOW), (ALARM, Priority.ALARM))


class Budget(Enum):
    """How much a box may keep, and of what classes its readings are."""

    ROOMY = "more than a trial takes"
    MIXED = "an outage fills it; classes alternate, so that no atom has a neighbour to be thinned with"
    ONE_CLASS = "an outage fills it; all readings are of one class, and an alarm is seldom"

    @property
    def is_tight(self) -> bool:
        """Does an outage fill it?"""
        return self is not Budget.ROOMY


class Chips:
    """Of one box. A tight budget comes with faster ones: the backlog of half a minute fills it."""

    def __init__(self, budget: Budget, numbers: list[int], rng: random.Random) -> None:
        """`numbers`: the next value that no chip of this world has given out yet."""
        one_class = budget is Budget.ONE_CLASS
        self.period_s = TIGHT_PERIOD_S if budget.is_tight else PERIOD_S
        self.sets = tuple((each, Priority.NORMAL if one_class else priority) for each, priority in SETS)
        self._noise = NOISE if one_class else 0
        self._alarm_share = SELDOM_SHARE if one_class else ALARM_SHARE
        self._numbers = numbers
        self._rng = rng

    def read(self, stamp_us: int) -> Iterator[Tick]:
        """One sample."""
        for series_set, _ in SETS if self._rng.random() < DOOR_SHARE else SETS[:-1]:
            cells: list[int | float] = []
            states = bytearray()
            for series in series_set.series:
                self._numbers[0] += 1 if self._noise == 0 else 1 + self._rng.randrange(self._noise)
                gap = self._rng.random() < GAP_SHARE
                states.append(CellState.NO_ANSWER if gap else CellState.VALUE)
                number = float(self._numbers[0]) if series.value_type is ValueType.FLOAT64 else self._numbers[0]
                cells.append(0 if gap else number)
            yield Tick(series_set.id, stamp_us // series_set.stamp_unit.us, tuple(cells), bytes(states))

    def raises(self) -> bool:
        """Does an alarm begin with this sample?"""
        return self._rng.random() < self._alarm_share


def values_of(tick: Tick) -> set[float]:
    """What the chips gave out in it, gaps aside."""
    states = tick.states or bytes(len(tick.raw))
    return {float(number) for number, state in zip(tick.raw, states) if state == CellState.VALUE}
