"""The outbox as the sync machine sees it (`wire.sync.outbox_view`), over a connection of its own.

Reads never wait for the writer. What is acknowledged or set aside is hidden at once and deleted with the next commit,
without an fsync of its own: a delete that a crash undoes is offered again and acknowledged again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import Any

from edge_agent.errors import OutboxCorrupt
from edge_agent.outbox.alarm_rows import ALARM_COLUMNS, alarm_of
from edge_agent.outbox.database import SUSPECT, connect, translated
from edge_agent.outbox.keys import ROLLUP_SLOT, SEQ_END, SLOTS, first_of, key, slot_of
from edge_agent.outbox.requests import Aside, Key, Requests
from edge_agent.outbox.texts import proven_set
from wire.alarm import Alarm, AlarmKey
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tombstone
from wire.series import SeriesSet
from wire.sync.frames import EPOCHS_MAX, EpochOffer
from wire.sync.outbox_view import StoredAtom

GenerationWriter = Callable[[int, list[tuple[int, RangeSet]]], None]


EPOCHS_RECENT = 64  # boots


class RecorderView:
    """An `OutboxView`. All calls come from one thread, which need not be the writer's.

    Every call may raise OutboxCorrupt (a damaged page was met; the next start salvages) or StateUnusable.
    """

    def __init__(
        self,
        path: Path,
        requests: Requests,
        in_use: Callable[[], Sequence[int]],
        adopt_generation: GenerationWriter,
        begin_epoch: Callable[[RangeSet], None],
    ) -> None:
        self._path = path
        self._requests = requests
        self._in_use = in_use
        self._adopt_generation = adopt_generation
        self._begin_epoch = begin_epoch
        self._numbers: dict[int, int] = {}
        self._connection = connect(path)
        try:
            self._connection.execute("PRAGMA query_only = ON")
        except BaseException:
            self._connection.close()
            raise

    def generation_seen(self) -> int:
        """See `OutboxView`."""
        return int(self._all("SELECT value FROM meta WHERE key = 'generation'")[0][0])

    def offers(self) -> list[EpochOffer]:
        """See `OutboxView`. Costs a row per epoch and per settled range, whatever the backlog.

        Named are the newest EPOCHS_RECENT and, of older ones, those with something to send: a cloud put back from a
        backup still learns of the recent ones, and Hello does not grow with every boot.
        """
        self._all("BEGIN")
        try:
            epochs = self._all(
                "SELECT number, epoch, predecessor, predecessor_next_seq, next_seq, low FROM epochs ORDER BY number"
            )
            settled = self._all("SELECT number, first, end FROM settled")
            stones = self._all("SELECT epoch, first, end FROM tombstones")
            alarms = self._all("SELECT DISTINCT epoch FROM alarms")
        finally:
            if self._connection.in_transaction:  # a failing read has ended it
                self._all("COMMIT")
        offers = {
            number: EpochOffer(
                epoch, next_seq, RangeSet([(low, next_seq)] if low < next_seq else []), predecessor, before
            )
            for number, epoch, predecessor, before, next_seq, low in epochs
        }
        for number, first, end in settled:
            offers[number].offered.discard(first, end)
        for number, offer in offers.items():
            for first, end in self._requests.hidden(number):
                offer.offered.discard(first, end)
            offer.given_up.update(self._requests.asides(number))
        named = list(offers.values())
        by_epoch = {offer.epoch: offer for offer in named}
        for epoch, first, end in stones:
            if epoch in by_epoch:
                by_epoch[epoch].given_up.add(first, end)
        to_send = {epoch for epoch, *_ in (*stones, *alarms)}
        older, recent = named[:-EPOCHS_RECENT], named[-EPOCHS_RECENT:]
        busy = [offer for offer in older if offer.offered or offer.epoch in to_send]
        return busy[: EPOCHS_MAX - len(recent)] + recent

    def next_seq(self) -> int:
        """See `OutboxView`."""
        return int(self._all("SELECT next_seq FROM epochs ORDER BY number DESC LIMIT 1")[0][0])

    def pending(
        self, epoch: int, start: int, end: int, priority: Priority | None, exclude: RangeSet, bytes_max: int
    ) -> list[StoredAtom]:
        """See `OutboxView`. Reads only what it returns; what is excluded or returned counts as under way."""
        number = self._number(epoch)
        if number is None:
            return []
        unwanted = exclude | self._requests.hidden(number) | self._settled(number)
        atoms: list[StoredAtom] = []
        size = 0
        for atom_id, count, data in self._rows(number, start, min(end, SEQ_END), priority, unwanted):
            size += len(data)
            if atoms and size > bytes_max:
                break
            atoms.append(StoredAtom(epoch, first_of(atom_id), count, _class_of(atom_id), data))
            if size >= bytes_max:
                break
        under_way = exclude.copy()
        under_way.update((atom.first, atom.end) for atom in atoms)
        self._requests.lend(number, under_way)
        return atoms

    def acked(self, epoch: int, ranges: RangeSet) -> None:
        """See `OutboxView`. Hidden now, deleted with the next commit."""
        number = self._number(epoch)
        if number is None:
            return
        next_seq = self._all("SELECT next_seq FROM epochs WHERE number = ?", number)[0][0]
        whole = RangeSet()
        for first, end in ranges:
            # Only borders can cut an atom; what lies between is whole.
            cut = self._atom_over(number, first)
            after = cut[1] if cut else first
            cut = self._atom_over(number, min(end, next_seq))
            before = cut[0] if cut else min(end, next_seq)
            if after < before:
                whole.add(after, before)
        self._requests.ack(number, whole)

    def set_aside(self, epoch: int, first: int, reason: str) -> None:
        """See `OutboxView`. Hidden now, moved with the next commit."""
        number = self._number(epoch)
        for slot in SLOTS if number is not None else ():
            atom_id = key(number or 0, slot, first)
            for (count,) in self._all("SELECT count FROM atoms WHERE id = ?", atom_id):
                self._requests.set_aside(Aside(atom_id, reason), number or 0, first, first + count)

    def tombstones(self, limit: int) -> list[Tombstone]:
        """See `OutboxView`."""
        forgotten = self._requests.forgotten()
        rows = self._all(
            "SELECT epoch, first, end, reason, count, span_first_us, span_last_us FROM tombstones ORDER BY id LIMIT ?",
            limit + len(forgotten),
        )
        stones = (
            Tombstone(epoch, first, end, LossReason(reason), count, *span)
            for epoch, first, end, reason, count, *span in rows
        )
        return [stone for stone in stones if stone.key not in forgotten][:limit]

    def tombstones_acked(self, keys: Iterable[Key]) -> None:
        """See `OutboxView`. Hidden now, deleted with the next commit; one that comes back is recorded again."""
        self._requests.forget_tombstones(list(keys))

    def alarms(self, limit: int) -> list[tuple[int, Alarm]]:
        """See `OutboxView`."""
        forgotten = self._requests.forgotten_alarms()
        rows = self._all(
            f"SELECT {ALARM_COLUMNS} FROM alarms ORDER BY number LIMIT ?",  # noqa: S608 - our own names
            limit + len(forgotten),
        )
        found = (alarm_of(row) for row in rows)
        return [(epoch, alarm) for epoch, alarm in found if alarm.key not in forgotten][:limit]

    def alarms_acked(self, keys: Iterable[AlarmKey]) -> None:
        """See `OutboxView`. Hidden now, deleted with the next commit; one that comes back is recorded again."""
        self._requests.forget_alarms(list(keys))

    def series_sets(self, ids: Iterable[int]) -> list[SeriesSet]:
        """See `OutboxView`."""
        rows = ((each, self._all("SELECT definition FROM series_sets WHERE id = ?", each)) for each in ids)
        return [proven_set(set_id, row[0][0]) for set_id, row in rows if row]

    def series_sets_in_use(self) -> Sequence[int]:
        """See `OutboxView`."""
        return self._in_use()

    def keep(self, name: str, value: bytes) -> None:
        """Bytes of the sync side's own under a name, durable with the next commit."""
        self._requests.keep(name, value)

    def kept(self, prefix: str) -> dict[str, bytes]:
        """What `keep` was given under names that begin so."""
        rows = self._all("SELECT key, value FROM state WHERE substr(key, 1, ?) = ?", len(prefix), prefix)
        return dict(rows) | self._requests.kept(prefix)

    def adopt_generation(self, generation: int, gone: Iterable[tuple[int, RangeSet]]) -> None:
        """See `OutboxView`. Durable on return: otherwise a crash could forget what is gone, once it was told.

        What is set aside, its tombstone not committed yet, was not lost in the cloud.

        Raises:
            OutboxFull: the disk has no room; nothing changed.
        """
        self._adopt_generation(generation, [(epoch, ranges - self._set_aside(epoch)) for epoch, ranges in gone])

    def begin_epoch(self, covered: RangeSet) -> None:
        """See `OutboxView`. Durable on return: nothing may be sent under numbers that a crash would give again.

        Raises:
            OutboxFull: the disk has no room; nothing changed.
        """
        self._begin_epoch(covered)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _rows(
        self, number: int, start: int, end: int, priority: Priority | None, unwanted: RangeSet
    ) -> Iterator[tuple[int, int, bytes]]:
        """Atoms that begin in start..end and touch nothing unwanted, in Seq order, read as they are asked for."""
        slots = SLOTS if priority is None else tuple(slot for slot in SLOTS if _LANES[slot] is priority)
        wanted = RangeSet([(start, end)] if start < end else []) - unwanted
        for first, stop in wanted:
            cursors = [
                self._cursor(
                    "SELECT id, count, data FROM atoms WHERE id >= ? AND id < ? ORDER BY id",
                    key(number, slot, first),
                    key(number, slot, stop),
                )
                for slot in slots
            ]
            for row in merge(*cursors, key=lambda row: first_of(row[0])):
                if not unwanted.overlaps(first_of(row[0]), first_of(row[0]) + row[1]):
                    yield row

    def _atom_over(self, number: int, seq: int) -> tuple[int, int] | None:
        """First and end of the atom that `seq` would cut in two."""
        for slot in SLOTS:
            rows = self._all(
                "SELECT id, count FROM atoms WHERE id >= ? AND id < ? ORDER BY id DESC LIMIT 1",
                key(number, slot, 0),
                key(number, slot, seq),
            )
            for atom_id, count in rows:
                if first_of(atom_id) + count > seq:
                    return first_of(atom_id), first_of(atom_id) + count
        return None

    def _set_aside(self, epoch: int) -> RangeSet:
        """Ranges with a tombstone of their own, committed or about to be: asked first, so that none falls between."""
        number = self._number(epoch)
        ranges = RangeSet() if number is None else self._requests.asides(number)
        corrupt = int(LossReason.CORRUPT)
        ranges.update(self._all("SELECT first, end FROM tombstones WHERE epoch = ? AND reason = ?", epoch, corrupt))
        return ranges

    def _settled(self, number: int) -> RangeSet:
        """What is not owed and may be here all the same, as history; nothing where there is none."""
        ((low, kept),) = self._all("SELECT low, kept_atoms FROM epochs WHERE number = ?", number)
        if not kept:
            return RangeSet()
        ranges = RangeSet([(0, low)] if low else [])
        ranges.update(self._all("SELECT first, end FROM settled WHERE number = ?", number))
        return ranges

    def _number(self, epoch: int) -> int | None:
        """The outbox' number for an epoch; None for one it does not know."""
        if epoch not in self._numbers:
            self._numbers.update(self._all("SELECT epoch, number FROM epochs"))
        return self._numbers.get(epoch)

    def _all(self, statement: str, *values: int | str) -> list[Any]:
        return list(self._cursor(statement, *values))

    def _cursor(self, statement: str, *values: int | str) -> Iterator[Any]:
        try:
            yield from self._connection.execute(statement, values)
        except sqlite3.Error as error:
            failure = translated(error, self._path)
            if isinstance(failure, OutboxCorrupt):
                self._path.with_name(SUSPECT).touch()
            raise failure from error


_LANES = {slot: Priority.LOW if slot == ROLLUP_SLOT else Priority(slot) for slot in SLOTS}  # roll-ups go last


def _class_of(atom_id: int) -> Priority:
    return _LANES[slot_of(atom_id)]
