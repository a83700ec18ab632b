"""Rows of the atoms' table straight from the pages of a damaged file, without the tree above them.

The layout is SQLite's documented file format: a table leaf page (type 13) holds cells of payload length, rowid and
record; what does not fit goes on in a chain of overflow pages. Nothing here is believed; the caller checks each row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.outbox.database import FRAME_BYTES, PAGE_BYTES
from wire.segment import MESSAGE_BYTES_MAX

LEAF, LEAF_HEAD = 13, 8  # file format 1.6: type of a table b-tree leaf, and its head's length
FILE_HEAD = 100  # page 1 begins with the file's header
WAL_HEAD = 32  # file format 4.1
WAL_SALT = slice(16, 24)
FRAME_SALT = slice(8, 16)
COLUMNS = 6
INT_BYTES = (0, 1, 2, 3, 4, 6, 8)  # file format 2.1, serial types 1 to 6
LOCAL_MAX = PAGE_BYTES - 35  # file format 1.6: how much of a payload stays in a leaf
LOCAL_MIN = (PAGE_BYTES - 12) * 32 // 255 - 23
PAYLOAD_MAX = MESSAGE_BYTES_MAX + 256


@dataclass(frozen=True, slots=True)
class Row:
    """What stands in one row of `atoms`."""

    id: int
    epoch: int
    count: int
    span_first_us: int
    span_last_us: int
    data: bytes


def carve(path: Path) -> Iterator[Row]:
    """Whatever looks like an atom, in the database as its WAL has it; rows may be stale, doubled or wrong."""
    overlay = _overlay(path.with_name(path.name + "-wal"))
    with path.open("rb") as file:
        pages = max([path.stat().st_size // PAGE_BYTES, *overlay])

        def page(number: int) -> bytes:
            if number in overlay:
                return overlay[number]
            file.seek((number - 1) * PAGE_BYTES)
            return file.read(PAGE_BYTES)

        for number in range(1, pages + 1):
            content = page(number)
            head = FILE_HEAD if number == 1 else 0
            if len(content) == PAGE_BYTES and (content[head] ^ LEAF).bit_count() <= 1:  # its type may have lost a bit
                for at in _cells(content, head):
                    try:
                        row = _row(content, at, page)
                    except (IndexError, ValueError, struct.error, OSError):
                        continue
                    if row is not None:
                        yield row


def _overlay(wal: Path) -> dict[int, bytes]:
    """The newest page images of the WAL's present lap."""
    frames: dict[int, bytes] = {}
    if not wal.exists():
        return frames
    with wal.open("rb") as file:
        salt = file.read(WAL_HEAD)[WAL_SALT]
        while len(frame := file.read(FRAME_BYTES)) == FRAME_BYTES and frame[FRAME_SALT] == salt and any(salt):
            number = int.from_bytes(frame[:4], "big")
            frames[number] = frame[24:]
    return frames


def _cells(page: bytes, head: int) -> list[int]:
    """Where the page's cells may begin: a bit of its count hides none, for pointers end where cells begin."""
    count, begin = struct.unpack_from(">HH", page, head + 3)
    room = (begin - head - LEAF_HEAD) // 2
    pointers = min(max(count, room, 0), (PAGE_BYTES - head - LEAF_HEAD) // 2)
    return list(dict.fromkeys(struct.unpack_from(f">{pointers}H", page, head + LEAF_HEAD)))


def _row(page: bytes, at: int, read: Callable[[int], bytes]) -> Row | None:
    size, at = _varint(page, at)
    rowid, at = _varint(page, at)
    if not COLUMNS < size <= PAYLOAD_MAX:
        return None
    local = size
    if size > LOCAL_MAX:
        local = LOCAL_MIN + (size - LOCAL_MIN) % (PAGE_BYTES - 4)
        local = local if local <= LOCAL_MAX else LOCAL_MIN
    payload = page[at : at + local]
    if local < size:
        payload = _chain(payload, int.from_bytes(page[at + local : at + local + 4], "big"), size, read)
    return _record(rowid, payload) if len(payload) == size else None


def _chain(payload: bytes, number: int, size: int, read: Callable[[int], bytes]) -> bytes:
    """The payload with its overflow pages; at most as many as its length asks for."""
    parts = [payload]
    missing = size - len(payload)
    while missing > 0 and number:
        page = read(number)
        part = page[4 : 4 + missing]
        parts.append(part)
        missing -= len(part)
        number = int.from_bytes(page[:4], "big")
        if not part:
            break
    return b"".join(parts)


def _record(rowid: int, payload: bytes) -> Row | None:
    head, at = _varint(payload, 0)
    types = []
    while at < head:
        code, at = _varint(payload, at)
        types.append(code)
    if len(types) != COLUMNS or types[0] != 0 or types[5] < 12 or types[5] % 2:
        return None
    numbers = []
    for code in types[1:5]:
        if code in (8, 9):
            numbers.append(code - 8)
        elif 1 <= code <= 6:
            numbers.append(int.from_bytes(payload[at : at + INT_BYTES[code]], "big", signed=True))
            at += INT_BYTES[code]
        else:
            return None
    epoch, count, span_first_us, span_last_us = numbers
    return Row(rowid, epoch, count, span_first_us, span_last_us, payload[at : at + (types[5] - 12) // 2])


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """File format 1.6: big-endian, seven bits a byte, the ninth byte whole."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
