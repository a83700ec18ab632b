"""The repository's files for gateways, a piece at a time: read from the object store once, kept for the next one."""

from __future__ import annotations

import threading
from collections import OrderedDict

from cloud_sync.errors import ObjectMissing
from cloud_sync.storage.object_store import ObjectStore, check_key
from wire.fetching import FetchRequest, Piece

PREFIX = "ota/"
FOLDERS = ("metadata/", "targets/")
CHANGING = "metadata/timestamp.json"  # all other names are given once
CACHE_BYTES_MAX = 64 << 20


class Shelf:
    """See the module. Any thread may call."""

    def __init__(self, store: ObjectStore, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._store = store
        self._bytes_max = bytes_max
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def piece(self, request: FetchRequest) -> Piece | None:
        """The bytes that were asked for; None when there is no such file. Raises StoreDown."""
        try:
            data = self._file(request.path)
        except (ObjectMissing, ValueError):
            return None
        return Piece(data[request.offset : request.offset + request.length], len(data))

    def _file(self, path: str) -> bytes:
        if not path.startswith(FOLDERS):
            raise ObjectMissing(path)
        with self._lock:
            if path in self._kept:
                self._kept.move_to_end(path)
                return self._kept[path]
        data = self._store.get(check_key(PREFIX + path))
        if path != CHANGING:
            with self._lock:
                self._kept[path] = data
                while sum(map(len, self._kept.values())) > self._bytes_max:
                    self._kept.popitem(last=False)
        return data
