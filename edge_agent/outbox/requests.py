"""What the sync side wants of the writer: handed over under a lock, hidden from the view at once, done in a commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

from wire.alarm import AlarmKey
from wire.ranges import Range, RangeSet

Key = tuple[int, int, int, int]  # of a tombstone


@dataclass(frozen=True, slots=True)
class Aside:
    """An atom that the cloud refuses."""

    atom_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One look at the requests. `acked` is by epoch number and cut at atom borders."""

    acked: dict[int, RangeSet]
    asides: tuple[Aside, ...]
    tombstones: tuple[Key, ...]
    alarms: tuple[AlarmKey, ...] = ()
    kept: dict[str, bytes] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.acked or self.asides or self.tombstones or self.alarms or self.kept)


class Requests:
    """Shared by the view (its thread) and the writer (its own)."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._acked: dict[int, RangeSet] = {}
        self._asides: dict[Aside, tuple[int, int, int]] = {}
        self._tombstones: dict[Key, None] = {}
        self._alarms: dict[AlarmKey, None] = {}
        self._kept: dict[str, bytes] = {}
        self._lent: dict[int, RangeSet] = {}

    def __bool__(self) -> bool:
        return bool(self._acked or self._asides or self._tombstones or self._alarms or self._kept)

    def ack(self, number: int, ranges: RangeSet) -> None:
        """Delete the atoms in these ranges."""
        if ranges:
            with self._lock:
                self._acked.setdefault(number, RangeSet()).update(ranges)

    def set_aside(self, aside: Aside, number: int, first: int, end: int) -> None:
        """Take the atom at first..end off the queue."""
        with self._lock:
            self._asides[aside] = (number, first, end)

    def forget_tombstones(self, keys: list[Key]) -> None:
        """The cloud has them."""
        with self._lock:
            self._tombstones.update(dict.fromkeys(keys))

    def forget_alarms(self, keys: list[AlarmKey]) -> None:
        """The cloud has them."""
        with self._lock:
            self._alarms.update(dict.fromkeys(keys))

    def keep(self, name: str, value: bytes) -> None:
        """Write bytes of the sync side's own under a name; of two the later one counts."""
        with self._lock:
            self._kept[name] = value

    def kept(self, prefix: str) -> dict[str, bytes]:
        """What is asked to be written and is not yet."""
        with self._lock:
            return {name: value for name, value in self._kept.items() if name.startswith(prefix)}

    def lend(self, number: int, ranges: RangeSet) -> None:
        """These are under way to the cloud: the budget leaves them alone."""
        with self._lock:
            self._lent[number] = ranges

    def lent(self) -> dict[int, RangeSet]:
        """What is under way, by epoch number."""
        with self._lock:
            return dict(self._lent)

    def hidden(self, number: int) -> RangeSet:
        """What the view no longer shows although the file still has it."""
        with self._lock:
            ranges = self._acked[number].copy() if number in self._acked else RangeSet()
            ranges.update(self._aside(number))
            return ranges

    def asides(self, number: int) -> RangeSet:
        """What is to be set aside and has no tombstone yet."""
        with self._lock:
            return RangeSet(self._aside(number))

    def _aside(self, number: int) -> Iterator[Range]:
        return ((first, end) for at, first, end in self._asides.values() if at == number)

    def forgotten(self) -> set[Key]:
        """Tombstones that the view no longer shows."""
        with self._lock:
            return set(self._tombstones)

    def forgotten_alarms(self) -> set[AlarmKey]:
        """Alarms that the view no longer shows."""
        with self._lock:
            return set(self._alarms)

    def look(self) -> Asked:
        """Everything asked so far."""
        with self._lock:
            return Asked(
                {number: ranges.copy() for number, ranges in self._acked.items()},
                tuple(self._asides),
                tuple(self._tombstones),
                tuple(self._alarms),
                dict(self._kept),
            )

    def done(self, asked: Asked, gone: dict[int, RangeSet]) -> None:
        """The file no longer has these; what an ack named over the commit's limit stays asked."""
        with self._lock:
            for number, ranges in gone.items():
                left = self._acked.get(number, RangeSet()) - ranges
                self._acked[number] = left
                if not left:
                    del self._acked[number]
            for aside in asked.asides:
                self._asides.pop(aside, None)
            for key in asked.tombstones:
                self._tombstones.pop(key, None)
            for alarm in asked.alarms:
                self._alarms.pop(alarm, None)
            for name, value in asked.kept.items():
                if self._kept.get(name) == value:
                    del self._kept[name]
