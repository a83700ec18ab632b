"""What goes next, and how much of it in one message.

A lane is a part of the backlog with one urgency: class, epoch and Seq range. Lanes are tried in order; each remembers
how far it has been sent on this stream, so that a long backlog is never searched twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from wire.codec import ATOMS_MAX, decode, encode
from wire.errors import MergeRefused, SegmentCorrupt, UnsupportedFormat
from wire.merge import merge
from wire.ranges import SEQ_MAX, Range, RangeSet
from wire.reading import Kind, Priority
from wire.segment import MESSAGE_CELLS_MAX, Segment
from wire.sync.outbox_view import OutboxView, StoredAtom


@dataclass(slots=True)
class Lane:
    """Atoms of one class and epoch with start <= first < end."""

    priority: Priority
    epoch: int
    start: int
    end: int
    live: bool  # committed since the stream was opened
    cursor: int = 0
    empty: bool = False

    @property
    def bulk(self) -> bool:
        """Whether it keeps to the window."""
        return self.priority is not Priority.ALARM


@dataclass(frozen=True, slots=True)
class Parcel:
    """Atoms that go in one message, and its bytes."""

    epoch: int
    atoms: tuple[Range, ...]
    segment: bytes


class Lanes:
    """Order: alarms (the newest first of all), live normal, live low, then the backlog by class, oldest epoch first."""

    def __init__(self, view: OutboxView, epochs: Sequence[int], live_start: int) -> None:
        """`epochs` oldest first, the current one last; `live_start`: its next_seq when the stream was opened."""
        self._view = view
        self._in_flight = {epoch: RangeSet() for epoch in epochs}
        self._alone: set[tuple[int, int]] = set()  # (epoch, first) of atoms that go one by one
        self._current = current = epochs[-1]
        live = [Lane(priority, current, live_start, SEQ_MAX, live=True) for priority in Priority]
        old = {
            priority: [
                Lane(priority, epoch, 0, live_start if epoch == current else SEQ_MAX, live=False) for epoch in epochs
            ]
            for priority in Priority
        }
        self._lanes = [live[0], *old[Priority.ALARM], *live[1:], *old[Priority.NORMAL], *old[Priority.LOW]]
        for lane in self._lanes:
            lane.cursor = lane.start

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes)

    def committed(self, *, alarm: bool) -> None:
        """New atoms are there. `alarm`: and older ones may have been raised to that class."""
        for lane in self._lanes:
            if lane.live:
                lane.empty = False
            if alarm and not lane.bulk and lane.epoch == self._current:
                lane.cursor, lane.empty = lane.start, False

    def take(self, lane: Lane, bytes_max: int) -> Parcel | None:
        """The next message of a lane, marked as in flight by `leave`; None when the lane has nothing more."""
        while not lane.empty:
            atoms = self._view.pending(
                lane.epoch, lane.cursor, lane.end, lane.priority, self._in_flight[lane.epoch], bytes_max
            )
            if not atoms:
                lane.empty = True
                return None
            parcel = self._parcel(lane, atoms)
            if parcel is not None:
                return parcel
        return None

    def leave(self, lane: Lane, parcel: Parcel) -> None:
        """The parcel is on its way."""
        lane.cursor = parcel.atoms[-1][1]
        self._in_flight[parcel.epoch].update(parcel.atoms)

    def settle(self, epoch: int, atoms: Iterable[Range]) -> None:
        """They are stored, or gone."""
        for first, end in atoms:
            self._in_flight[epoch].discard(first, end)
            self._alone.discard((epoch, first))

    def give_back(self, epoch: int, atoms: Sequence[Range], *, alone: bool) -> None:
        """They were not stored and may be sent again, `alone` each by itself."""
        for first, end in atoms:
            self._in_flight[epoch].discard(first, end)
            if alone:
                self._alone.add((epoch, first))
        low = min(first for first, _ in atoms)
        for lane in self._lanes:
            if lane.epoch == epoch and low < lane.end:
                lane.cursor = max(lane.start, min(lane.cursor, low))
                lane.empty = False

    def in_flight(self) -> list[tuple[int, RangeSet]]:
        """What must not be evicted now."""
        return [(epoch, ranges.copy()) for epoch, ranges in self._in_flight.items() if ranges]

    def _parcel(self, lane: Lane, atoms: list[StoredAtom]) -> Parcel | None:
        """The longest run from the front that may share a message; None after a damaged atom was set aside."""
        head = atoms[0]
        if len(atoms) == 1 or (head.epoch, head.first) in self._alone:
            return _as_it_is(head)
        try:
            segments = [decode(head.data)]
        except SegmentCorrupt as error:
            self._view.set_aside(head.epoch, head.first, f"damaged in the outbox: {error}")
            return None
        except UnsupportedFormat:  # written by a newer agent; the cloud may know it
            return _as_it_is(head)
        if segments[0].kind is not Kind.RAW:  # a roll-up is stored or not by itself
            return _as_it_is(head)
        cells = head.count
        for atom in atoms[1:ATOMS_MAX]:
            cells += atom.count
            if cells > MESSAGE_CELLS_MAX or (atom.epoch, atom.first) in self._alone:
                break
            segment = _fitting(atom, segments[0])
            if segment is None:
                break
            segments.append(segment)
        if len(segments) == 1:
            return _as_it_is(head)
        try:
            data = encode(merge(segments))
        except MergeRefused:  # never for atoms of one outbox; if it happens, whole and apart is right as well
            self._alone.update((atom.epoch, atom.first) for atom in atoms)
            return _as_it_is(head)
        return Parcel(lane.epoch, tuple((atom.first, atom.end) for atom in atoms[: len(segments)]), data)


def _as_it_is(atom: StoredAtom) -> Parcel:
    return Parcel(atom.epoch, ((atom.first, atom.end),), atom.data)


def _fitting(atom: StoredAtom, head: Segment) -> Segment | None:
    """The decoded atom, if it may share a message with `head`."""
    try:
        segment = decode(atom.data)
    except (SegmentCorrupt, UnsupportedFormat):
        return None  # dealt with when it comes to the front
    same = (segment.priority, segment.kind, segment.anchor) == (head.priority, Kind.RAW, head.anchor)
    return segment if same else None
