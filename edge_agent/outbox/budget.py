"""Room for what is new, within the budget and above the disk's floor: what is least dear goes first.

The copy of a damaged outbox, then history, then what the cloud does not have: the oldest of class LOW, then of NORMAL.
The class ALARM, which holds what was read around an alarm, never goes. What goes of it leaves a tombstone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from edge_agent.errors import OutboxFull
from edge_agent.outbox.database import PAGE_BYTES
from edge_agent.outbox.history import drop
from edge_agent.outbox.keys import first_of, number_of
from edge_agent.outbox.outbox import Outbox
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tombstone

log = logging.getLogger(__name__)

EVICTED_FIRST = (Priority.LOW, Priority.NORMAL)  # alarms are never given up
AT_ONCE = 16
FREED_MAX = 2048  # atoms in one commit: a transaction has to stay short
SPARE_PAGES = 16  # the tree above, epochs, settled ranges, tombstones


@dataclass(frozen=True, slots=True)
class Freed:
    """How many atoms made room: of the history, and of what the cloud does not have."""

    history: int = 0
    evicted: int = 0


def room_for(sizes: Iterable[int]) -> int:
    """Bytes of pages that rows with so many bytes of data may take, at most."""
    pages = sum(-(-(size + 64) // (PAGE_BYTES - 4)) + 1 for size in sizes)
    return (pages + SPARE_PAGES) * PAGE_BYTES


def make_room(outbox: Outbox, room: int, limit: int, lent: Mapping[int, RangeSet]) -> Freed:
    """Delete whole atoms, never one under way, until `room` bytes fit under `limit`.

    After FREED_MAX the rest waits for the next commit: a budget made much smaller is reached in steps.

    Raises:
        OutboxFull: nothing that may go is left.
    """
    freed = Freed()
    if not _short(outbox, room, limit):
        return freed
    if outbox.database.drop_damaged():
        log.warning("the copy of a damaged outbox was deleted to make room")
    while _short(outbox, room, limit) and freed.history < FREED_MAX and (gone := drop(outbox, AT_ONCE)):
        freed = replace(freed, history=freed.history + gone)
    stones: list[Tombstone] = []
    for priority in EVICTED_FIRST:
        while _short(outbox, room, limit) and len(stones) < FREED_MAX and (gave := _evict(outbox, priority, lent)):
            stones += gave
    if _short(outbox, room, limit) and freed.history < FREED_MAX and len(stones) < FREED_MAX:
        raise OutboxFull(
            f"{outbox.database.path}: {limit} bytes, all that [buffer] max_size and min_free leave, are full of alarms "
            "and of what is under way. Try: a larger max_size, or edge-agent sync explain"
        )
    for stone in _joined(stones):
        outbox.add_tombstone(stone)
    return replace(freed, evicted=len(stones))


def _short(outbox: Outbox, room: int, limit: int) -> bool:
    return outbox.database.used() + room > limit


def _evict(outbox: Outbox, priority: Priority, lent: Mapping[int, RangeSet]) -> list[Tombstone]:
    """The oldest atoms of a class that are not under way, deleted."""
    idle = (row for row in outbox.owed(priority) if not _under_way(row, lent))
    batch = list(islice(idle, AT_ONCE))
    idle.close()
    stones = []
    for atom_id, epoch, count, span_first, span_last in batch:
        first = first_of(atom_id)
        outbox.remove(number_of(atom_id), [(first, first + count)])
        stones.append(Tombstone(epoch, first, first + count, LossReason.EVICTED, count, span_first, span_last))
    return stones


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
