"""The newest reading of every line, found backwards from when the gateway was last seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cloud_sync.query.blocks import Slice
from cloud_sync.query.plan import Line
from wire.reading import CellState

_NOTHING = (-(1 << 62),)  # earlier than any stamp


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest cell of a line, and its newest value (None: not found); they differ while the sensor is silent."""

    line: Line
    time_us: int | None = None
    state: int = int(CellState.VALUE)
    quality: int = 0
    value: float | None = None
    value_time_us: int | None = None


class Newest:
    """Keeps the newest cell and value per line while slices come in any order."""

    def __init__(self, lines: tuple[Line, ...]) -> None:
        self._lines = lines
        self._cells: dict[int, tuple[int, int, int]] = {}  # line -> time, state, quality
        self._values: dict[int, tuple[int, float]] = {}

    def add(self, part: Slice) -> None:
        """Fold one slice in; a mean is no reading."""
        if part.rolled is not None:
            return
        for row, line in enumerate(part.lines.tolist()):
            states = part.states[row]
            cells = np.flatnonzero(states != CellState.ABSENT)
            values = np.flatnonzero(states == CellState.VALUE)
            if len(cells) and int(part.times[cells[-1]]) >= self._cells.get(line, _NOTHING)[0]:
                at = cells[-1]
                self._cells[line] = (int(part.times[at]), int(states[at]), int(part.quality[row, at]))
            if len(values) and int(part.times[values[-1]]) >= self._values.get(line, _NOTHING)[0]:
                at = values[-1]
                self._values[line] = (int(part.times[at]), float(part.values[row, at]))

    def missing(self) -> set[int]:
        """Lines without a value yet."""
        return set(range(len(self._lines))) - set(self._values)

    def settled(self, lines: Iterable[int], time_us: int) -> bool:
        """True when no cell up to `time_us` can be news for these lines."""
        return all(line in self._values and self._values[line][0] >= time_us for line in lines)

    def result(self) -> list[Latest]:
        """One per line, in their order."""
        return [self._latest(index, line) for index, line in enumerate(self._lines)]

    def _latest(self, index: int, line: Line) -> Latest:
        if index not in self._cells:
            return Latest(line)
        time_us, state, quality = self._cells[index]
        value_time_us, value = self._values.get(index, (None, None))
        return Latest(line, time_us, state, quality, value, value_time_us)
