"""What a start looks at before it believes a file that SQLite finds whole: a bit that flipped within a row."""

from __future__ import annotations

import sqlite3
from collections import Counter

from edge_agent.outbox.keys import ROLLUP_SLOT, first_of, number_of, slot_of
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.proof import INTEGERS, is_sound, stray_tombstones
from wire.ranges import RangeSet


def fault_of_tables(connection: sqlite3.Connection) -> str:
    """What is wrong in a small table; "" for nothing. A row that no writer wrote would stop whoever reads it, and a
    tombstone whose epoch lost a bit would wait for ever."""
    for table in INTEGERS:
        for row in connection.execute(f"SELECT * FROM {table} NOT INDEXED"):  # noqa: S608 - our own names
            if not is_sound(table, row):
                return f"a row of table {table} makes no sense: {row}"
    epochs = dict(connection.execute("SELECT number, epoch FROM epochs").fetchall())
    for number, strays in connection.execute("SELECT number, count(*) FROM settled GROUP BY number"):
        if number not in epochs:
            return f"{strays} settled ranges are of epoch number {number}, which never was"
    for stray, _ in stray_tombstones(connection, set(epochs.values())):
        return f"tombstone {stray} is of an epoch that never was"
    return ""


def fault_of_atoms(outbox: Outbox) -> str:
    """What is wrong in atoms' rows, in what is settled or in an epoch's counts; "" for nothing.

    Reads every row, and not the atoms themselves: one that is damaged is set aside when its turn comes.
    """
    epochs = {row.number: (row, outbox.unsettled(row), RangeSet()) for row in outbox.epochs()}
    found: Counter[tuple[int, str]] = Counter()
    for atom_id, epoch, count, size in outbox.database.connection.execute(
        "SELECT id, epoch, count, length(data) FROM atoms"
    ):
        number, first, end = number_of(atom_id), first_of(atom_id), first_of(atom_id) + count
        if number not in epochs or epochs[number][0].epoch != epoch:
            return f"atom {atom_id} is of epoch {epoch:016x}, its number says another"
        _, owed, held = epochs[number]
        if count <= 0 or held.overlaps(first, end):
            return f"atom {atom_id} of {count} readings lies over another"
        held.add(first, end)
        kept = "" if owed.contains(first, end) else "kept_"
        if kept and owed.overlaps(first, end):
            return f"atom {atom_id} is settled in part"
        found[number, kept + "atoms"] += 1
        found[number, kept + "bytes"] += size
        if not kept and slot_of(atom_id) != ROLLUP_SLOT:
            found[number, "cells"] += count
    for number, (row, *_) in epochs.items():
        for counted in ("atoms", "bytes", "cells", "kept_atoms", "kept_bytes"):
            if getattr(row, counted) != found[number, counted]:
                return f"epoch number {number} has {found[number, counted]} {counted}, its row says otherwise"
    return ""
