"""The real recorder, and beside it which Seq numbers it gave to cells: what a damaged counter skips was nobody's."""

from __future__ import annotations

from collections.abc import Iterable

from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.stats import CommitReport
from wire.ranges import RangeSet
from wire.sync.frames import EpochOffer

Numbers = dict[int, RangeSet]  # by epoch


class NumberedRecorder(Recorder):
    """`given` belongs to the box and outlives its processes."""

    given: Numbers

    def commit(self) -> CommitReport | None:
        """The real one, noted."""
        report = super().commit()
        if report is not None:
            self.given.setdefault(report.epoch, RangeSet()).add(report.first, report.end)
        return report

    def note(self, offers: Iterable[EpochOffer]) -> None:
        """Atoms that lie in the outbox have their numbers, whoever wrote them: a commit whose end was not heard, or
        another life of the card under a new epoch."""
        for offer in offers:
            self.given.setdefault(offer.epoch, RangeSet()).update(offer.offered)


def merged(boxes: Iterable[Numbers]) -> Numbers:
    """Of a card and its copies."""
    everything: Numbers = {}
    for given in boxes:
        for epoch, ranges in given.items():
            everything.setdefault(epoch, RangeSet()).update(ranges)
    return everything
