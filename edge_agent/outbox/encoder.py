"""From journal records to atoms: one per priority class, cut where the anchor changes and at a bound of cells."""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.outbox.record import Entry
from edge_agent.outbox.rows import NewAtom
from wire.clock import Anchor
from wire.codec import encode, zone
from wire.merge import segment_of
from wire.reading import Priority, Tick
from wire.series import SeriesSet

# At worst (one float column, own stamps, states, quality) a cell takes 18 bytes: 147 kB, under MESSAGE_BYTES_MAX.
ATOM_CELLS_MAX = 8192


class Encoder:
    """Give it records in order; Seq numbers are given as atoms close."""

    def __init__(
        self,
        sets: Mapping[int, SeriesSet],
        priorities: Mapping[int, Priority],
        next_seq: int,
        *,
        raised: bool,
    ) -> None:
        """`raised`: an alarm asked for this commit, so all of it is of the alarm class."""
        self.atoms: list[NewAtom] = []
        self.next_seq = next_seq
        self.ticks = 0
        self.cells = 0
        self.anchor: Anchor | None = None
        self._sets = sets
        self._priorities = priorities
        self._raised = raised
        self._open: dict[Priority, list[tuple[Tick, bytes | None]]] = {}
        self._sizes: dict[Priority, int] = {}

    def add(self, entry: Entry, scores: bytes | None = None) -> None:
        """Put a record into the open atom of its class, with a score's code per cell if it was scored."""
        if entry.anchor != self.anchor:
            self.finish()
            self.anchor = entry.anchor
        tick = entry.tick
        self.ticks += 1
        priority = Priority.ALARM if self._raised else self._priorities.get(tick.set_id, Priority.NORMAL)
        size = self._sizes.get(priority, 0)
        if size and size + len(tick.raw) > ATOM_CELLS_MAX:
            self._close(priority)
            size = 0
        self._open.setdefault(priority, []).append((tick, scores))
        self._sizes[priority] = size + len(tick.raw)

    def finish(self) -> None:
        """Close the open atoms."""
        for priority in sorted(self._open):
            self._close(priority)

    def _close(self, priority: Priority) -> None:
        ticks, codes = zip(*self._open.pop(priority))
        del self._sizes[priority]
        assert self.anchor is not None, "a tick without an anchor"
        scores = None if all(each is None for each in codes) else codes
        segment = segment_of(ticks, self._sets, self.next_seq, priority, self.anchor, scores=scores)
        if segment.count:
            self.atoms.append(NewAtom(priority, self.next_seq, segment.count, zone(segment), encode(segment)))
            self.next_seq += segment.count
            self.cells += segment.count
