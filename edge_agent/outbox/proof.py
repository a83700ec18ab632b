"""Does a row prove itself? An atom's CRC must hold, and it must name the same Seq, count and slot as its key.

A tombstone has no CRC; its epoch must not be a bit away from one that is here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from edge_agent.outbox.keys import ROLLUP_SLOT, first_of, slot_of
from wire.codec import read_header
from wire.errors import WireError
from wire.reading import Kind


def fault_of(atom_id: int, count: int, data: bytes) -> str:
    """What is wrong with the atom under this key; "" for nothing. Columns are not decoded."""
    try:
        header = read_header(data)
    except WireError as error:
        return str(error)
    slot = int(header.priority) if header.kind is Kind.RAW else ROLLUP_SLOT
    found = [(atom.first, atom.count, slot) for atom in header.atoms]
    named = (first_of(atom_id), count, slot_of(atom_id))
    if found != [named]:
        return f"its key says Seq, count, class {named}, its bytes {found[:3]}"
    return ""


def stray_tombstones(connection: sqlite3.Connection, epochs: Collection[int]) -> list[tuple[int, int]]:
    """Tombstones (their ids) of no epoch that is here, and the epoch whose id differs in one bit of 63.

    Ids are random: that two of one outbox are so near happens once in 10^17. The table is read, not its index, which
    has a copy of the epoch.
    """
    rows = connection.execute("SELECT id, epoch FROM tombstones NOT INDEXED").fetchall()
    return [
        (number, each)
        for number, epoch in rows
        if epoch not in epochs
        for each in epochs
        if (each ^ epoch).bit_count() == 1
    ]
