"""What can be read of a damaged outbox goes into a fresh one; the damaged file is kept beside it.

Small tables are read by SQL as far as it gets. Atoms are found without SQL: their table pages are read one by one, and
an atom is believed when its own CRC and its place agree with its key. A deleted atom found again is harmless: the cloud
has it and says so.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from edge_agent.errors import OutboxCorrupt
from edge_agent.outbox.carve import FILE_HEAD, Row, carve
from edge_agent.outbox.database import DAMAGED, PAGE_BYTES, SUSPECT, Database
from edge_agent.outbox.keys import ROLLUP_SLOT, first_of, number_of, slot_of
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.proof import fault_of, stray_tombstones
from edge_agent.outbox.rows import EpochRow, NewAtom
from edge_agent.outbox.texts import proven_set
from wire.codec import read_header
from wire.ranges import RangeSet

log = logging.getLogger(__name__)

PAGE_COUNT = slice(28, 32)  # SQLite file format 1.3.8
ALONE = ("series_sets", "tombstones", "losses", "aside", "alarms", "state")  # facts by themselves; the rest must agree
COPIED = ("meta", "settled", *ALONE)


def salvage(path: Path, options: OutboxOptions, cause: str) -> None:
    """Replace the damaged outbox at `path`. A crash at any point is made good by `finish` or a new try."""
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, fresh.with_name(fresh.name + "-wal"), fresh.with_name(fresh.name + "-shm")):
        leftover.unlink(missing_ok=True)
    _pad(path, options.bytes_max)
    database = Database(fresh, options)
    with closing(database.connection) as target, closing(sqlite3.connect(path)) as source:
        whole = _has_schema(source)
        source.text_factory = lambda text: text.decode("utf-8", "replace")  # one bad row must not hide those after it
        with database.transaction():
            epochs = _epochs(source) if whole else {}
            _copy_tables(source, target, COPIED if epochs else ALONE)
            kept = _copy_atoms(path, Outbox(database), epochs)
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


def _pad(path: Path, bytes_max: int) -> None:
    """Give a truncated file its length back: SQLite reads nothing of one shorter than its head says.

    An empty one gets a page: SQLite deletes the WAL beside a file without any.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(FILE_HEAD)[PAGE_COUNT], "big") * PAGE_BYTES or PAGE_BYTES
        if path.stat().st_size < size <= 2 * bytes_max:
            file.truncate(size)


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
        for row in _rows(source, table):
            if table == "series_sets" and not _is_proven(*row):
                continue  # the configuration's are made anew, and the cloud has those that it was sent
            marks = ", ".join("?" * len(row))
            target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608 - our own names


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


def _epochs(source: sqlite3.Connection) -> dict[int, EpochRow]:
    """The epochs' rows with nothing counted yet."""
    rows = (EpochRow(*row) for row in _rows(source, "epochs"))
    return {
        row.number: replace(row, atoms=0, cells=0, bytes=0, kept_atoms=0, kept_bytes=0, rollup_bytes=0) for row in rows
    }


def _rows(source: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from source.execute(f"SELECT * FROM {table}")  # noqa: S608 - our own names
    except (sqlite3.Error, UnicodeError) as error:  # the latter for a damaged column name
        log.error("the damaged outbox: table %s cannot be read to its end (%s)", table, error)


def _copy_atoms(path: Path, outbox: Outbox, epochs: dict[int, EpochRow]) -> int:
    """Every atom that proves itself, into its epoch; an epoch whose row is lost is made from its atoms."""
    for known in epochs.values():
        outbox.put_epoch(known)
    answered = {known.number: outbox.unsettled(known) for known in epochs.values()}
    held: dict[int, RangeSet] = {}
    kept = 0
    for row in chain(_of_kind(path, thinned=True), _of_kind(path, thinned=False)):
        atom = _believed(row)
        number = number_of(row.id)
        if atom is None or held.setdefault(number, RangeSet()).overlaps(atom.first, atom.end):
            continue
        epoch = epochs.get(number)
        if epoch is None:
            epoch = epochs[number] = EpochRow(number, row.epoch, 0, None, 0, 0, 0, 0, 0, 0, 0.0, None)
            outbox.put_epoch(epoch)
        elif row.epoch != epoch.epoch or (
            number in answered and atom.first < epoch.next_seq and not answered[number].overlaps(atom.first, atom.end)
        ):
            continue
        held[number].add(atom.first, atom.end)
        outbox.add_atom(epoch, atom)
        kept += 1
    for number, ranges in held.items():
        if number in answered:
            outbox.reach(number, ranges.end, None)
        else:
            given_up = _given_up(outbox, epochs[number].epoch)
            outbox.reach(number, max(ranges.end, given_up.end), next(iter(ranges))[0])
            outbox.settle(number, given_up - ranges)
    return kept


def _given_up(outbox: Outbox, epoch: int) -> RangeSet:
    """What tombstones say of an epoch whose row is lost: numbers that were given. A stray bit shows by the count."""
    rows = outbox.database.connection.execute("SELECT first, end, count FROM tombstones WHERE epoch = ?", (epoch,))
    return RangeSet((first, end) for first, end, count in rows if 0 <= first < end == first + count)


def _of_kind(path: Path, *, thinned: bool) -> Iterator[Row]:
    """Roll-ups come first: pages that were freed still hold some of the readings that they stand for."""
    return (row for row in carve(path) if (slot_of(row.id) == ROLLUP_SLOT) is thinned)


def _believed(row: Row) -> NewAtom | None:
    """The atom, if its bytes are whole and say the same as its key."""
    if fault_of(row.id, row.count, row.data):
        return None
    span = (row.span_first_us, row.span_last_us)
    thinned = slot_of(row.id) == ROLLUP_SLOT
    return NewAtom(read_header(row.data).priority, first_of(row.id), row.count, span, row.data, thinned)
