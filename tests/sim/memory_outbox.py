"""An outbox without a disk: the other side of `OutboxView`, with what a disk can do to it.

Commits are durable at once (they are fsynced). Every other write is durable with the next commit, so that a crash in
between takes it back. `disk` is what a reader of the card would find; it can be copied, kept and put back.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from wire.alarm import Alarm, AlarmKey, Phase
from wire.clock import Anchor
from wire.codec import encode
from wire.merge import segment_of
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tick, Tombstone
from wire.series import SeriesDef, SeriesSet
from wire.sync.frames import EpochOffer
from wire.sync.outbox_view import StoredAtom

SERIES = SeriesSet(tuple(SeriesDef("sensor", f"channel{n}", "Cel") for n in range(2)))
Key = tuple[int, int]  # epoch, first
Place = tuple[int, int]  # epoch, Seq


@dataclass
class Epoch:
    id: int
    boot: int
    next_seq: int = 0
    predecessor: int = 0
    predecessor_next_seq: int | None = None


@dataclass
class Disk:
    """All that is written."""

    epochs: list[Epoch] = field(default_factory=list)
    atoms: dict[Key, StoredAtom] = field(default_factory=dict)
    values: dict[Key, tuple[int, ...]] = field(default_factory=dict)  # what each atom holds, in Seq order
    tombstones: dict[tuple[int, int, int, int], Tombstone] = field(default_factory=dict)
    alarms: dict[AlarmKey, tuple[int, Alarm]] = field(default_factory=dict)  # to be sent
    raised: set[AlarmKey] = field(default_factory=set)  # the checker's: every alarm ever committed
    generation: int = 0
    lsn: int = 0  # commits
    places: dict[int, Place] = field(default_factory=dict)  # the checker's: every value ever committed

    def copy(self) -> Disk:
        return Disk(
            [copy.copy(epoch) for epoch in self.epochs],
            dict(self.atoms),
            dict(self.values),
            dict(self.tombstones),
            dict(self.alarms),
            set(self.raised),
            self.generation,
            self.lsn,
            dict(self.places),
        )


class MemoryOutbox:
    """One process's view of a card. `on_delete` is asked before each delete: the checker."""

    def __init__(
        self,
        disk: Disk,
        boot: int,
        new_epoch_id: Callable[[], int],
        on_delete: Callable[[StoredAtom], None],
        *,
        ram_lsn: int = 0,
        in_use: bool = True,
    ) -> None:
        """`ram_lsn`: the lsn that the journal in RAM remembers from this boot; over the disk's, the disk is older."""
        self.disk = disk
        self.live = disk.copy()
        self.set_aside_atoms: list[StoredAtom] = []
        self._new_epoch_id = new_epoch_id
        self._on_delete = on_delete
        self._series = SERIES
        self._in_use = in_use
        self._own: set[Key] = set()  # committed by this process
        if not self.live.epochs or self.live.epochs[-1].boot != boot or ram_lsn > self.live.lsn:
            self._mint(boot)
            self._fsync()

    def _mint(self, boot: int) -> Epoch:
        before = self.live.epochs[-1] if self.live.epochs else None
        epoch = Epoch(self._new_epoch_id(), boot)
        if before is not None:
            epoch.predecessor, epoch.predecessor_next_seq = before.id, before.next_seq
        self.live.epochs.append(epoch)
        return epoch

    def _fsync(self) -> None:
        self.live.lsn += 1
        self.disk = self.live.copy()

    def commit(self, stamp: int, values: Sequence[int], priority: Priority, anchor: Anchor) -> None:
        """One atom of as many ticks as there are pairs of values; a last odd one is dropped."""
        self._add(self.live.epochs[-1], stamp, values, priority, anchor)
        self._fsync()

    def _add(self, epoch: Epoch, stamp: int, values: Sequence[int], priority: Priority, anchor: Anchor) -> None:
        ticks = [
            Tick(self._series.id, stamp + place, (values[place], values[place + 1]))
            for place in range(0, len(values) - 1, 2)
        ]
        segment = segment_of(ticks, {self._series.id: self._series}, epoch.next_seq, priority, anchor)
        key = (epoch.id, epoch.next_seq)
        atom = StoredAtom(epoch.id, epoch.next_seq, segment.count, priority, encode(segment, pco=False))
        self.live.atoms[key] = atom
        self.live.values[key] = tuple(values[: segment.count])
        for place, value in enumerate(values[: segment.count]):
            self.live.places[value] = (epoch.id, epoch.next_seq + place)
        epoch.next_seq += segment.count
        self._own.add(key)

    def alarm(self, number: int, phase: Phase, stamp_us: int) -> None:
        """One change of an alarm, durable with what was committed before it."""
        alarm = Alarm(
            number, "sensor/channel0", "high 5", phase, 0, stamp_us, 1.5, 5.0, 6.5, None, None, 5.0, "Cel"
        )  # fmt: skip
        self.live.alarms[alarm.key] = self.live.epochs[-1].id, alarm
        self.live.raised.add(alarm.key)
        self._fsync()

    def evict(self, keys: Sequence[Key]) -> None:
        """The budget is short: whole atoms become tombstones."""
        for key in keys:
            atom = self.live.atoms[key]
            self._bury(Tombstone(atom.epoch, atom.first, atom.end, LossReason.EVICTED, atom.count))
            self._drop(key)
        self._fsync()

    def _bury(self, tombstone: Tombstone) -> None:
        self.live.tombstones[tombstone.key] = tombstone

    def _drop(self, key: Key) -> None:
        del self.live.atoms[key]
        del self.live.values[key]

    # OutboxView

    def generation_seen(self) -> int:
        return self.live.generation

    def offers(self) -> list[EpochOffer]:
        offered: dict[int, RangeSet] = {epoch.id: RangeSet() for epoch in self.live.epochs}
        for atom in self.live.atoms.values():
            offered[atom.epoch].add(atom.first, atom.end)
        return [
            EpochOffer(epoch.id, epoch.next_seq, offered[epoch.id], epoch.predecessor, epoch.predecessor_next_seq)
            for epoch in self.live.epochs
        ]

    def next_seq(self) -> int:
        return self.live.epochs[-1].next_seq

    def pending(
        self, epoch: int, start: int, end: int, priority: Priority | None, exclude: RangeSet, bytes_max: int
    ) -> list[StoredAtom]:
        found: list[StoredAtom] = []
        for key in sorted(self.live.atoms):
            atom = self.live.atoms[key]
            if atom.epoch != epoch or not start <= atom.first < end or exclude.overlaps(atom.first, atom.end):
                continue
            if priority is not None and atom.priority != priority:
                continue
            bytes_max -= len(atom.data)
            if found and bytes_max < 0:
                break
            found.append(atom)
        return found

    def acked(self, epoch: int, ranges: RangeSet) -> None:
        for key, atom in sorted(self.live.atoms.items()):
            if atom.epoch == epoch and ranges.contains(atom.first, atom.end):
                self._on_delete(atom)
                self._drop(key)

    def set_aside(self, epoch: int, first: int, reason: str) -> None:
        atom = self.live.atoms[epoch, first]
        self.set_aside_atoms.append(atom)
        self._bury(Tombstone(epoch, atom.first, atom.end, LossReason.CORRUPT, atom.count))
        self._drop((epoch, first))

    def tombstones(self, limit: int) -> list[Tombstone]:
        return list(self.live.tombstones.values())[:limit]

    def tombstones_acked(self, keys: Iterable[tuple[int, int, int, int]]) -> None:
        for key in keys:
            self.live.tombstones.pop(key, None)

    def alarms(self, limit: int) -> list[tuple[int, Alarm]]:
        return list(self.live.alarms.values())[:limit]

    def alarms_acked(self, keys: Iterable[AlarmKey]) -> None:
        for key in keys:
            self.live.alarms.pop(key, None)

    def series_sets(self, ids: Iterable[int]) -> list[SeriesSet]:
        return [self._series for one in ids if one == self._series.id]

    def series_sets_in_use(self) -> Sequence[int]:
        return [self._series.id] if self._in_use else []

    def adopt_generation(self, generation: int, gone: Iterable[tuple[int, RangeSet]]) -> None:
        self.live.generation = generation
        for epoch, ranges in gone:
            for first, end in ranges:
                self._bury(Tombstone(epoch, first, end, LossReason.CLOUD_RESTORED, end - first))

    def begin_epoch(self, covered: RangeSet) -> None:
        old = self.live.epochs[-1]
        own = sorted(key for key in self._own if key in self.live.atoms and key[0] == old.id)
        epoch = self._mint(old.boot)
        self._own.clear()
        for key in own:
            atom, values = self.live.atoms[key], self.live.values[key]
            self._drop(key)
            self._add(epoch, atom.first, values, atom.priority, ANCHOR)
        if own:
            old.next_seq = min(old.next_seq, own[0][1])
        self._fsync()


ANCHOR = Anchor(1_000_000, 1_700_000_000_000_000, True, 1000)
