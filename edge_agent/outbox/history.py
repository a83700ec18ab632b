"""Atoms that stay here after the cloud has acknowledged them, by a budget and an age of their own.

They cost no flash: what an ack would have deleted at once is deleted later. Age is boottime only, so a clock that steps
deletes nothing: an atom of an earlier boot is as old as this boot.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import chain, islice

from edge_agent.outbox.keys import SLOTS, first_of, key, slot_of
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.rows import EpochRow
from wire.ranges import RangeSet

_Row = tuple[int, int, int]  # id, bytes, last stamp


def trim(outbox: Outbox, bytes_max: int, born_us: float, limit: int) -> int:
    """Delete what is over so many bytes, or was read before `born_us` (boottime), oldest first, at most `limit` atoms.

    Returns how many went.
    """
    over = outbox.totals().kept_bytes - bytes_max
    current = outbox.current().number
    gone = 0
    for row in _with_history(outbox):
        rows: list[_Row] = []
        for found in islice(_kept(outbox, row), limit - gone):
            last_us = found[2] if row.number == current else 0
            if over <= 0 and last_us >= born_us:
                break
            rows.append(found)
            over -= found[1]
        _delete(outbox, row, rows)
        gone += len(rows)
    return gone


def drop(outbox: Outbox, limit: int) -> int:
    """Delete the oldest atoms of the history, whatever its budget, at most `limit`. Returns how many went."""
    gone = 0
    for row in _with_history(outbox):
        rows = list(islice(_kept(outbox, row), limit - gone))
        _delete(outbox, row, rows)
        gone += len(rows)
    return gone


def reopen(outbox: Outbox, number: int, ranges: RangeSet) -> RangeSet:
    """Owe to the cloud again what it has lost and the history still has. Returns those ranges."""
    row = outbox.epoch(number)
    if not row.kept_atoms:
        return RangeSet()
    found = [
        (atom_id, first_of(atom_id), first_of(atom_id) + count, size)
        for first, end in ranges - outbox.unsettled(row)
        for slot in SLOTS
        for atom_id, count, size in outbox.database.connection.execute(
            "SELECT id, count, length(data) FROM atoms WHERE id >= ? AND id < ? AND id + count <= ?",
            (key(number, slot, first), *[key(number, slot, end)] * 2),
        )
    ]
    owed = RangeSet((first, end) for _, first, end, _ in found)
    if owed:
        outbox.unsettle(number, owed)
        for atom_id, first, end, size in found:
            outbox.count(number, slot_of(atom_id), 1, end - first, size)
        outbox.count_kept(number, -len(found), -sum(size for *_, size in found))
    return owed


def _with_history(outbox: Outbox) -> list[EpochRow]:
    return [row for row in outbox.epochs() if row.kept_atoms]


def _kept(outbox: Outbox, row: EpochRow) -> Iterator[_Row]:
    """Atoms of an epoch that are settled, by Seq."""
    execute = outbox.database.connection.execute
    settled = execute("SELECT first, end FROM settled WHERE number = ? ORDER BY first", (row.number,))
    for first, end in chain([(0, row.low)], settled):
        cursors = [
            execute(
                "SELECT id, length(data), span_last_us FROM atoms WHERE id >= ? AND id < ? ORDER BY id",
                (key(row.number, slot, first), key(row.number, slot, end)),
            )
            for slot in SLOTS
        ]
        yield from merge(*cursors, key=lambda found: first_of(found[0]))


def _delete(outbox: Outbox, row: EpochRow, rows: list[_Row]) -> None:
    if rows:
        outbox.database.connection.executemany("DELETE FROM atoms WHERE id = ?", [(found[0],) for found in rows])
        outbox.count_kept(row.number, -len(rows), -sum(found[1] for found in rows))
