"""What must hold when all has calmed down. Value sets are compared, not counts."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from cloud_sync.catalog.catalog import EpochLedger
from simulator.lab.outcome import TrialResult
from simulator.lab.stored import Point, Stored
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone


@dataclass(slots=True)
class Verdict:
    """Counts of values (`tombstoned`: of cells), and in words what does not hold."""

    taken: int = 0
    stored: int = 0
    tombstoned: int = 0
    excused: int = 0  # taken, gone in a power cut, and not older than the window that was printed
    lost: int = 0
    doubled: int = 0
    rolled_up: int = 0  # values given up that a roll-up tells of
    broken: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Sums."""
        for name in ("taken", "stored", "tombstoned", "excused", "lost", "doubled", "rolled_up"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.broken += other.broken

    def add_error(self, error: Exception) -> None:
        """What ended a trial before its time."""
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        where = traceback.extract_tb(error.__traceback__)[-1]
        self.broken.append(f"{type(error).__name__}: {error} ({Path(where.filename).name}, {where.name})")

    def result(self, seed: int, faults: Collection[str], story: Sequence[str]) -> TrialResult:
        """Of the trial."""
        return TrialResult(
            seed=seed,
            faults=tuple(sorted(faults)),
            taken=self.taken,
            stored=self.stored,
            tombstoned=self.tombstoned,
            excused=self.excused,
            lost=self.lost,
            doubled=self.doubled,
            rolled_up=self.rolled_up,
            broken=tuple(self.broken),
            story=tuple(story),
        )


def judge(
    name: str,
    taken: Collection[float],
    excused: Collection[float],
    found: Stored,
    ledger: Sequence[EpochLedger],
    reasons: Collection[LossReason],
    given: Mapping[int, RangeSet] | None = None,
) -> Verdict:
    """What one gateway took against what the cloud stores under its name. `reasons`: losses that the faults explain.

    `given`: by epoch the Seq numbers that cells have, where that is known; a tombstone over others explains nothing."""
    taken, excused, stored = set(taken), set(excused), found.values.keys()
    missing = taken - stored
    verdict = Verdict(
        taken=len(taken),
        stored=len(taken & stored),
        tombstoned=sum(stone.count for line in ledger for stone in line.tombstones),
        excused=len(missing & excused),
        doubled=sum(times - 1 for times in found.values.values()),
        rolled_up=found.rolled_up,
    )
    said = verdict.broken
    # A power cut's tombstone is an estimate; every other one counts exactly what it names.
    told = [stone for line in ledger for stone in _once(line) if stone.reason is not LossReason.POWER_CUT]
    given_up = sum(max(0, stone.count - _of_nobody(stone, given)) for stone in told)
    unexplained = missing - excused
    verdict.lost = max(0, len(unexplained) - given_up)
    if verdict.lost:
        some = sorted(unexplained)[:5]
        said.append(f"{len(unexplained)} of {len(taken)} values are lost, {given_up} are recorded as given up, {some}")
    if verdict.doubled:
        some = sorted(value for value, times in found.values.items() if times > 1)[:5]
        said.append(f"{verdict.doubled} of {len(taken)} values are stored twice, {some}")
    if foreign := stored - taken:
        said.append(f"{len(foreign)} values are stored that no chip gave out, {sorted(foreign)[:5]}")
    if invented := found.bounds - taken:
        said.append(f"roll-ups tell of {len(invented)} values that no chip gave out, {sorted(invented)[:5]}")
    thinned = sum(s.count for line in ledger for s in line.tombstones if s.reason is LossReason.THINNED)
    if found.rolled_up > thinned:
        said.append(f"roll-ups stand for {found.rolled_up} values, and {thinned} are recorded as thinned")
    if unforeseen := {stone.reason for line in ledger for stone in line.tombstones} - set(reasons):
        said.append(f"given up for {sorted(one.name for one in unforeseen)}, and no fault asked for it")
    said += _order(found.points) + _closing(ledger)
    verdict.broken = [f"{name}: {text}" for text in said]
    return verdict


def _of_nobody(stone: Tombstone, given: Mapping[int, RangeSet] | None) -> int:
    """How many of its numbers no cell ever had: a damaged counter skipped them."""
    if given is None:
        return 0
    return (RangeSet([(stone.first, stone.end)]) - given.get(stone.epoch, RangeSet())).count


def _once(line: EpochLedger) -> list[Tombstone]:
    """A roll-up that went names the readings again that were given up when it was made."""
    thinned = RangeSet((s.first, s.end) for s in line.tombstones if s.reason is LossReason.THINNED)
    return [
        stone
        for stone in line.tombstones
        if stone.reason is LossReason.THINNED
        or stone.first == stone.end
        or not thinned.contains(stone.first, stone.end)
    ]


def _order(points: Sequence[Point]) -> list[str]:
    said = []
    in_time = sorted(points, key=attrgetter("epoch", "series", "stamp_us", "value"))
    for (epoch, series), run in groupby(in_time, key=attrgetter("epoch", "series")):
        values = [point.value for point in run]
        if values != sorted(values):
            said.append(f"epoch {epoch:016x}, series {series:016x} is out of order")
    return said


def _closing(ledger: Sequence[EpochLedger]) -> list[str]:
    return [
        f"the ledger does not close: {line}"
        for line in ledger
        if line.pending or line.taken != line.stored + line.tombstoned
    ]
