"""The journal: a preallocated ring in RAM that holds every taken tick until the outbox has committed it.

`docs/formats/journal.md` is the byte table. A tick is packed straight into the mapped file, its CRC last; a process
that is killed loses at most the record it was writing. Positions count up for ever; the place in the ring is the
position modulo its capacity.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import JournalFull, StateUnusable
from edge_agent.outbox.record import (
    MAGIC,
    PREFIX,
    Entry,
    Layout,
    Place,
    aligned,
    entry,
    flags_of,
    places,
)
from wire.clock import Anchor
from wire.reading import Tick

FILE_MAGIC = b"TGJRNL\r\n"
FILE_VERSION = 1
HEAD = struct.Struct("<8sIIQQQQQqq")  # magic, version, -, capacity, outbox, boot, committed lsn, lost cells, lost span
HEAD_BYTES = 4096  # one page, so that the ring is aligned
COMMITTED = struct.Struct("<Q")
COMMITTED_AT = 40
LOST = struct.Struct("<Qqq")
LOST_AT = 48
COUNT_MAX = 1 << 48  # ticks or cells, nine years of a million per second: a head that says more is damaged


@dataclass(frozen=True, slots=True)
class RingHead:
    """What a ring says of itself: asked when the database that knows better is damaged."""

    capacity: int
    outbox: int
    boot: int
    committed: int
    lost: tuple[int, int, int]  # cells, first and last stamp


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the ring: after record `lsn`."""

    lsn: int
    position: int


class Journal:
    """The writing end. Appending is for one thread at a time; reading up to a `Mark` may go on meanwhile."""

    def __init__(self, path: Path, outbox: int, boot: int, capacity: int, after_lsn: int) -> None:
        """Open the ring at `path`, or make one when it is missing, foreign, of another boot, or empty and of
        another size. Records of `outbox` and `boot` over `after_lsn` are kept for `read`.

        Raises:
            StateUnusable: the file cannot be made, or the RAM disk has no room for it.
        """
        self.path = path
        self._outbox = outbox
        self._boot = boot
        found = self._adopt(capacity, after_lsn)
        self.continued = found is not None  # this boot's ring, whether or not it held anything
        if found is None:
            self._create(capacity)
        self._lsn = after_lsn
        self._head = self._tail = 0
        if found:
            self._lsn = found[-1].lsn
            self._tail = found[0].start - HEAD_BYTES
            self._head = aligned(found[-1].end - HEAD_BYTES)
            if self._head <= self._tail:
                self._head += self.capacity
        self.committed(Mark(after_lsn, self._tail))

    @property
    def fill(self) -> float:
        """0 empty to 1 full."""
        return (self._head - self._tail) / self.capacity

    @property
    def mark(self) -> Mark:
        """The place after the newest record."""
        return Mark(self._lsn, self._head)

    @property
    def ticks(self) -> int:
        """How many are not committed."""
        return self._lsn - self._committed

    @property
    def lost(self) -> tuple[int, int, int]:
        """Cells that found no room, and their first and last stamp (microseconds): survives a kill, as records do."""
        return self._lost

    def append(self, layout: Layout, tick: Tick, anchor: Anchor) -> None:
        """Hold one tick. On return it survives the death of the process.

        Raises:
            JournalFull: no room until more is committed; nothing was written.
            ValueError: the tick does not fit its set.
        """
        flags = flags_of(tick)
        record = layout.records[flags]
        position = self._room(record.size)
        at = HEAD_BYTES + position % self.capacity
        lsn = self._lsn + 1
        try:
            record.pack_into(
                self._map, at, MAGIC, record.size, 0, layout.columns, flags, layout.type, self._outbox, self._boot, lsn,
                tick.set_id, tick.stamp, anchor.boottime_us, anchor.wall_us,
                anchor.uncertainty_us << 1 | anchor.synchronised, *layout.values(tick),
            )  # fmt: skip
        except (struct.error, OverflowError) as error:
            raise ValueError(f"a tick of set {layout.set_id:x} does not fit its types: {error}") from error
        PREFIX.pack_into(self._map, at, MAGIC, record.size, zlib.crc32(self._view[at + PREFIX.size : at + record.size]))
        self._lsn = lsn
        self._head = position + aligned(record.size)

    def read(self, mark: Mark, after: Mark | None = None) -> Iterator[Entry]:
        """Uncommitted records up to `mark`, in order; those over `after` only, an earlier mark that is not committed
        over. One that was damaged in RAM is left out."""
        tail, last = (self._tail, self._committed) if after is None else (after.position, after.lsn)
        if tail == mark.position:
            return
        first, end = HEAD_BYTES + tail % self.capacity, HEAD_BYTES + mark.position % self.capacity
        pieces = [(first, end)] if first < end else [(first, HEAD_BYTES + self.capacity), (HEAD_BYTES, end)]
        for piece in pieces:
            for place in places(self._map, self._view, *piece):
                if place.outbox == self._outbox and place.boot == self._boot and last < place.lsn <= mark.lsn:
                    last = place.lsn
                    yield entry(self._view, place)

    def committed(self, mark: Mark) -> None:
        """The outbox holds everything up to `mark`: its room is free again."""
        self._committed = mark.lsn
        self._tail = mark.position
        COMMITTED.pack_into(self._map, COMMITTED_AT, mark.lsn)

    def lose(self, cells: int, first_us: int, last_us: int) -> None:
        """Count cells that found no room. `forget_loss` takes them off again once a tombstone says so."""
        count, first, last = self._lost
        self._set_lost(count + cells, min(first, first_us) if count else first_us, max(last, last_us))

    def forget_loss(self, cells: int) -> None:
        """Told: `cells` of the count stand in a committed tombstone."""
        count, first, last = self._lost
        self._set_lost(*((count - cells, first, last) if count > cells else (0, 0, 0)))

    def close(self) -> None:
        """Let go of the file; its records stay."""
        self._view.release()
        self._map.close()

    @staticmethod
    def scan(path: Path, outbox_id: int, after_lsn: int) -> Iterator[Tick]:
        """Ticks that a ring holds for an outbox, over `after_lsn`, in order; a look at a dead agent's ring.

        Raises:
            StateUnusable: there is no ring at `path`.
        """
        ring, head = _mapped(path, mmap.ACCESS_READ)
        try:
            with memoryview(ring) as view:
                for place in _ordered(ring, view, outbox_id, head.boot, after_lsn):
                    yield entry(view, place).tick
        finally:
            ring.close()

    @staticmethod
    def head(path: Path) -> RingHead | None:
        """What the ring at `path` says of itself; None where there is none."""
        try:
            ring, head = _mapped(path, mmap.ACCESS_READ)
        except StateUnusable:
            return None
        ring.close()
        return head

    def _set_lost(self, cells: int, first_us: int, last_us: int) -> None:
        self._lost = (cells, first_us, last_us)
        LOST.pack_into(self._map, LOST_AT, *self._lost)

    def _room(self, length: int) -> int:
        """The position for a record of `length` bytes; records do not straddle the ring's end."""
        size = aligned(length)
        left = self.capacity - self._head % self.capacity
        position = self._head if size <= left else self._head + left
        if position + size - self._tail > self.capacity:
            raise JournalFull(f"{self.path}: {self.ticks} ticks fill the ring of {self.capacity} bytes")
        return position

    def _adopt(self, capacity: int, after_lsn: int) -> list[Place] | None:
        """Map the file if it is this outbox' ring of this boot; its uncommitted records, in order."""
        try:
            ring, head = _mapped(self.path, mmap.ACCESS_WRITE)
        except StateUnusable:
            return None
        if (head.outbox, head.boot) == (self._outbox, self._boot):
            with memoryview(ring) as view:
                found = _ordered(ring, view, self._outbox, self._boot, after_lsn)
            if found or head.lost[0] or head.capacity == capacity:
                self._keep(ring, head)
                return found
        ring.close()
        return None

    def _create(self, capacity: int) -> None:
        size = HEAD_BYTES + capacity
        try:
            self.path.unlink(missing_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size)  # a hole met later on a full RAM disk would be a SIGBUS
                ring = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StateUnusable(
                f"{self.path}: no journal of {size} bytes ({error.strerror}). "
                f"Try: df {self.path.parent}, or a smaller journal_bytes"
            ) from error
        HEAD.pack_into(ring, 0, FILE_MAGIC, FILE_VERSION, 0, capacity, self._outbox, self._boot, 0, 0, 0, 0)
        self._keep(ring, RingHead(capacity, self._outbox, self._boot, 0, (0, 0, 0)))

    def _keep(self, ring: mmap.mmap, head: RingHead) -> None:
        self._map = ring
        self._view = memoryview(ring)
        self.capacity = head.capacity
        self._lost = head.lost


def _mapped(path: Path, access: int) -> tuple[mmap.mmap, RingHead]:
    try:
        with path.open("rb" if access == mmap.ACCESS_READ else "r+b") as file:
            ring = mmap.mmap(file.fileno(), 0, access=access)
    except (OSError, ValueError) as error:
        raise StateUnusable(f"{path}: no journal ({error})") from error
    if len(ring) > HEAD_BYTES:
        magic, version, _, capacity, outbox, boot, committed, *lost = HEAD.unpack_from(ring)
        sound = magic == FILE_MAGIC and version == FILE_VERSION and len(ring) == HEAD_BYTES + capacity
        if sound and max(committed, lost[0]) <= COUNT_MAX:
            return ring, RingHead(capacity, outbox, boot, committed, (lost[0], lost[1], lost[2]))
    ring.close()
    raise StateUnusable(f"{path}: not a journal of version {FILE_VERSION}")


def _ordered(ring: mmap.mmap, view: memoryview, outbox: int, boot: int, after_lsn: int) -> list[Place]:
    """Every whole record of `outbox` and `boot` over `after_lsn`, by lsn, wherever in the ring it stands.

    A missing lsn is a damaged record. Those after it are whole and were taken, so they are kept; what an earlier lap
    left has an lsn that is committed, so it is never among them.
    """
    found = [
        place
        for place in places(ring, view, HEAD_BYTES, len(ring))
        if place.outbox == outbox and place.boot == boot and place.lsn > after_lsn
    ]
    return sorted(found, key=lambda place: place.lsn)
