"""The object store's contract: one suite in `tests/conformance` holds every implementation to it.

Nothing here rests on conditional writes: a writer takes a new key for each attempt. All calls block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

KEY_BYTES_MAX = 512
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class ObjectStore(Protocol):
    """Immutable objects by key. Raises `StoreDown` when the store cannot be reached, refuses or is full."""

    def put(self, key: str, data: bytes) -> None:
        """Store an object. On return it is durable: a power cut after it loses nothing.

        Writing the same bytes to the same key again is harmless; other bytes under a used key are a mistake of ours,
        but for the one key that others find by its name (the timestamp of releases): readers get the old or the new
        bytes, whole.
        Raises ValueError for a key outside `check_key`.
        """
        ...

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """The bytes offset..offset+length; to the end when `length` is None.

        Raises `ObjectMissing` when there is no such object or it ends before the asked range does.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        ...

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """Keys that start with `prefix` and stand behind `after`, in order.

        What is being written right now may or may not be among them. What stands before `after` costs nothing.
        """
        ...


def check_key(key: str) -> str:
    """Return the key. Raises ValueError unless it is 1 to 512 of [A-Za-z0-9._-] in parts that '/' divides.

    No part starts with a dot, so that no key climbs out of its folder or names a hidden file.
    """
    if len(key) > KEY_BYTES_MAX or not _KEY.fullmatch(key):
        raise ValueError(f"object key {key[:80]!r} must be 1 to {KEY_BYTES_MAX} of A-Z a-z 0-9 . _ - in parts by '/'")
    return key
