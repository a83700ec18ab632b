"""Decoded messages, kept while they fit."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from cloud_sync.catalog.catalog import MessageRow
from cloud_sync.storage.object_store import ObjectStore
from wire.codec import decode
from wire.segment import Segment

_OBJECT_BYTES = 500  # a Segment, its blocks' headers and array objects, about


def segment_bytes(segment: Segment) -> int:
    """Memory a decoded segment holds, about."""
    arrays = [
        array
        for block in segment.blocks
        for array in (block.stamps, *block.columns, block.states, block.quality, block.scores)
        if array is not None
    ]
    return _OBJECT_BYTES * (1 + len(segment.blocks)) + sum(array.nbytes + 100 for array in arrays)


class SegmentCache:
    """Least recently used messages leave first; `bytes_max` bounds what stays. Safe to share between threads.

    A message's bytes never change, so an entry never goes stale; two threads may decode the same one at once.
    """

    def __init__(self, store: ObjectStore, bytes_max: int) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._bytes = 0
        self._held: OrderedDict[int, tuple[Segment, int]] = OrderedDict()
        self._lock = Lock()
        self.hits = 0
        self.misses = 0

    @property
    def bytes_held(self) -> int:
        """Memory of what is kept, about."""
        return self._bytes

    def get(self, row: MessageRow) -> Segment:
        """The message, decoded. Raises ObjectMissing, StoreDown, SegmentCorrupt."""
        with self._lock:
            held = self._held.get(row.id)
            if held is not None:
                self._held.move_to_end(row.id)
                self.hits += 1
                return held[0]
            self.misses += 1
        segment = decode(self._store.get(row.pack_key, row.offset, row.length))
        self._keep(row.id, segment)
        return segment

    def _keep(self, message_id: int, segment: Segment) -> None:
        size = segment_bytes(segment)
        with self._lock:
            if message_id in self._held or size > self._bytes_max:
                return
            self._held[message_id] = (segment, size)
            self._bytes += size
            while self._bytes > self._bytes_max:
                _, (_, freed) = self._held.popitem(last=False)
                self._bytes -= freed
