"""What can be read of a damaged outbox goes into a fresh one; the damaged file is kept beside it.

Small tables are read by SQL as far as it gets, and what makes no sense in them is mended where a copy tells how. Atoms
are found without SQL: their table pages are read one by one, and an atom is believed when its own CRC holds. A deleted
atom found again is harmless: the cloud has it and says so.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain
from operator import eq
from pathlib import Path
from typing import Any

from edge_agent.errors import OutboxCorrupt
from edge_agent.outbox.carve import FILE_HEAD, Row, carve
from edge_agent.outbox.columns import COLUMNS
from edge_agent.outbox.database import DAMAGED, HEAD, PAGE_BYTES, SUSPECT, Database
from edge_agent.outbox.keys import ROLLUP_SLOT, number_of, slot_of
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.proof import UNIQUE, is_near, mended, named_by, stray_tombstones
from edge_agent.outbox.rows import EpochRow, NewAtom
from edge_agent.outbox.texts import proven_set
from wire.codec import read_header
from wire.ranges import RangeSet

log = logging.getLogger(__name__)

PAGE_COUNT = slice(28, 32)  # SQLite file format 1.3.8
HEAD_CONSTANTS = {0: HEAD, 44: (4).to_bytes(4, "big"), 56: (1).to_bytes(4, "big")}  # schema format, UTF-8
HEAD_DAMAGE_MAX = 2  # bytes of a head that is ours; else it is another file, and stays what it is
EPOCHS_WIDTH_MIN = 12  # columns of the first version's table
ALONE = ("series_sets", "tombstones", "losses", "aside", "alarms", "state")  # facts by themselves; the rest must agree
COPIED = ("meta", "settled", *ALONE)


def salvage(path: Path, options: OutboxOptions, cause: str) -> None:
    """Replace the damaged outbox at `path`. A crash at any point is made good by `finish` or a new try."""
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, fresh.with_name(fresh.name + "-wal"), fresh.with_name(fresh.name + "-shm")):
        leftover.unlink(missing_ok=True)
    _open_head(path, options.bytes_max)
    database = Database(fresh, options)
    with closing(database.connection) as target, closing(sqlite3.connect(path)) as source:
        whole = _has_schema(source)
        source.text_factory = lambda text: text.decode("utf-8", "replace")  # one bad row must not hide those after it
        with database.transaction():
            epochs = _epochs(source, path) if whole else {}
            _copy_tables(source, target, COPIED if epochs else ALONE)
            present = {row[0] for row in _read(source, "SELECT id FROM atoms", 1)}
            kept = _copy_atoms(path, Outbox(database), epochs, present)
            _adopt_tombstones(target, {known.epoch for known in epochs.values()})
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    fresh.with_name(fresh.name + "-wal").unlink(missing_ok=True)
    os.replace(fresh, path.with_name(path.name + ".salvaged"))
    finish(path)
    log.error("%s: damaged (%s); %d atoms saved, the damaged file is kept as %s", path, cause, kept, _aside(path).name)


def finish(path: Path) -> None:
    """Put a complete salvaged file in the place of the damaged one, wherever a crash stopped that."""
    salvaged = path.with_name(path.name + ".salvaged")
    if not salvaged.exists():
        return
    aside = _aside(path)
    if path.exists():
        aside.with_name(aside.name + "-wal").unlink(missing_ok=True)
        os.replace(path, aside)
    wal = path.with_name(path.name + "-wal")
    if wal.exists():
        os.replace(wal, aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    path.with_name(SUSPECT).unlink(missing_ok=True)
    os.replace(salvaged, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _aside(path: Path) -> Path:
    """Only the latest damaged file is kept: evidence for people, and bounded."""
    return path.with_name(path.name + DAMAGED)


def _open_head(path: Path, bytes_max: int) -> None:
    """Give a truncated file its length back, and a damaged head what it always holds: SQLite reads nothing at all of a
    file that is shorter than its head says, or of a format that it does not know.

    An empty one gets a page: SQLite deletes the WAL beside a file without any.
    """
    with path.open("r+b") as file:
        head = file.read(FILE_HEAD)
        size = int.from_bytes(head[PAGE_COUNT], "big") * PAGE_BYTES or PAGE_BYTES
        if path.stat().st_size < size <= 2 * bytes_max:
            file.truncate(size)
        if sum(map(eq, head, HEAD)) >= len(HEAD) - HEAD_DAMAGE_MAX:
            for at, always in HEAD_CONSTANTS.items():
                file.seek(at)
                file.write(always)


def _has_schema(source: sqlite3.Connection) -> bool:
    """Are all definitions readable? If not, the tables of those that are can be read from now on."""
    try:
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (sqlite3.Error, UnicodeError):
        source.execute("PRAGMA writable_schema = ON")
        return False
    return True


def _copy_tables(source: sqlite3.Connection, target: sqlite3.Connection, tables: Iterable[str]) -> None:
    """Rows of small tables, each as far as it can be read; of definitions, those that prove themselves."""
    for table in tables:
        indexed = dict(_indexed(source, table)) if table in UNIQUE else {}
        for row in _rows(source, table):
            unique = indexed.pop(row[0], None)
            if table == "series_sets" and not _is_proven(*row):
                continue  # the configuration's are made anew, and the cloud has those that it was sent
            _put(target, table, row, mended(table, row, unique))
        if table == "tombstones":  # of those that are gone from the table the index still has what matters
            for number, (epoch, first, end, reason) in indexed.items():
                row = (number, epoch, first, end, reason, end - first, -1, -1)
                _put(target, table, row, mended(table, row, None))


def _put(target: sqlite3.Connection, table: str, row: tuple[Any, ...], believed: tuple[Any, ...] | None) -> None:
    marks = ", ".join("?" * len(row))
    with suppress(sqlite3.IntegrityError):  # text where a number must be
        if believed is not None:
            target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", believed)  # noqa: S608 - our own names
            return
    log.error("the damaged outbox: a row of table %s makes no sense: %s", table, row)


def _indexed(source: sqlite3.Connection, table: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """By row, what the index of a table has of it."""
    columns = COLUMNS[table].split()[UNIQUE[table]]
    query = f"SELECT rowid, {', '.join(columns)} FROM {table} INDEXED BY sqlite_autoindex_{table}_1"  # noqa: S608
    for number, *unique in _read(source, query, 1 + len(columns)):
        if all(isinstance(each, int) for each in unique):
            yield number, tuple(unique)


def _adopt_tombstones(target: sqlite3.Connection, epochs: set[int]) -> None:
    """Those whose epoch lost a bit, for the epoch that they were of."""
    for number, epoch in stray_tombstones(target, epochs):
        target.execute("UPDATE OR REPLACE tombstones SET epoch = ? WHERE id = ?", (epoch, number))


def _is_proven(set_id: int, definition: str) -> bool:
    try:
        proven_set(set_id, definition)
    except OutboxCorrupt:
        return False
    return True


def _epochs(source: sqlite3.Connection, path: Path) -> dict[int, EpochRow]:
    """The epochs' rows, with what was counted."""
    named = Counter(row.epoch for row in carve(path))
    for table, column in (("tombstones", 1), ("alarms", 1), ("epochs", 2)):  # where another epoch's id stands
        named.update(row[column] for row in _rows(source, table) if isinstance(row[column], int))
    found = {}
    for row in _rows(source, "epochs"):
        believed = mended("epochs", row, None)
        if believed is not None:
            known = EpochRow(*believed)
            found[known.number] = replace(known, epoch=_most_named(known.epoch, named))
    return found


def _most_named(epoch: int, named: Counter[int]) -> int:
    """An epoch's id, as most of what is of this epoch has it: its own row may have lost a bit."""
    near = {each: times for each, times in named.items() if is_near(each, epoch)}
    near[epoch] = near.get(epoch, 0) + 1
    return max(near, key=lambda each: (near[each], each == epoch))


def _rows(source: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """All of a table, whatever its columns are called: a name that is damaged can't be told."""
    width = len(COLUMNS[table].split())
    for row in _read(source, f"SELECT * FROM {table}", _width(source, table)):  # noqa: S608 - our own names
        if len(row) == width or (table == "epochs" and len(row) >= EPOCHS_WIDTH_MIN):
            yield row


def _width(source: sqlite3.Connection, table: str) -> int:
    try:
        return len(source.execute(f"PRAGMA table_info({table})").fetchall())
    except sqlite3.Error:
        return 0


def _read(source: sqlite3.Connection, query: str, width: int) -> Iterator[tuple[Any, ...]]:
    """The rows of a query of so many columns, as far as they can be read."""
    names = ", ".join(f"c{at}" for at in range(width))
    try:
        yield from source.execute(f"WITH found({names}) AS ({query}) SELECT * FROM found")  # noqa: S608 - our own names
    except sqlite3.Error as error:
        log.error("the damaged outbox: %s cannot be read to its end (%s)", query, error)


def _copy_atoms(path: Path, outbox: Outbox, epochs: dict[int, EpochRow], present: set[int]) -> int:
    """Every atom that proves itself, into its epoch; an epoch whose row is lost is made from its atoms.

    present: keys of those that are in the table, and not only in pages that were freed. Where there is no history
    they are owed, whatever is said to be settled.
    """
    for known in epochs.values():
        outbox.put_epoch(replace(known, atoms=0, cells=0, bytes=0, kept_atoms=0, kept_bytes=0, rollup_bytes=0))
    outbox.database.connection.execute("DELETE FROM settled WHERE number NOT IN (SELECT number FROM epochs)")
    answered = {known.number: outbox.unsettled(known) for known in epochs.values()}
    held: dict[int, RangeSet] = {}
    owed: dict[int, RangeSet] = {}  # beside what the epochs' rows say: a bit of what is settled flipped
    kept = 0
    for row in chain(_of_kind(path, thinned=True), _of_kind(path, thinned=False)):
        atom, number = _believed(row), _number(row, epochs)
        if atom is None or number is None or held.setdefault(number, RangeSet()).overlaps(atom.first, atom.end):
            continue
        epoch = epochs.get(number)
        if epoch is None:
            epoch = epochs[number] = EpochRow(number, row.epoch, 0, None, 0, 0, 0, 0, 0, 0, 0.0, None)
            outbox.put_epoch(epoch)
        elif number in answered and atom.first < epoch.next_seq:
            is_owed = answered[number].overlaps(atom.first, atom.end) or (row.id in present and not epoch.kept_atoms)
            if not is_owed:
                continue
        held[number].add(atom.first, atom.end)
        outbox.add_atom(epoch, atom)
        kept += 1
        if number in answered and not answered[number].contains(atom.first, min(atom.end, epoch.next_seq)):
            owed.setdefault(number, RangeSet()).add(atom.first, atom.end)
    for number, ranges in held.items():
        if number in answered:
            outbox.reach(number, ranges.end, None)
        else:
            given_up = _given_up(outbox, epochs[number].epoch)
            outbox.reach(number, max(ranges.end, given_up.end), next(iter(ranges))[0])
            outbox.settle(number, given_up - ranges)
    for number, ranges in owed.items():
        outbox.unsettle(number, ranges)
    return kept


def _given_up(outbox: Outbox, epoch: int) -> RangeSet:
    """What tombstones say of an epoch whose row is lost: numbers that were given. A stray bit shows by the count."""
    rows = outbox.database.connection.execute("SELECT first, end, count FROM tombstones WHERE epoch = ?", (epoch,))
    return RangeSet((first, end) for first, end, count in rows if 0 <= first < end == first + count)


def _of_kind(path: Path, *, thinned: bool) -> Iterator[Row]:
    """Roll-ups come first: pages that were freed still hold some of the readings that they stand for."""
    return (row for row in carve(path) if (slot_of(row.id) == ROLLUP_SLOT) is thinned)


def _believed(row: Row) -> NewAtom | None:
    """The atom, if its bytes are whole. What its key says they say better."""
    told = named_by(row.data)
    if told is None:
        return None
    first, count, slot = told
    priority = read_header(row.data).priority
    return NewAtom(priority, first, count, (row.span_first_us, row.span_last_us), row.data, slot == ROLLUP_SLOT)


def _number(row: Row, epochs: dict[int, EpochRow]) -> int | None:
    """Of the atom's epoch, by its key or by the epoch's id, whichever is whole; None for a stale row of another."""
    number = number_of(row.id)
    if number in epochs and is_near(row.epoch, epochs[number].epoch):
        return number
    same = [each for each, known in epochs.items() if known.epoch == row.epoch]
    return same[0] if same else None if number in epochs else number
