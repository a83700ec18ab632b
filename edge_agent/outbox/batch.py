"""What one commit writes, and the transaction that writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from edge_agent.errors import OutboxFull
from edge_agent.outbox.alarm_rows import add_alarms, forget_alarms
from edge_agent.outbox.budget import Freed, make_room, room_for
from edge_agent.outbox.history import drop, trim
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.pins import pin
from edge_agent.outbox.requests import Asked
from edge_agent.outbox.rows import EpochRow, NewAtom
from wire.alarm import Alarm
from wire.clock import US_PER_S, Anchor
from wire.ranges import RangeSet
from wire.reading import Tombstone

# Each deleted atom touches up to one page. A commit must fit in the half of the WAL that a checkpoint leaves free, so
# that acks commit on a full disk; the rest waits for the next commit.
DELETES_MAX = 256
ALARM_BYTES = 256  # of a row, about


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything of one transaction."""

    row: EpochRow
    asked: Asked
    next_seq: int
    journal_lsn: int
    rate: float
    anchor: Anchor | None = None
    atoms: tuple[NewAtom, ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    state: Mapping[str, bytes] = field(default_factory=dict)
    state_deleted: Sequence[str] = ()
    pinned_us: Sequence[int] = ()  # boottime of what happened that the readings around it are kept for
    lent: Mapping[int, RangeSet] = field(default_factory=dict)
    now_us: int = 0  # boottime
    pressed: bool = False  # the journal cannot wait much longer

    @property
    def room(self) -> int:
        """Bytes of pages that what is new in it takes, at most."""
        sizes = [len(atom.data) for atom in self.atoms]
        sizes += [len(value) for value in self.state.values()]
        return room_for([*sizes, *[ALARM_BYTES] * len(self.alarms)]) if sizes or self.alarms else 0

    def acks_only(self) -> Batch:
        """The part that needs no new room."""
        row = self.row
        return Batch(row, self.asked, row.next_seq, row.journal_lsn, row.rate)

    def readings_only(self) -> Batch:
        """The other part."""
        return replace(self, asked=Asked({}, (), ()))


@dataclass(frozen=True, slots=True)
class Written:
    """What was done: ranges that need not be asked for again, by epoch number, Seq numbers settled, what made room.

    `alarms_lost`: changes of alarms that went to make room for newer ones; None when none were added.
    `refusal`: why the batch's atoms are not among it.
    """

    gone: dict[int, RangeSet]
    settled: int
    freed: Freed
    alarms_lost: int | None = None
    refusal: OutboxFull | None = None


def store(outbox: Outbox, batch: Batch, options: OutboxOptions) -> Written:
    """Write a batch; on a full disk its acks alone, then its readings if those made room for them.

    Where the journal cannot wait, older readings make room on a full disk, as they do for the budget.

    Raises:
        OutboxFull: there is not even room for the acks; nothing was written.
        OutboxCorrupt, StateUnusable, StateBusy: as `Database.transaction`.
    """
    database = outbox.database
    refusal = OutboxFull(f"{database.path}: no room on the disk for {batch.room} bytes. Try: df {database.path.parent}")
    taken = batch.room > 0 and database.is_disk_taken()
    if (not taken and database.hold_reserve()) or batch.room <= database.free_bytes():
        try:
            return _write(outbox, batch, options)
        except OutboxFull as error:
            refusal = error
    database.release_reserve()
    database.empty_wal()
    written = _write(outbox, batch.acks_only(), options, full=True)
    if batch.pressed or batch.room <= database.free_bytes():
        try:
            readings = _write(outbox, batch.readings_only(), options, full=True)
            return replace(readings, gone=written.gone, settled=written.settled)
        except OutboxFull as error:
            refusal = error
    return replace(written, refusal=refusal)


def _write(outbox: Outbox, batch: Batch, options: OutboxOptions, *, full: bool = False) -> Written:
    """One fsynced transaction. `full`: the disk has nothing left, so nothing is kept as history.

    Raises:
        OutboxFull: the disk or the budget has no room; nothing of it was written.
        OutboxCorrupt, StateUnusable, StateBusy: as `Database.transaction`.
    """
    gone: dict[int, RangeSet] = {}
    settled = 0
    left = DELETES_MAX
    alarms_lost: int | None = None
    freed = Freed()
    with outbox.database.transaction():
        for number, ranges in batch.asked.acked.items():
            removed = outbox.remove(number, ranges, left, keep=options.history_bytes > 0 and not full)
            settled += removed.ranges.count
            left -= removed.atoms
            gone[number] = ranges if left > 0 else removed.ranges
        for aside in batch.asked.asides:
            outbox.set_aside(aside.atom_id, aside.reason)
        outbox.forget_tombstones(batch.asked.tombstones)
        for name, value in batch.asked.kept.items():
            outbox.set_state(name, value)
        if full:
            drop(outbox, DELETES_MAX)
        else:
            trim(outbox, options.history_bytes, batch.now_us - options.history_age_s * US_PER_S, DELETES_MAX)
        if batch.pinned_us:
            pin(outbox, batch.row.number, batch.pinned_us, options.alarm_context_s)
        if batch.room:
            limit = outbox.database.limit(growing=not full)
            freed = make_room(outbox, batch.room, limit, batch.lent, thins=options.thins)
        if batch.asked.alarms:
            forget_alarms(outbox.database.connection, batch.asked.alarms)
        for atom in batch.atoms:
            outbox.add_atom(batch.row, atom)
        if batch.alarms:
            alarms_lost = add_alarms(outbox.database.connection, batch.row.epoch, batch.alarms)
        for stone in batch.tombstones:
            outbox.add_tombstone(stone)
        for name, value in batch.state.items():
            outbox.set_state(name, value)
        for name in batch.state_deleted:
            outbox.delete_state(name)
        if batch.journal_lsn != batch.row.journal_lsn:
            outbox.advance(batch.row, batch.next_seq, batch.journal_lsn, batch.rate, batch.anchor)
    return Written(gone, settled, freed, alarms_lost)
