"""Room for what is new, within the budget and above the disk's floor: what is least dear goes first.

The copy of a damaged outbox, then history, then what the cloud does not have. Of that the oldest of class LOW, then of
NORMAL, becomes a roll-up (`thinning`), or goes where that saves little; once roll-ups are half of what waits, the
oldest of them go. What was read around an alarm (`pins`) goes the same way when nothing else is left; the class ALARM
never. Each loss leaves a tombstone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from edge_agent.errors import OutboxFull
from edge_agent.outbox.database import PAGE_BYTES
from edge_agent.outbox.history import drop
from edge_agent.outbox.keys import ROLLUP_SLOT, first_of, number_of
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.pins import Pins, pinned
from edge_agent.outbox.thinning import Row, thin
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tombstone

log = logging.getLogger(__name__)

EVICTED_FIRST = (Priority.LOW, Priority.NORMAL)  # alarms are never given up
ROLLUP_SHARE = 2  # roll-ups take at most one part in so many: some readings are always there as they were taken
AT_ONCE = 16
FREED_MAX = 2048  # atoms in one commit: a transaction has to stay short
SPARE_PAGES = 16  # the tree above, epochs, settled ranges, tombstones


@dataclass(slots=True)
class Freed:
    """How many atoms made room: of the history, raw ones that became roll-ups, and those that went altogether."""

    history: int = 0
    thinned: int = 0
    evicted: int = 0

    @property
    def atoms(self) -> int:
        """In all."""
        return self.history + self.thinned + self.evicted


def room_for(sizes: Iterable[int]) -> int:
    """Bytes of pages that rows with so many bytes of data may take, at most."""
    pages = sum(-(-(size + 64) // (PAGE_BYTES - 4)) + 1 for size in sizes)
    return (pages + SPARE_PAGES) * PAGE_BYTES


def make_room(outbox: Outbox, room: int, limit: int, lent: Mapping[int, RangeSet], *, thins: bool) -> Freed:
    """Free pages, never of an atom that is under way, until `room` bytes fit under `limit`.

    After FREED_MAX the rest waits for the next commit: a budget made much smaller is reached in steps.

    Raises:
        OutboxFull: nothing that may go is left.
    """
    freed = Freed()
    if not _short(outbox, room, limit):
        return freed
    if outbox.database.drop_damaged():
        log.warning("the copy of a damaged outbox was deleted to make room")
    stones: list[Tombstone] = []
    pins = pinned(outbox)
    while _short(outbox, room, limit) and freed.atoms < FREED_MAX:
        if not _step(outbox, freed, stones, lent, pins, thins=thins):
            raise OutboxFull(
                f"{outbox.database.path}: {limit} bytes, all that [buffer] max_size and min_free leave, are full of "
                "alarms and of what is under way. Try: a larger max_size, or edge-agent sync explain"
            )
    for stone in _joined(stones):
        outbox.add_tombstone(stone)
    return freed


def _step(
    outbox: Outbox, freed: Freed, stones: list[Tombstone], lent: Mapping[int, RangeSet], pins: Pins, *, thins: bool
) -> bool:
    """Give up a little of what is least dear; False when nothing is left that may go."""

    def idle(row: Row) -> bool:
        ranges = lent.get(number_of(row[0]))
        return ranges is None or not ranges.overlaps(first_of(row[0]), first_of(row[0]) + row[2])

    def free(row: Row) -> bool:
        return not pins.holds(row) and idle(row)

    if gone := drop(outbox, AT_ONCE):
        freed.history += gone
        return True
    totals = outbox.totals()
    if ROLLUP_SHARE * totals.rollup_bytes > totals.bytes and (gone := _evict(outbox, ROLLUP_SLOT, idle, stones)):
        freed.evicted += gone
        return True
    return any(_give_up(outbox, freed, stones, may_go, thins=thins) for may_go in (free, idle))


def _give_up(
    outbox: Outbox, freed: Freed, stones: list[Tombstone], may_go: Callable[[Row], bool], *, thins: bool
) -> bool:
    """A little of what the cloud does not have, as far as it `may_go`."""
    for priority in EVICTED_FIRST:
        if thins and (gone := thin(outbox, priority, may_go)):
            freed.thinned += gone
            return True
        if gone := _evict(outbox, priority, may_go, stones):
            freed.evicted += gone
            return True
    gone = _evict(outbox, ROLLUP_SLOT, may_go, stones)
    freed.evicted += gone
    return gone > 0


def _short(outbox: Outbox, room: int, limit: int) -> bool:
    return outbox.database.used() + room > limit


def _evict(outbox: Outbox, slot: int, idle: Callable[[Row], bool], stones: list[Tombstone]) -> int:
    """Delete the oldest atoms of a slot that are not under way. Tombstones of raw ones are left to be joined."""
    rows = (row for row in outbox.owed(slot) if idle(row))
    batch = list(islice(rows, AT_ONCE))
    rows.close()
    for atom_id, epoch, count, *span in batch:
        first = first_of(atom_id)
        outbox.remove(number_of(atom_id), [(first, first + count)])
        stone = Tombstone(epoch, first, first + count, LossReason.EVICTED, count, *span)
        if slot == ROLLUP_SLOT:
            outbox.add_tombstone(stone, instead_of=LossReason.THINNED)
        else:
            stones.append(stone)
    return len(batch)


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
