"""Does a row prove itself? An atom's CRC must hold, and it must name the same Seq, count and slot as its key.

Rows of small tables have no CRC. What none of them could have held as written shows that a bit is not as it was; what
is unique in a row stands in an index too, and of the two the one that makes sense is believed.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple
from typing import Any

from edge_agent.outbox.keys import ROLLUP_SLOT, first_of, slot_of
from edge_agent.outbox.texts import anchor_of
from wire.alarm import Phase, Severity
from wire.codec import read_header
from wire.errors import WireError
from wire.reading import Kind, LossReason
from wire.segment import Header

INTEGERS = {  # of the tables that `is_sound` knows, the columns that hold an integer in every row
    "meta": (),
    "epochs": (0, 1, 2, *range(4, 10)),
    "settled": range(3),
    "tombstones": range(8),
    "losses": range(2),
    "alarms": (*range(6), 15),
}
UNIQUE = {"tombstones": slice(1, 5), "alarms": slice(2, 5)}  # the columns that stand in an index too
_RATE, _ANCHOR, _REASON, _SEVERITY = 10, 11, 4, 15  # columns of epochs (two), tombstones and alarms
_META_INTEGERS = ("outbox", "generation", "clean")
_NUMBERS = slice(8, 14)  # an alarm's score, threshold, value, expected, low, high; the first two are always told
_TOLD = 2
_REASONS, _PHASES, _SEVERITIES = (frozenset(map(int, each)) for each in (LossReason, Phase, Severity))


def fault_of(atom_id: int, count: int, data: bytes) -> str:
    """What is wrong with the atom under this key; "" for nothing. Columns are not decoded."""
    try:
        found = _names(read_header(data))
    except WireError as error:
        return str(error)
    named = (first_of(atom_id), count, slot_of(atom_id))
    if found != [named]:
        return f"its key says Seq, count, class {named}, its bytes {found[:3]}"
    return ""


def named_by(data: bytes) -> tuple[int, int, int] | None:
    """First Seq, count and slot of the one atom that these bytes are; None when they are damaged."""
    try:
        (named,) = _names(read_header(data))
    except (WireError, ValueError):
        return None
    return named


def _names(header: Header) -> list[tuple[int, int, int]]:
    slot = int(header.priority) if header.kind is Kind.RAW else ROLLUP_SLOT
    return [(atom.first, atom.count, slot) for atom in header.atoms]


def stray_tombstones(connection: sqlite3.Connection, epochs: Collection[int]) -> list[tuple[int, int]]:
    """Tombstones (their ids) of no epoch that is here, and the one that they are near.

    The table is read, not its index, which has a copy of the epoch.
    """
    rows = connection.execute("SELECT id, epoch FROM tombstones NOT INDEXED").fetchall()
    return [(number, each) for number, epoch in rows if epoch not in epochs for each in epochs if is_near(each, epoch)]


def is_sound(table: str, row: Sequence[Any]) -> bool:
    """Could a row have been written as it is? What of a table that is not known here always could."""
    try:
        return all(type(row[at]) is int for at in INTEGERS.get(table, ())) and _is_sound(table, row)
    except (TypeError, ValueError, IndexError):  # no number where one must be, or other columns
        return False


def _is_sound(table: str, row: Sequence[Any]) -> bool:
    match table:
        case "meta":
            key, value = row
            return key not in _META_INTEGERS or type(value) is int
        case "epochs":
            next_seq, low = row[4:6]
            return bool(0 <= low <= next_seq) and 0.0 <= row[_RATE] < math.inf and _is_anchor(row[_ANCHOR])
        case "settled":
            _, first, end = row
            return bool(0 <= first < end)
        case "tombstones":
            _, _, first, end, reason, count, *_ = row
            return bool(0 <= first <= end) and count >= 0 and reason in _REASONS
        case "losses":
            return row[0] in _REASONS
        case "alarms":
            numbers = [number for number in row[_NUMBERS] if number is not None]
            told = all(number is not None for number in row[_NUMBERS][:_TOLD])
            return told and all(map(math.isfinite, numbers)) and row[3] in _PHASES and row[_SEVERITY] in _SEVERITIES
    return True


def mended(table: str, row: tuple[Any, ...], indexed: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """A row of a damaged file as it most likely was; None when it can't be told.

    indexed: what the index has of its UNIQUE columns.
    """
    versions = [row]
    if indexed is not None:
        unique = UNIQUE[table]
        versions.append((*row[: unique.start], *indexed, *row[unique.stop :]))
    if table == "epochs":
        versions.append((*row[:_ANCHOR], None, *row[_ANCHOR + 1 :]))  # its segments have their own
        versions += [(*each[:_RATE], 0.0, *each[_RATE + 1 :]) for each in versions]
    if table == "tombstones":
        versions += [(*each[:_REASON], int(LossReason.CORRUPT), *each[_REASON + 1 :]) for each in versions]
    if table == "alarms":
        versions += [_in_doubt(each) for each in versions]
    sound = [each for each in versions if is_sound(table, each)]
    if table == "tombstones":
        sound.sort(key=_range_differs)
    return sound[0] if sound else None


def is_near(epoch: int, other: int) -> bool:
    """Are two epochs' ids the same, but for one bit? Ids are random: two of one outbox are so once in 10^17."""
    return (epoch ^ other).bit_count() <= 1


def _is_anchor(text: Any) -> bool:
    try:
        anchor = anchor_of(text)
    except (ValueError, TypeError):
        return False
    return anchor is None or (isinstance(text, str) and all(isinstance(each, int) for each in astuple(anchor)))


def _range_differs(tombstone: tuple[Any, ...]) -> bool:
    """A range that was given up is as long as its count."""
    _, _, first, end, _, count, *_ = tombstone
    return bool(end - first != count)


def _in_doubt(alarm: tuple[Any, ...]) -> tuple[Any, ...]:
    """Without the numbers that are none, and critical if nobody knows better."""
    numbers = [each if isinstance(each, float) and math.isfinite(each) else None for each in alarm[_NUMBERS]]
    numbers[:_TOLD] = [number or 0.0 for number in numbers[:_TOLD]]
    severity = alarm[_SEVERITY] if alarm[_SEVERITY] in _SEVERITIES else int(Severity.CRITICAL)
    return (*alarm[: _NUMBERS.start], *numbers, *alarm[_NUMBERS.stop : _SEVERITY], severity)
