"""The outbox' budget in bytes, WAL and reserve included: when it is reached, the oldest and least dear atoms go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from edge_agent.errors import OutboxFull
from edge_agent.outbox.database import PAGE_BYTES
from edge_agent.outbox.keys import first_of, number_of
from edge_agent.outbox.outbox import NewAtom, Outbox
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tombstone

EVICTED_FIRST = (Priority.LOW, Priority.NORMAL)  # alarms are never given up
EVICTED_AT_ONCE = 16
EVICTED_MAX = 2048  # about as many pages of WAL
SPARE_PAGES = 16  # the tree above, epochs, settled ranges, tombstones


def room_for(atoms: Iterable[NewAtom]) -> int:
    """Bytes of pages that these atoms may take, at most."""
    pages = sum(-(-(len(atom.data) + 64) // (PAGE_BYTES - 4)) + 1 for atom in atoms)
    return (pages + SPARE_PAGES) * PAGE_BYTES


def evict(outbox: Outbox, room: int, bytes_max: int, lent: Mapping[int, RangeSet]) -> int:
    """Delete whole atoms, oldest first, never one under way, until `room` bytes fit. Returns how many went.

    After EVICTED_MAX the rest waits for the next commit: a budget made much smaller is reached in steps.

    Raises:
        OutboxFull: nothing that may go is left.
    """
    evicted = 0
    stones: list[Tombstone] = []
    for priority in EVICTED_FIRST:
        while evicted < EVICTED_MAX and outbox.database.used() + room > bytes_max:
            idle = (row for row in outbox.candidates(priority) if not _under_way(row, lent))
            batch = list(islice(idle, EVICTED_AT_ONCE))
            idle.close()
            if not batch:
                break
            for atom_id, epoch, count, span_first, span_last in batch:
                first = first_of(atom_id)
                outbox.remove(number_of(atom_id), [(first, first + count)])
                stones.append(Tombstone(epoch, first, first + count, LossReason.EVICTED, count, span_first, span_last))
            evicted += len(batch)
    if evicted < EVICTED_MAX and outbox.database.used() + room > bytes_max:
        raise OutboxFull(
            f"{outbox.database.path}: the budget of {bytes_max} bytes is full of alarms and of what is under way. "
            "Try: a larger bytes_max, or edge-agent status to see why nothing is acknowledged"
        )
    for stone in _joined(stones):
        outbox.add_tombstone(stone)
    return evicted


def _under_way(row: tuple[int, int, int, int, int], lent: Mapping[int, RangeSet]) -> bool:
    atom_id, _, count, _, _ = row
    ranges = lent.get(number_of(atom_id))
    return ranges is not None and ranges.overlaps(first_of(atom_id), first_of(atom_id) + count)


def _joined(stones: Iterable[Tombstone]) -> list[Tombstone]:
    """Neighbours of one epoch as one record."""
    joined: list[Tombstone] = []
    for stone in sorted(stones, key=lambda each: (each.epoch, each.first)):
        last = joined[-1] if joined else None
        if last is not None and (last.epoch, last.end) == (stone.epoch, stone.first):
            joined[-1] = Tombstone(
                last.epoch, last.first, stone.end, last.reason, last.count + stone.count,
                min(last.span_first_us, stone.span_first_us), max(last.span_last_us, stone.span_last_us),
            )  # fmt: skip
        else:
            joined.append(stone)
    return joined
