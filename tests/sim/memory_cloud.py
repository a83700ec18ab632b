"""A cloud without a disk: the other side of `CloudSession`, built on `wire.coverage`. It can be copied and put back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from wire.alarm import Alarm, AlarmKey
from wire.codec import decode
from wire.coverage import Coverage, Fit
from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.merge import recut
from wire.ranges import RangeSet
from wire.reading import Tombstone
from wire.series import SeriesSet
from wire.sync.frames import Hello, MessageFrame
from wire.sync.outcomes import AlreadyStored, Corrupt, HelloAnswer, Outcome, Overlaps, Stored, UnknownSeries


@dataclass
class MemoryCloud:
    """One gateway's part of a catalog and its bucket."""

    generation: int
    coverage: dict[int, Coverage] = field(default_factory=dict)
    sets: dict[int, SeriesSet] = field(default_factory=dict)
    values: Counter[int] = field(default_factory=Counter)  # how often each value is stored
    tombstones: dict[tuple[int, int, int, int], Tombstone] = field(default_factory=dict)
    next_seq: dict[int, int] = field(default_factory=dict)
    alarms: dict[AlarmKey, Alarm] = field(default_factory=dict)

    def copy(self, generation: int) -> MemoryCloud:
        """A backup, to be restored under a new generation."""
        return MemoryCloud(
            generation,
            {epoch: Coverage(c.stored.copy(), c.tombstoned.copy()) for epoch, c in self.coverage.items()},
            dict(self.sets),
            self.values.copy(),
            dict(self.tombstones),
            dict(self.next_seq),
            dict(self.alarms),
        )

    def of(self, epoch: int) -> Coverage:
        return self.coverage.setdefault(epoch, Coverage())

    def hello(self, hello: Hello) -> HelloAnswer:
        for offer in hello.epochs:
            self.next_seq[offer.epoch] = max(self.next_seq.get(offer.epoch, 0), offer.next_seq)
        frames = tuple(self.of(offer.epoch).frame() for offer in hello.epochs)
        return HelloAnswer(self.generation, frames, tuple(one for one in hello.series_sets if one not in self.sets))

    def put_series_sets(self, sets: tuple[SeriesSet, ...]) -> None:
        self.sets.update((one.id, one) for one in sets)

    def record_tombstones(self, tombstones: tuple[Tombstone, ...]) -> None:
        for tombstone in tombstones:
            self.tombstones[tombstone.key] = tombstone
            self.of(tombstone.epoch).tombstone(tombstone.first, tombstone.end)

    def record_alarms(self, alarms: tuple[tuple[int, Alarm], ...]) -> None:
        for epoch, alarm in alarms:
            assert epoch in self.next_seq
            assert self.alarms.setdefault(alarm.key, alarm) == alarm

    def commit(self, message: MessageFrame) -> tuple[Outcome, RangeSet]:
        """One message in one transaction."""
        try:
            segment = decode(message.segment)
        except SegmentCorrupt as error:
            return Corrupt("corrupt", str(error)), RangeSet()
        except UnsupportedFormat as error:
            return Corrupt("unsupported", str(error)), RangeSet()
        ranges = [(atom.first, atom.end) for atom in segment.atoms]
        unknown = tuple(block.set_id for block in segment.blocks if block.set_id not in self.sets)
        coverage = self.of(message.epoch)
        match coverage.classify(ranges):
            case Fit.COVERED:
                return AlreadyStored(), RangeSet(ranges)
            case Fit.OVERLAP:
                return Overlaps(coverage.frame()), RangeSet()
        if unknown:
            return UnknownSeries(unknown), RangeSet()
        coverage.store(ranges)
        for atom in recut(segment):
            for block in atom.blocks:
                for column in block.columns:
                    self.values.update(column.tolist())
        return Stored(), RangeSet(ranges)
