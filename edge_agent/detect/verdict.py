"""What a runner says of one row of values: scores, and changes of alarms. No thread, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wire.alarm import Phase

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Event:
    """A change of one group's alarm. `row` is the group among those of its lane, `column` the lane's channel that
    contributed most."""

    row: int
    column: int
    phase: Phase
    onset_us: int
    score: float
    value: float | None
    expected: float | None
    low: float | None
    high: float | None


@dataclass(slots=True)
class Verdict:
    """What one row of values gave. `scores` per column: NaN = not scored, 0 = quiet, and a score that came is told
    even where this row lacks the value. `quiet`: all scores are 0 for sure. `top`: the loudest column, or -1."""

    scores: F64
    quiet: bool = False
    events: list[Event] = field(default_factory=list)
    top: int = -1
