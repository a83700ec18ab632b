"""What an atom takes of the outbox' file, by SQLite's own rule (its file format, 1.6: table b-tree leaf cells)."""

from __future__ import annotations

from edge_agent.outbox.database import PAGE_BYTES

ROW_BYTES = 28  # id, epoch, count and span of an atom's row beside its data
CELL_BYTES = 13  # rowid, size and pointer of a row in the tree
LOCAL_BYTES_MAX = PAGE_BYTES - 35
LOCAL_BYTES_MIN = (PAGE_BYTES - 12) * 32 // 255 - 23
OVERFLOW_BYTES = PAGE_BYTES - 4


def growth_of(size: int) -> int:
    """Bytes of pages that an atom with `size` bytes of data takes, leaves filled to the end as appending does."""
    local, pages = size + ROW_BYTES, 0
    if local > LOCAL_BYTES_MAX:
        row, local = local, LOCAL_BYTES_MIN + (local - LOCAL_BYTES_MIN) % OVERFLOW_BYTES
        if local > LOCAL_BYTES_MAX:
            local = LOCAL_BYTES_MIN
        pages = -(-(row - local) // OVERFLOW_BYTES)
    in_a_leaf = max(1, (PAGE_BYTES - 8) // (local + CELL_BYTES))
    return pages * PAGE_BYTES + PAGE_BYTES // in_a_leaf
