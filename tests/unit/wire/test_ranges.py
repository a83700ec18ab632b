from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.ranges import SEQ_MAX, RangeSet

SMALL = 60
pairs = st.tuples(st.integers(0, SMALL), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1]))
sets = st.lists(pairs, max_size=12)


def members(ranges: RangeSet) -> set[int]:
    return {n for first, end in ranges for n in range(first, end)}


def plain(ranges: list[tuple[int, int]]) -> set[int]:
    return {n for first, end in ranges for n in range(first, end)}


def assert_normal(ranges: RangeSet) -> None:
    last_end = -1
    for first, end in ranges:
        assert last_end < first < end
        last_end = end


@given(sets, sets)
def test_it_is_a_set(left: list[tuple[int, int]], right: list[tuple[int, int]]) -> None:
    a, b = RangeSet(left), RangeSet(right)
    for got, want in (
        (a | b, plain(left) | plain(right)),
        (a - b, plain(left) - plain(right)),
        (a & b, plain(left) & plain(right)),
        (a.copy(), plain(left)),
    ):
        assert members(got) == want
        assert got.count == len(want)
        assert got.end == max(want, default=-1) + 1
        assert_normal(got)
    assert (a == b) == (plain(left) == plain(right))
    assert members(a) == plain(left), "operators leave their operands alone"


@given(sets, pairs)
def test_contains_and_overlaps(ranges: list[tuple[int, int]], probe: tuple[int, int]) -> None:
    have, wanted = plain(ranges), plain([probe])
    assert RangeSet(ranges).contains(*probe) == (wanted <= have)
    assert RangeSet(ranges).overlaps(*probe) == bool(wanted & have)


@given(sets)
def test_gaps_round_trip(ranges: list[tuple[int, int]]) -> None:
    a = RangeSet(ranges)
    assert RangeSet.from_gaps(a.to_gaps()) == a


@given(st.lists(st.integers(0, 5), max_size=8))
def test_gaps_are_checked(flat: list[int]) -> None:
    """Whatever numbers arrive: a set in normal form that says the same, or ValueError."""
    try:
        ranges = RangeSet.from_gaps(flat)
    except ValueError:
        return
    assert_normal(ranges)
    assert ranges.to_gaps() == flat


@pytest.mark.parametrize("flat", [[1], [0, 0], [0, 1, 0, 1], [SEQ_MAX, 1], [-1, 2], [3, -1]])
def test_bad_gaps(flat: list[int]) -> None:
    with pytest.raises(ValueError):
        RangeSet.from_gaps(flat)


@pytest.mark.parametrize(("first", "end"), [(-1, 2), (5, 4)])
def test_a_range_is_ordered_and_not_negative(first: int, end: int) -> None:
    with pytest.raises(ValueError):
        RangeSet([(first, end)])


def test_it_cannot_be_hashed_and_shows_itself() -> None:
    with pytest.raises(TypeError):
        hash(RangeSet())
    assert repr(RangeSet([(2, 5), (9, 10)])) == "RangeSet(2..5, 9..10)"
    assert not RangeSet()
    assert len(RangeSet([(2, 5), (9, 10)])) == 2
