"""Sets of integers as disjoint half-open ranges: what is stored, offered, acknowledged."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]  # first, end (half-open)

SEQ_MAX = (1 << 63) - 1  # SQLite and PostgreSQL integers are signed


class RangeSet:
    """An ordered set of disjoint, non-touching half-open integer ranges. Every method keeps that form."""

    __slots__ = ("_ends", "_firsts")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        self._firsts: list[int] = []
        self._ends: list[int] = []
        for first, end in ranges:
            self.add(first, end)

    def __iter__(self) -> Iterator[Range]:
        return iter(list(zip(self._firsts, self._ends)))

    def __len__(self) -> int:
        """Number of ranges (not of integers: see `count`)."""
        return len(self._firsts)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RangeSet) and self._firsts == other._firsts and self._ends == other._ends

    def __hash__(self) -> int:
        raise TypeError("a RangeSet changes; it cannot be hashed")

    def __repr__(self) -> str:
        return "RangeSet(" + ", ".join(f"{f}..{e}" for f, e in self) + ")"

    @property
    def count(self) -> int:
        """How many integers are in the set."""
        return sum(self._ends) - sum(self._firsts)

    @property
    def end(self) -> int:
        """One past the largest member; 0 for the empty set."""
        return self._ends[-1] if self._ends else 0

    def add(self, first: int, end: int) -> None:
        """Add first..end; an empty range adds nothing. Raises ValueError when end < first or first < 0."""
        if first < 0 or end < first:
            raise ValueError(f"range {first}..{end} is not ordered")
        if first == end:
            return
        low = bisect_left(self._ends, first)
        high = bisect_right(self._firsts, end)
        if low < high:
            first = min(first, self._firsts[low])
            end = max(end, self._ends[high - 1])
        self._firsts[low:high] = [first]
        self._ends[low:high] = [end]

    def update(self, other: Iterable[Range]) -> None:
        """Add every range of `other`."""
        for first, end in other:
            self.add(first, end)

    def discard(self, first: int, end: int) -> None:
        """Remove first..end where present."""
        if end <= first:
            return
        low = bisect_right(self._ends, first)
        high = bisect_left(self._firsts, end)
        if low >= high:
            return
        firsts, ends = [], []
        if self._firsts[low] < first:
            firsts.append(self._firsts[low])
            ends.append(first)
        if self._ends[high - 1] > end:
            firsts.append(end)
            ends.append(self._ends[high - 1])
        self._firsts[low:high] = firsts
        self._ends[low:high] = ends

    def contains(self, first: int, end: int) -> bool:
        """True when all of first..end is in the set (an empty range always is)."""
        if end <= first:
            return True
        at = bisect_right(self._firsts, first) - 1
        return at >= 0 and self._ends[at] >= end

    def overlaps(self, first: int, end: int) -> bool:
        """True when any of first..end is in the set."""
        if end <= first:
            return False
        at = bisect_right(self._ends, first)
        return at < len(self._firsts) and self._firsts[at] < end

    def copy(self) -> RangeSet:
        """An independent copy."""
        twin = RangeSet()
        twin._firsts = list(self._firsts)
        twin._ends = list(self._ends)
        return twin

    def __or__(self, other: RangeSet) -> RangeSet:
        union = self.copy()
        union.update(other)
        return union

    def __sub__(self, other: RangeSet) -> RangeSet:
        rest = self.copy()
        for first, end in other:
            rest.discard(first, end)
        return rest

    def __and__(self, other: RangeSet) -> RangeSet:
        return self - (self - other)

    def to_gaps(self) -> list[int]:
        """Alternating gap and length, for the wire: 2..5, 9..10 is [2, 3, 4, 1]."""
        flat: list[int] = []
        at = 0
        for first, end in self:
            flat += (first - at, end - first)
            at = end
        return flat

    @classmethod
    def from_gaps(cls, flat: Iterable[int]) -> RangeSet:
        """Inverse of `to_gaps`. Raises ValueError for an odd count, an empty or touching range, Seq over 2^63."""
        numbers = list(flat)
        if len(numbers) % 2:
            raise ValueError(f"{len(numbers)} numbers do not pair into gaps and lengths")
        ranges = cls()
        at = 0
        for index in range(0, len(numbers), 2):
            gap, length = numbers[index], numbers[index + 1]
            if length < 1 or gap < (1 if index else 0):
                raise ValueError(f"range {index // 2} has gap {gap}, length {length}")
            ranges._firsts.append(at + gap)
            at += gap + length
            if at > SEQ_MAX:
                raise ValueError(f"range {index // 2} ends at {at}, over {SEQ_MAX}")
            ranges._ends.append(at)
        return ranges
