"""What must hold when all has calmed down. Value sets are compared, not counts."""

from __future__ import annotations

from itertools import groupby

from tests.sim.cloud import SimCloud
from tests.sim.gateway import SimGateway
from wire.reading import LossReason

REASONS = {LossReason.CLOUD_RESTORED, LossReason.POWER_CUT}  # what the faults here may cost


class Broken(AssertionError):
    """A promise was not kept."""


def check(cloud: SimCloud, name: str, boxes: list[SimGateway]) -> int:
    """Boxes of one identity against what the cloud stores under its name. Returns the number of stored values."""
    taken = set().union(*(box.taken for box in boxes))
    excused = set().union(*(box.excused for box in boxes))
    stored, points = cloud.values(name)
    doubled = [value for value, times in stored.items() if times > 1]
    foreign = stored.keys() - taken
    lost = taken - excused - stored.keys()
    ledger = cloud.catalog.ledger(name)
    given_up = sum(line.tombstoned for line in ledger)
    if doubled:
        raise Broken(f"{name}: {len(doubled)} of {len(taken)} values are stored twice, {sorted(doubled)[:5]}")
    if foreign:
        raise Broken(f"{name}: {len(foreign)} values are stored that no chip gave out, {sorted(foreign)[:5]}")
    if len(lost) > given_up:
        raise Broken(f"{name}: {len(lost)} values are lost, {given_up} are recorded as given up, {sorted(lost)[:5]}")
    unforeseen = {stone.reason for line in ledger for stone in line.tombstones} - REASONS
    if unforeseen:
        raise Broken(f"{name}: given up for {unforeseen}, and no fault asked for it")
    for (epoch, series), run in groupby(sorted(points), key=lambda point: point[:2]):
        values = [value for _, _, _, value in run]
        if values != sorted(values):
            raise Broken(f"{name}: epoch {epoch:016x}, series {series:016x} is out of order")
    for line in ledger:
        if line.pending or line.taken != line.stored + line.tombstoned:
            raise Broken(f"{name}: the ledger does not close: {line}")
    return len(stored)
