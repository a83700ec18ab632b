"""What the cloud has of one epoch, and the one rule that makes delivery exactly once.

State of a Seq: missing → tombstoned → stored, never back. Stored wins: a tombstoned range may still be stored later.
A roll-up stores no Seq: its readings are gone, and are tombstoned with it. That it is there is noted apart (`rolled`).
The catalog's transaction, the simulator and the tests all decide by this file.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from wire.ranges import Range, RangeSet
from wire.sync.frames import EpochCoverage


class Fit(Enum):
    """How a message's atoms lie to what is stored."""

    DISJOINT = "disjoint"  # nothing of it is stored: store it
    COVERED = "covered"  # all of it is stored: acknowledge it
    OVERLAP = "overlap"  # a part is stored: store nothing, tell the coverage


class Coverage:
    """The disjoint sets of stored and of tombstoned Seq of one (gateway, epoch). Both only grow, or move to stored.

    `rolled` is the part of tombstoned that a roll-up stands for.
    """

    __slots__ = ("rolled", "stored", "tombstoned")

    def __init__(
        self, stored: RangeSet | None = None, tombstoned: RangeSet | None = None, rolled: RangeSet | None = None
    ) -> None:
        """Takes the sets over; what is in two of them counts as stored, else as rolled up."""
        self.stored = RangeSet() if stored is None else stored
        self.rolled = RangeSet() if rolled is None else rolled - self.stored
        self.tombstoned = ((RangeSet() if tombstoned is None else tombstoned) | self.rolled) - self.stored

    def classify(self, atoms: Iterable[Range]) -> Fit:
        """Compare a message's atoms (half-open ranges) with what is stored; tombstones do not count.

        A message without any Seq is COVERED: there is nothing to store.
        """
        stored = missing = False
        for first, end in atoms:
            if first == end:
                continue
            if self.stored.contains(first, end):
                stored = True
            elif self.stored.overlaps(first, end):
                return Fit.OVERLAP
            else:
                missing = True
        if stored and missing:
            return Fit.OVERLAP
        return Fit.DISJOINT if missing else Fit.COVERED

    def store(self, atoms: Iterable[Range]) -> None:
        """The atoms of a DISJOINT message are durable now."""
        for first, end in atoms:
            assert not self.stored.overlaps(first, end), f"Seq {first}..{end} is stored twice"
            self.stored.add(first, end)
            self.tombstoned.discard(first, end)
            self.rolled.discard(first, end)

    def classify_rollup(self, first: int, end: int) -> Fit:
        """COVERED where every reading of first..end is stored, itself or in a roll-up; else DISJOINT: store it.

        Never OVERLAP: a roll-up cannot be cut, and what of it is stored raw stays so beside it.
        """
        return Fit.COVERED if (self.stored | self.rolled).contains(first, end) else Fit.DISJOINT

    def store_rollup(self, first: int, end: int) -> None:
        """The roll-up of first..end is durable now; its readings are given up, but those that are stored."""
        for lost_first, lost_end in RangeSet([(first, end)]) - self.stored:
            self.rolled.add(lost_first, lost_end)
            self.tombstoned.add(lost_first, lost_end)

    def tombstone(self, first: int, end: int) -> None:
        """first..end was given up; what is stored stays stored. Doing it again changes nothing."""
        for lost_first, lost_end in RangeSet([(first, end)]) - self.stored:
            self.tombstoned.add(lost_first, lost_end)

    @property
    def end(self) -> int:
        """One past the largest Seq that is stored or tombstoned; 0 when there is none."""
        return max(self.stored.end, self.tombstoned.end)

    def frame(self) -> EpochCoverage:
        """An independent copy, as Welcome and Overlap carry it."""
        return EpochCoverage(self.stored.copy(), self.tombstoned.copy())
