"""What the outbox holds, for people: read in pages that fit an answer of the control socket, and never written.

A running agent reads from a connection of its own. Where none runs, `edge-agent buffer` reads the file itself.
"""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from edge_agent.errors import OutboxCorrupt, StateUnusable
from edge_agent.outbox.database import APPLICATION_ID, DAMAGED, VERSION, connect, translated
from edge_agent.outbox.keys import ROLLUP_SLOT, SEQ_END, SLOTS, first_of, key, number_of
from edge_agent.outbox.rows import EpochRow
from edge_agent.outbox.texts import anchor_of
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority

PAGE_BYTES_MAX = 256 << 10  # of data in one answer: some 350 kB of text, a few milliseconds of the agent's time
PAGE_ATOMS_MAX = 2000
NAMED_MAX = 100  # epochs and tombstones named one by one; the sums count all
CLASSES_ATOMS_MAX = 20_000  # above it the classes are not counted: that reads every atom's row


class BufferFile:
    """See the module. Every call may raise OutboxCorrupt, StateBusy or StateUnusable."""

    def __init__(self, path: Path) -> None:
        """In the process that has the file, or where none has.

        Raises:
            StateUnusable: there is none, it cannot be read, or another version wrote it.
        """
        self.path = path
        if not path.exists():
            raise StateUnusable(f"{path}: there is no outbox. Has the agent ever run with this configuration?")
        try:
            self._connection = connect(path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translated(error, path) from error
        try:
            self._all("PRAGMA query_only = ON")
            self._check()
        except BaseException:
            self.close()
            raise

    def overview(self) -> dict[str, Any]:
        """Everything but the atoms. Epoch ids are 16 hex digits, stamps microseconds of their epoch's boottime."""
        epochs = [EpochRow(*row) for row in self._all("SELECT * FROM epochs ORDER BY number DESC")]
        stones = self._all(
            "SELECT epoch, first, end, reason, count FROM tombstones ORDER BY id DESC LIMIT ?", NAMED_MAX
        )
        names = (self.path.name, self.path.name + "-wal", "outbox.reserve", self.path.name + DAMAGED)
        return {
            "path": str(self.path),
            "files": {name: _size(self.path.with_name(name)) for name in names},
            "waiting": {name: sum(getattr(row, name) for row in epochs) for name in ("atoms", "cells", "bytes")},
            "history": {
                "atoms": sum(row.kept_atoms for row in epochs),
                "bytes": sum(row.kept_bytes for row in epochs),
            },
            "classes": self._classes(sum(row.atoms + row.kept_atoms for row in epochs)),
            "epochs_known": len(epochs),
            "epochs": [self._epoch(row) for row in reversed(epochs[:NAMED_MAX])],
            "tombstones_waiting": self._all("SELECT count(*) FROM tombstones")[0][0],
            "tombstones": [
                {"epoch": f"{epoch:016x}", "first": first, "end": end, "reason": _reason(reason), "count": count}
                for epoch, first, end, reason, count in reversed(stones)
            ],
            "losses": {_reason(reason): count for reason, count in self._all("SELECT reason, count FROM losses")},
            "set_aside": self._all("SELECT count(*) FROM aside")[0][0],
        }

    def series_sets(self, after: int) -> dict[str, Any]:
        """Definitions with an id over `after`, as many as fit a page: [id, text of `texts.set_of`]."""
        return self._page("sets", "SELECT id, definition FROM series_sets WHERE id > ? ORDER BY id", after)

    def atoms(self, after: int) -> dict[str, Any]:
        """Atoms with a key over `after`, as many as fit a page: [key, owed or not, count, base64 of the segment].

        Together they are every atom that is there from the first page to the last.
        """
        page = self._page("atoms", "SELECT id, count, data FROM atoms WHERE id > ? ORDER BY id", after)
        numbers = {number_of(row[0]) for row in page["atoms"]}
        owed = {number: self._unsettled(number) for number in numbers}
        page["atoms"] = [
            [atom_id, owed[number_of(atom_id)].overlaps(first_of(atom_id), first_of(atom_id) + 1), count, data]
            for atom_id, count, data in page["atoms"]
        ]
        return page

    def damage(self) -> str:
        """What SQLite finds wrong with pages and indexes; "" for nothing. Reads the whole file."""
        found = str(self._all("PRAGMA integrity_check(1)")[0][0])
        return "" if found == "ok" else found

    def missing(self) -> list[tuple[int, RangeSet]]:
        """By epoch, what is owed to the cloud and in no atom. Reads every atom's row."""
        found = []
        for number, epoch in self._all("SELECT number, epoch FROM epochs ORDER BY number"):
            held = RangeSet(
                (first_of(atom_id), first_of(atom_id) + count)
                for atom_id, count in self._all(
                    "SELECT id, count FROM atoms WHERE id >= ? AND id < ?", key(number, 0, 0), key(number + 1, 0, 0)
                )
            )
            holes = self._unsettled(number) - held
            if holes:
                found.append((epoch, holes))
        return found

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _check(self) -> None:
        application, version = (self._all(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version"))
        if application != APPLICATION_ID:
            raise OutboxCorrupt(f"{self.path}: application id {application:#x}, expected {APPLICATION_ID:#x}")
        if version != VERSION:
            raise StateUnusable(
                f"{self.path}: schema version {version}, this program reads {VERSION}. "
                "Try: start the edge-agent that wrote it, or the newer one"
            )

    def _classes(self, atoms: int) -> dict[str, dict[str, int]] | None:
        """What is owed, by class."""
        if atoms > CLASSES_ATOMS_MAX:
            return None
        rows = self._all("SELECT priority, sum(atoms), sum(cells), sum(bytes) FROM backlog GROUP BY priority")
        return {
            _slot_name(priority): {"atoms": atoms, "cells": cells, "bytes": size}
            for priority, atoms, cells, size in rows
        }

    def _epoch(self, row: EpochRow) -> dict[str, Any]:
        anchor = anchor_of(row.anchor)
        return {
            "number": row.number,
            "epoch": f"{row.epoch:016x}",
            "next_seq": row.next_seq,
            "waiting": {"atoms": row.atoms, "cells": row.cells, "bytes": row.bytes},
            "history": {"atoms": row.kept_atoms, "bytes": row.kept_bytes},
            "oldest_us": self._oldest(row),
            "offset_us": anchor.offset_us if anchor is not None else None,
            "synchronised": anchor is not None and anchor.synchronised,
        }

    def _oldest(self, row: EpochRow) -> int | None:
        """The first stamp of what is owed."""
        if not row.atoms:
            return None
        firsts = [
            first
            for slot in SLOTS
            for (first,) in self._all(
                "SELECT span_first_us FROM atoms WHERE id >= ? AND id < ? ORDER BY id LIMIT 1",
                key(row.number, slot, row.low),
                key(row.number, slot, SEQ_END),
            )
        ]
        return min(firsts, default=None)

    def _unsettled(self, number: int) -> RangeSet:
        ranges = RangeSet(
            (low, end)
            for low, end in self._all("SELECT low, next_seq FROM epochs WHERE number = ?", number)
            if low < end
        )
        for first, end in self._all("SELECT first, end FROM settled WHERE number = ?", number):
            ranges.discard(first, end)
        return ranges

    def _page(self, name: str, statement: str, after: int) -> dict[str, Any]:
        """Rows until PAGE_BYTES_MAX is passed, bytes as base64. `after`: for the next page; null at the end."""
        rows: list[list[Any]] = []
        size = 0
        try:
            with closing(self._connection.execute(statement, (after,))) as cursor:
                for row in islice(cursor, PAGE_ATOMS_MAX):
                    rows.append([base64.b64encode(each).decode() if isinstance(each, bytes) else each for each in row])
                    size += len(row[-1])
                    if size > PAGE_BYTES_MAX:
                        break
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        return {name: rows, "after": rows[-1][0] if rows else None}

    def _all(self, statement: str, *values: int) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise translated(error, self.path) from error


def _slot_name(slot: int) -> str:
    return "rollup" if slot == ROLLUP_SLOT else Priority(slot).name.lower()


def _reason(number: int) -> str:
    return LossReason(number).name.lower() if number in LossReason._value2member_map_ else f"reason_{number}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def names_of(ranges: Iterable[tuple[int, int]]) -> str:
    """`0..10, 20..25`, the first few."""
    found = list(ranges)
    return ", ".join(f"{first}..{end}" for first, end in found[:5]) + (", …" if len(found) > 5 else "")
