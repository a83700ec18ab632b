"""One record of the journal: a tick, the anchor in force, and whose it is. `docs/formats/journal.md` is the table."""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from wire.clock import Anchor
from wire.reading import Tick
from wire.series import SeriesSet, ValueType

MAGIC = b"TGt1"
PREFIX = struct.Struct("<4sII")  # magic, length, CRC-32 of what follows the prefix
FIXED = struct.Struct("<4sIIHBBQQQqqqqQ")  # + columns, flags, type, outbox, boot, lsn, set, stamp, anchor (3)
FLAG_STATES = 1
FLAG_QUALITY = 2
TYPE_MIXED = 255
ALIGN = 8

_CODES = {ValueType.INT: "q", ValueType.FLOAT32: "f", ValueType.FLOAT64: "d"}


def aligned(length: int) -> int:
    """The room that a record of `length` bytes takes."""
    return -(-length // ALIGN) * ALIGN


class Layout:
    """How the ticks of one series set are packed."""

    __slots__ = ("_prefix", "columns", "records", "set_id", "type")

    def __init__(self, series_set: SeriesSet) -> None:
        types = bytes(series_set.value_types)
        mixed = len(set(types)) > 1
        plane = f"{len(types)}s"
        self.set_id = series_set.id
        self.columns = len(types)
        self.type = TYPE_MIXED if mixed else types[0]
        self._prefix: tuple[bytes, ...] = (types,) if mixed else ()
        cells = plane * mixed + "".join(_CODES[ValueType(code)] for code in types)
        self.records = tuple(
            struct.Struct(FIXED.format + cells + plane * bool(flags & FLAG_STATES) + plane * bool(flags & FLAG_QUALITY))
            for flags in range(FLAG_STATES + FLAG_QUALITY + 1)
        )

    def values(self, tick: Tick) -> tuple[bytes | int | float, ...]:
        """What follows the fixed part. Raises ValueError when the tick does not fit the set."""
        planes = tuple(plane for plane in (tick.states, tick.quality) if plane is not None)
        if len(tick.raw) != self.columns or any(len(plane) != self.columns for plane in planes):
            raise ValueError(f"a tick of {len(tick.raw)} cells for set {self.set_id:x} of {self.columns} series")
        return (*self._prefix, *tick.raw, *planes)


def flags_of(tick: Tick) -> int:
    """Which planes a tick carries: the index into `Layout.records`."""
    return FLAG_STATES * (tick.states is not None) | FLAG_QUALITY * (tick.quality is not None)


class Entry(NamedTuple):
    """One record read back: what was taken, and the anchor that was in force."""

    lsn: int
    tick: Tick
    anchor: Anchor


class Place(NamedTuple):
    """A whole record found in a ring: start..end in the file, and its fixed fields from `columns` on."""

    start: int
    end: int
    fields: tuple[int, ...]

    @property
    def outbox(self) -> int:
        """Whose it is."""
        return self.fields[3]

    @property
    def boot(self) -> int:
        """When: a hash of the boot id."""
        return self.fields[4]

    @property
    def lsn(self) -> int:
        """Its number, from 1."""
        return self.fields[5]


def places(ring: mmap.mmap, view: memoryview, start: int, end: int) -> Iterator[Place]:
    """Whole records in start..end of the file: found by their magic, believed by their CRC."""
    at = start
    while True:
        at = ring.find(MAGIC, at, end)
        if at < 0 or at + FIXED.size > end:
            return
        _, length, crc = PREFIX.unpack_from(ring, at)
        if (
            at % ALIGN == 0
            and FIXED.size <= length <= end - at
            and zlib.crc32(view[at + PREFIX.size : at + length]) == crc
        ):
            yield Place(at, at + length, FIXED.unpack_from(ring, at)[3:])
            at += aligned(length)
        else:
            at += 1


def entry(view: memoryview, place: Place) -> Entry:
    """The record at `place`."""
    columns, flags, kind, _, _, lsn, set_id, stamp, boottime_us, wall_us, sync = place.fields
    at = place.start + FIXED.size
    types = bytes([kind]) * columns
    if kind == TYPE_MIXED:
        types = bytes(view[at : at + columns])
        at += columns
    cells = _cells(types)
    raw = cells.unpack_from(view, at)
    at += cells.size
    states = quality = None
    if flags & FLAG_STATES:
        states = bytes(view[at : at + columns])
        at += columns
    if flags & FLAG_QUALITY:
        quality = bytes(view[at : at + columns])
    return Entry(lsn, Tick(set_id, stamp, raw, states, quality), _anchor(boottime_us, wall_us, sync))


@lru_cache(maxsize=4)
def _anchor(boottime_us: int, wall_us: int, sync: int) -> Anchor:
    """The same object for the records that follow one another under it."""
    return Anchor(boottime_us, wall_us, bool(sync & 1), sync >> 1)


@lru_cache(maxsize=256)
def _cells(types: bytes) -> struct.Struct:
    return struct.Struct("<" + "".join(_CODES[ValueType(code)] for code in types))
