"""What must hold when all has calmed down. Value sets are compared, not counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from cloud_sync.catalog.catalog import EpochLedger
from simulator.virtual.cloud import Point, VirtualCloud
from simulator.virtual.gateway import VirtualGateway
from wire.reading import LossReason


@dataclass(slots=True)
class Verdict:
    """Counts of values (`tombstoned`: of cells), and in words what does not hold."""

    taken: int = 0
    stored: int = 0
    tombstoned: int = 0
    excused: int = 0  # taken, gone in a power cut, and not older than the window that was printed
    lost: int = 0
    doubled: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, other: Verdict) -> None:
        """Sums."""
        for name in ("taken", "stored", "tombstoned", "excused", "lost", "doubled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.broken += other.broken


def check(cloud: VirtualCloud, name: str, boxes: Sequence[VirtualGateway], reasons: Collection[LossReason]) -> Verdict:
    """Boxes of one identity against what the cloud stores under its name. `reasons`: losses that the faults explain."""
    taken = set().union(*(box.taken for box in boxes))
    excused = set().union(*(box.excused for box in boxes))
    counted, points = cloud.values(name)
    ledger = cloud.catalog.ledger(name)
    stored = counted.keys()
    missing = taken - stored
    verdict = Verdict(
        taken=len(taken),
        stored=len(taken & stored),
        tombstoned=sum(stone.count for line in ledger for stone in line.tombstones),
        excused=len(missing & excused),
        doubled=sum(times - 1 for times in counted.values()),
    )
    said = verdict.broken
    # A power cut's tombstone is an estimate; every other one counts exactly what it names.
    given_up = sum(s.count for line in ledger for s in line.tombstones if s.reason is not LossReason.POWER_CUT)
    unexplained = missing - excused
    verdict.lost = max(0, len(unexplained) - given_up)
    if verdict.lost:
        some = sorted(unexplained)[:5]
        said.append(f"{len(unexplained)} of {len(taken)} values are lost, {given_up} are recorded as given up, {some}")
    if verdict.doubled:
        some = sorted(value for value, times in counted.items() if times > 1)[:5]
        said.append(f"{verdict.doubled} of {len(taken)} values are stored twice, {some}")
    if foreign := stored - taken:
        said.append(f"{len(foreign)} values are stored that no chip gave out, {sorted(foreign)[:5]}")
    if unforeseen := {stone.reason for line in ledger for stone in line.tombstones} - set(reasons):
        said.append(f"given up for {sorted(one.name for one in unforeseen)}, and no fault asked for it")
    said += _order(points) + _closing(ledger)
    verdict.broken = [f"{name}: {text}" for text in said]
    return verdict


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
