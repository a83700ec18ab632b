"""Sizes of state's rows in the outbox' file: a row that keeps its size is written over where it stands.

SQLite then writes the pages that differ, and neither its list of free pages nor an index moves.
"""

from __future__ import annotations

SMALL_BYTES = 512  # up to here a slot's size is a multiple of SMALL_STEP
SMALL_STEP = 64
# Above it a slot fills one leaf of the outbox' tree, beside its name, and whole overflow pages (`outbox.database`).
LEAF_BYTES = 880
PAGE_BYTES = 1020


def slot_size(length: int) -> int:
    """Bytes that a slot of so many bytes is filled up to."""
    if length <= SMALL_BYTES:
        return -(-length // SMALL_STEP) * SMALL_STEP
    return LEAF_BYTES + max(0, -(-(length - LEAF_BYTES) // PAGE_BYTES)) * PAGE_BYTES
