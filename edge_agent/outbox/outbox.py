"""The outbox' tables and their rules. `docs/formats/outbox.md` explains them; `recorder` says when each is used.

Every Seq below an epoch's `next_seq` is either owed to the cloud, and then in an atom here, or settled: acknowledged,
or given up in a tombstone. The settled ranges are kept as `low` (all below it) and a few rows above it. An acknowledged
atom may stay as history (`history`): it is settled all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple

from edge_agent.outbox.database import Database
from edge_agent.outbox.keys import NUMBER_MAX, ROLLUP_SLOT, SEQ_END, SLOTS, first_of, key, number_of, slot_of
from edge_agent.outbox.rows import EpochRow, NewAtom, Removed, Totals
from edge_agent.outbox.texts import anchor_text, new_id, proven_set, set_text
from wire.clock import Anchor
from wire.codec import read_header
from wire.ranges import SEQ_MAX, Range, RangeSet
from wire.reading import LossReason, Tombstone
from wire.series import SeriesSet

ASIDE_MAX = 100  # refused atoms kept for people to look at


class Outbox:
    """The writer's half. Every method that changes something is to be called inside `database.transaction()`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._execute = database.connection.execute

    # meta and state

    def meta(self, name: str) -> int | str | None:
        """A fact about the whole outbox."""
        row = self._execute("SELECT value FROM meta WHERE key = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def set_meta(self, **facts: int | str) -> None:
        """Write facts."""
        self.database.connection.executemany("REPLACE INTO meta VALUES (?, ?)", facts.items())

    def set_state(self, name: str, value: bytes) -> None:
        """Keep bytes for a part of the agent, in the transaction that stores the readings they were made from."""
        self._execute(
            "INSERT INTO state VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2 WHERE value <> ?2",
            (name, value),
        )

    def states(self, prefix: str) -> dict[str, bytes]:
        """All that is kept under names that begin so."""
        rows = self._execute("SELECT key, value FROM state WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        return dict(rows.fetchall())

    def delete_state(self, name: str) -> None:
        """Keep it no more."""
        self._execute("DELETE FROM state WHERE key = ?", (name,))

    # epochs

    def epochs(self) -> list[EpochRow]:
        """Oldest first."""
        return [EpochRow(*row) for row in self._execute("SELECT * FROM epochs ORDER BY number")]

    def epoch(self, number: int) -> EpochRow:
        """The one with this number."""
        return EpochRow(*self._execute("SELECT * FROM epochs WHERE number = ?", (number,)).fetchone())

    def current(self) -> EpochRow:
        """The last one."""
        row = self._execute("SELECT * FROM epochs ORDER BY number DESC LIMIT 1").fetchone()
        return EpochRow(*row)

    def mint(self, predecessor: EpochRow | None, *, certain: bool = True, journal_lsn: int = 0) -> EpochRow:
        """A new epoch with a fresh random id. `certain`: the predecessor's `next_seq` is known to be its last."""
        number = 1 if predecessor is None else predecessor.number + 1
        assert number <= NUMBER_MAX, f"epoch number {number}, over {NUMBER_MAX}"
        known = predecessor.next_seq if predecessor is not None and certain else None
        before = 0 if predecessor is None else predecessor.epoch
        rate = 0.0 if predecessor is None else predecessor.rate  # the best guess until the first commit
        row = EpochRow(number, new_id(), before, known, 0, 0, journal_lsn, 0, 0, 0, rate, None)
        self.put_epoch(row)
        return row

    def put_epoch(self, row: EpochRow) -> None:
        """Write a whole row."""
        marks = ", ".join("?" * len(EpochRow.__slots__))
        self._execute(f"REPLACE INTO epochs VALUES ({marks})", astuple(row))  # noqa: S608 - marks

    def advance(self, row: EpochRow, next_seq: int, journal_lsn: int, rate: float, anchor: Anchor | None) -> None:
        """Where the current epoch stands after a commit."""
        self._execute(
            "UPDATE epochs SET next_seq = ?, journal_lsn = ?, rate = ?, anchor = coalesce(?, anchor) WHERE number = ?",
            (next_seq, journal_lsn, rate, None if anchor is None else anchor_text(anchor), row.number),
        )

    def reach(self, number: int, end: int, low: int | None) -> None:
        """After salvage: numbers up to `end` were given; `low` where the row that knew it is lost."""
        self._execute(
            "UPDATE epochs SET next_seq = max(next_seq, ?), low = coalesce(?, low) WHERE number = ?", (end, low, number)
        )

    def totals(self) -> Totals:
        """Sums over the epochs' rows."""
        sums = "sum(atoms), sum(cells), sum(bytes), sum(kept_atoms), sum(kept_bytes), sum(rollup_bytes)"
        return Totals(*self._execute(f"SELECT {sums} FROM epochs").fetchone())  # noqa: S608 - our own names

    # atoms

    def add_atom(self, row: EpochRow, atom: NewAtom) -> None:
        """Store one, and count it."""
        self._execute(
            "INSERT INTO atoms VALUES (?, ?, ?, ?, ?, ?)",
            (key(row.number, atom.slot, atom.first), row.epoch, atom.count, *atom.span, atom.data),
        )
        self.count(row.number, atom.slot, 1, atom.count, len(atom.data))

    def replace(self, row: EpochRow, atom: NewAtom) -> None:
        """One roll-up for the atoms of its class that lie in its range and are owed: the range stays so."""
        low, high = key(row.number, atom.priority, atom.first), key(row.number, atom.priority, atom.end)
        gone = self._execute(
            "SELECT count(*), sum(count), sum(length(data)) FROM atoms WHERE id >= ? AND id < ?", (low, high)
        ).fetchone()
        self._execute("DELETE FROM atoms WHERE id >= ? AND id < ?", (low, high))
        self.count(row.number, atom.priority, *(-number for number in gone))
        self.add_atom(row, atom)

    def remove(self, number: int, ranges: Iterable[Range], limit: int = SEQ_MAX, *, keep: bool = False) -> Removed:
        """Settle up to `limit` atoms that are owed and lie wholly in `ranges`; they are deleted, or kept as history."""
        gone = RangeSet()
        atoms = 0
        for first, end in (part for each in ranges for part in self._owed_in(number, *each)):
            for slot in SLOTS:
                low, high = key(number, slot, first), key(number, slot, end)
                rows = self._execute(
                    "SELECT id, count, length(data) FROM atoms WHERE id >= ? AND id < ? AND id + count <= ? "
                    "ORDER BY id LIMIT ?",
                    (low, high, high, limit - atoms),
                ).fetchall()
                if rows:
                    size = sum(row[2] for row in rows)
                    if keep:
                        self.count_kept(number, len(rows), size)
                    else:
                        self._execute("DELETE FROM atoms WHERE id BETWEEN ? AND ?", (rows[0][0], rows[-1][0]))
                    self.count(number, slot, -len(rows), -sum(row[1] for row in rows), -size)
                    gone.update((first_of(row[0]), first_of(row[0]) + row[1]) for row in rows)
                    atoms += len(rows)
        self.settle(number, gone)
        return Removed(gone, atoms)

    def settle(self, number: int, ranges: Iterable[Range]) -> None:
        """These Seq numbers need nothing more of this outbox."""
        for first, end in ranges:
            self._settle(number, first, end)

    def unsettle(self, number: int, ranges: RangeSet) -> None:
        """The cloud has lost these ranges of an epoch, whose atoms are here: they are owed again."""
        row = self.epoch(number)
        owed = self.unsettled(row) | ranges
        low = min(row.low, next(iter(owed))[0])
        self._execute("DELETE FROM settled WHERE number = ?", (number,))
        self._execute("UPDATE epochs SET low = ? WHERE number = ?", (low, number))
        self.settle(number, RangeSet([(low, row.next_seq)]) - owed)

    def unsettled(self, row: EpochRow) -> RangeSet:
        """What this epoch still answers for."""
        ranges = RangeSet([(row.low, row.next_seq)] if row.low < row.next_seq else [])
        for first, end in self._execute("SELECT first, end FROM settled WHERE number = ?", (row.number,)):
            ranges.discard(first, end)
        return ranges

    def _owed_in(self, number: int, first: int, end: int) -> RangeSet:
        """What of a range is not settled; costs what is settled within it, however much there is elsewhere."""
        (low,) = self._execute("SELECT low FROM epochs WHERE number = ?", (number,)).fetchone()
        ranges = RangeSet([(max(low, first), end)] if max(low, first) < end else [])
        for settled in self._execute(
            "SELECT first, end FROM settled WHERE number = ?1 AND first < ?3 AND first >= coalesce("
            "(SELECT max(first) FROM settled WHERE number = ?1 AND first <= ?2), 0)",
            (number, first, end),
        ):
            ranges.discard(*settled)
        return ranges

    def held(self, row: EpochRow) -> RangeSet:
        """What its atoms hold: reads every atom's key, so for starts only."""
        held = RangeSet()
        for slot in SLOTS:
            held.update(
                (first_of(atom_id), first_of(atom_id) + count)
                for atom_id, count in self._execute(
                    "SELECT id, count FROM atoms WHERE id >= ? AND id < ? ORDER BY id",
                    (key(row.number, slot, 0), key(row.number, slot, SEQ_END)),
                )
            )
        return held

    def oldest(self) -> tuple[int, int] | None:
        """Epoch number and first stamp (microseconds) of the oldest atom that is owed."""
        for number, low in self._execute("SELECT number, low FROM epochs WHERE atoms > 0 ORDER BY number LIMIT 1"):
            firsts = [
                self._execute(
                    "SELECT span_first_us FROM atoms WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                    (key(number, slot, low), key(number, slot, SEQ_END)),
                ).fetchone()
                for slot in SLOTS
            ]
            return number, min((row[0] for row in firsts if row is not None), default=0)
        return None

    def owed(self, slot: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Atoms of a slot that the cloud does not have, oldest first: id, epoch, count, span."""
        for row in self.epochs():
            # What is settled leaves no atom but as history, and can be in many pieces.
            whole = [(row.low, row.next_seq)] if row.atoms else []
            for first, end in self.unsettled(row) if row.kept_atoms else whole:
                yield from self._execute(
                    "SELECT id, epoch, count, span_first_us, span_last_us FROM atoms WHERE id >= ? AND id < ? "
                    "ORDER BY id",
                    (key(row.number, slot, first), key(row.number, slot, end)),
                )

    def atoms_from(self, row: EpochRow, first: int) -> list[NewAtom]:
        """Atoms of an epoch that are owed and begin at `first` or later, in Seq order."""
        owed = self.unsettled(row)
        atoms = [
            NewAtom(
                read_header(data).priority, first_of(atom_id), count, (span_first, span_last), data, slot == ROLLUP_SLOT
            )
            for slot in SLOTS
            for atom_id, count, span_first, span_last, data in self._execute(
                "SELECT id, count, span_first_us, span_last_us, data FROM atoms WHERE id >= ? AND id < ?",
                (key(row.number, slot, first), key(row.number, slot, SEQ_END)),
            )
            if owed.overlaps(first_of(atom_id), first_of(atom_id) + count)
        ]
        return sorted(atoms, key=lambda atom: atom.first)

    def set_aside(self, atom_id: int, reason: str) -> None:
        """Keep a refused atom's bytes for people, take it off the queue, leave a tombstone."""
        row = self._execute(
            "SELECT epoch, count, span_first_us, span_last_us, data FROM atoms WHERE id = ?", (atom_id,)
        ).fetchone()
        if row is None:
            return
        epoch, count, span_first, span_last, data = row
        first = first_of(atom_id)
        self._execute(
            "INSERT INTO aside (epoch, first, count, reason, data) VALUES (?, ?, ?, ?, ?)",
            (epoch, first, count, reason, data),
        )
        self._execute("DELETE FROM aside WHERE id <= (SELECT max(id) FROM aside) - ?", (ASIDE_MAX,))
        self.remove(number_of(atom_id), [(first, first + count)])
        stone = Tombstone(epoch, first, first + count, LossReason.CORRUPT, count, span_first, span_last)
        self.add_tombstone(stone, instead_of=LossReason.THINNED if slot_of(atom_id) == ROLLUP_SLOT else None)

    # what is gone

    def add_tombstone(self, stone: Tombstone, *, instead_of: LossReason | None = None) -> None:
        """Record a loss and count it. The same key again adds to its count.

        `instead_of`: these readings were counted as lost before, and for this reason.
        """
        self._execute(
            "INSERT INTO tombstones (epoch, first, end, reason, count, span_first_us, span_last_us) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (stone.epoch, stone.first, stone.end, int(stone.reason), stone.count, stone.span_first_us,
             stone.span_last_us),
        )  # fmt: skip
        self._execute(
            "INSERT INTO losses VALUES (?1, ?2) ON CONFLICT (reason) DO UPDATE SET count = count + ?2",
            (int(stone.reason), stone.count),
        )
        if instead_of is not None:
            self._execute("UPDATE losses SET count = count - ? WHERE reason = ?", (stone.count, int(instead_of)))

    def forget_tombstones(self, keys: Iterable[tuple[int, int, int, int]]) -> None:
        """The cloud has them."""
        self.database.connection.executemany(
            "DELETE FROM tombstones WHERE epoch = ? AND first = ? AND end = ? AND reason = ?", keys
        )

    def losses(self) -> dict[LossReason, int]:
        """Cells lost since the outbox was made, by reason."""
        return {LossReason(reason): count for reason, count in self._execute("SELECT reason, count FROM losses")}

    def alarms_lost(self) -> int:
        """Changes of alarms that went, unacknowledged, since the outbox was made: more than `ALARMS_MAX` waited."""
        return int(self.meta("alarms_lost") or 0)

    # series

    def put_series_set(self, series_set: SeriesSet) -> None:
        """Keep a definition; it is never taken away."""
        self._execute("INSERT OR IGNORE INTO series_sets VALUES (?, ?)", (series_set.id, set_text(series_set)))

    def series_sets(self) -> dict[int, SeriesSet]:
        """Every definition, by content hash. Raises OutboxCorrupt."""
        rows = self._execute("SELECT id, definition FROM series_sets").fetchall()
        return {set_id: proven_set(set_id, definition) for set_id, definition in rows}

    def count_kept(self, number: int, atoms: int, size: int) -> None:
        """So many atoms and bytes more are history."""
        self._execute(
            "UPDATE epochs SET kept_atoms = kept_atoms + ?, kept_bytes = kept_bytes + ? WHERE number = ?",
            (atoms, size, number),
        )

    def count(self, number: int, slot: int, atoms: int, cells: int, size: int) -> None:
        """So many atoms, cells and bytes more are owed to the cloud."""
        thinned = slot == ROLLUP_SLOT
        self._execute(
            "UPDATE epochs SET atoms = atoms + ?, cells = cells + ?, bytes = bytes + ?, "
            "rollup_bytes = rollup_bytes + ? WHERE number = ?",
            (atoms, 0 if thinned else cells, size, size if thinned else 0, number),
        )

    def _settle(self, number: int, first: int, end: int) -> None:
        """One range, joined with the rows it touches and with what lies below `low`."""
        touching = self._execute(
            "SELECT first, end FROM settled WHERE number = ?1 AND first <= ?3 AND end >= ?2 AND first >= coalesce("
            "(SELECT max(first) FROM settled WHERE number = ?1 AND first <= ?2), 0) ORDER BY first",
            (number, first, end),
        ).fetchall()
        if touching:
            first, end = min(first, touching[0][0]), max(end, touching[-1][1])
            self._execute("DELETE FROM settled WHERE number = ? AND first BETWEEN ? AND ?", (number, first, end))
        raised = self._execute(
            "UPDATE epochs SET low = max(low, ?) WHERE number = ? AND low >= ?", (end, number, first)
        )
        if not raised.rowcount:
            self._execute("INSERT INTO settled VALUES (?, ?, ?)", (number, first, end))
