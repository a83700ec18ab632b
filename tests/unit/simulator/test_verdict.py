"""The fault lab's checkers: each finds what it is for, and is silent where all holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from cloud_sync.catalog.catalog import EpochEnd, EpochLedger
from simulator.lab.stored import Point, Stored
from simulator.lab.verdict import Verdict, judge
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone

EPOCH = 7
LINE = EpochLedger(EPOCH, 0, None, EpochEnd.OPEN, 4, 4, 0, 0, 0, (), (), None, 1)


def stored(*values: float) -> Stored:
    """One series, one reading a second."""
    return Stored(Counter(values), [Point(EPOCH, 1, 1_000_000 * at, value) for at, value in enumerate(values)])


def given_up(count: int, reason: LossReason) -> EpochLedger:
    stone = Tombstone(EPOCH, 4 - count, 4, reason, count)
    return replace(LINE, stored=4 - count, tombstoned=count, tombstones=(stone,))


def verdict(
    found: Stored,
    line: EpochLedger = LINE,
    *,
    taken: Collection[float] = (1.0, 2.0, 3.0, 4.0),
    excused: Collection[float] = (),
    reasons: Collection[LossReason] = (),
    given: Mapping[int, RangeSet] | None = None,
) -> Verdict:
    return judge("gw", taken, excused, found, [line], reasons, given)


@pytest.mark.parametrize(
    "found",
    [
        verdict(stored(1.0, 2.0, 3.0, 4.0)),
        verdict(stored(1.0, 2.0, 3.0), given_up(1, LossReason.CORRUPT), reasons=[LossReason.CORRUPT]),
        verdict(stored(1.0, 2.0), replace(LINE, taken=2, stored=2), excused=[3.0, 4.0]),
        verdict(stored(1.0, 2.0, 3.0, 4.0), excused=[3.0, 4.0]),
    ],
    ids=["whole", "told", "power cut", "power cut without a loss"],
)
def test_what_holds(found: Verdict) -> None:
    assert (found.broken, found.lost, found.doubled) == ([], 0, 0)
    assert found.taken == found.stored + found.excused + found.tombstoned == 4


@pytest.mark.parametrize(
    ("found", "said", "lost", "doubled"),
    [
        (verdict(stored(1.0, 2.0, 3.0)), "1 of 4 values are lost, 0 are recorded as given up, [4.0]", 1, 0),
        (verdict(stored(1.0, 2.0), excused=[4.0]), "1 of 4 values are lost, 0 are recorded as given up, [3.0]", 1, 0),
        (verdict(stored(1.0, 2.0, 2.0, 3.0, 4.0)), "1 of 4 values are stored twice, [2.0]", 0, 1),
        (verdict(stored(1.0, 2.0, 3.0, 4.0, 5.0)), "1 values are stored that no chip gave out, [5.0]", 0, 0),
        (verdict(stored(1.0, 3.0, 2.0, 4.0)), "out of order", 0, 0),
        (verdict(stored(1.0, 2.0, 3.0, 4.0), replace(LINE, taken=5, pending=1)), "the ledger does not close", 0, 0),
        (verdict(stored(1.0, 2.0, 3.0, 4.0), replace(LINE, taken=5)), "the ledger does not close", 0, 0),
        (
            verdict(stored(1.0, 2.0, 3.0), given_up(1, LossReason.EVICTED), reasons=[LossReason.CORRUPT]),
            "given up for ['EVICTED'], and no fault asked for it",
            0,
            0,
        ),
        (
            verdict(stored(1.0, 2.0, 3.0), given_up(1, LossReason.POWER_CUT), reasons=[LossReason.POWER_CUT]),
            "1 of 4 values are lost",  # a power cut's count is an estimate and excuses nothing
            1,
            0,
        ),
    ],
    ids=["lost", "beyond the window", "twice", "foreign", "order", "pending", "sum", "unasked", "estimate"],
)
def test_what_does_not_hold(found: Verdict, said: str, lost: int, doubled: int) -> None:
    assert any(said in text for text in found.broken), found.broken
    assert all(text.startswith("gw: ") for text in found.broken)
    assert (found.lost, found.doubled) == (lost, doubled)


def test_a_roll_up_tells_of_no_more_than_was_thinned() -> None:
    line = given_up(2, LossReason.THINNED)
    found = replace(stored(1.0, 2.0), bounds={3.0, 4.0}, rolled_up=2)
    assert verdict(found, line, reasons=[LossReason.THINNED]).broken == []
    assert verdict(found, line, reasons=[LossReason.THINNED]).rolled_up == 2
    wrong = verdict(replace(found, rolled_up=3), line, reasons=[LossReason.THINNED])
    assert wrong.broken == ["gw: roll-ups stand for 3 values, and 2 are recorded as thinned"]
    invented = verdict(replace(found, bounds={3.0, 5.0}), line, reasons=[LossReason.THINNED])
    assert invented.broken == ["gw: roll-ups tell of 1 values that no chip gave out, [5.0]"]


def test_numbers_of_no_reading_hide_no_loss() -> None:
    """A counter that a flipped bit moved gives up three numbers, and the cloud closes its ledger with them."""
    stone = Tombstone(EPOCH, 3, 6, LossReason.HOLE, 3)
    line = replace(LINE, taken=6, stored=3, tombstoned=3, tombstones=(stone,))
    found, reasons = stored(1.0, 2.0, 3.0), [LossReason.HOLE]
    assert verdict(found, line, reasons=reasons, given={EPOCH: RangeSet([(0, 4)])}).broken == []
    for given in ({EPOCH: RangeSet([(0, 3)])}, {}):
        told = verdict(found, line, reasons=reasons, given=given)
        assert told.broken == ["gw: 1 of 4 values are lost, 0 are recorded as given up, [4.0]"]
        assert told.lost == 1


def test_a_tombstone_that_counts_nothing_takes_nothing_from_another() -> None:
    """A hole over numbers that are nobody's, beside a loss that is told."""
    told = Tombstone(EPOCH, 3, 4, LossReason.CORRUPT, 1)
    hole = Tombstone(EPOCH, 4, 9, LossReason.HOLE, 0)
    line = replace(LINE, taken=4, stored=3, tombstoned=1, tombstones=(told, hole))
    found = verdict(stored(1.0, 2.0, 3.0), line, reasons=list(LossReason), given={EPOCH: RangeSet([(0, 4)])})
    assert (found.lost, found.broken) == (0, [])
