from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.coverage import Coverage, Fit
from wire.ranges import RangeSet

# Atoms of one epoch never straddle each other: they are cut once, at commit. Borders at multiples of 4.
atoms = st.integers(0, 9).map(lambda n: (4 * n, 4 * n + 4))
messages = st.sets(atoms, min_size=1, max_size=5).map(sorted)
losses = st.tuples(st.integers(0, 9), st.integers(0, 4)).map(lambda p: (4 * p[0], 4 * (p[0] + p[1])))


@pytest.mark.parametrize(
    ("stored", "tombstoned", "message", "fit"),
    [
        ([], [], [(0, 4)], Fit.DISJOINT),
        ([(0, 4)], [], [(0, 4)], Fit.COVERED),
        ([(0, 12)], [], [(0, 4), (8, 12)], Fit.COVERED),
        ([(0, 4)], [], [(0, 4), (4, 8)], Fit.OVERLAP),
        ([(0, 4)], [], [(4, 8), (8, 12)], Fit.DISJOINT),
        ([(2, 6)], [], [(0, 4)], Fit.OVERLAP),
        ([], [(0, 4)], [(0, 4)], Fit.DISJOINT),
        ([], [(0, 4)], [(0, 4), (4, 8)], Fit.DISJOINT),
        ([(0, 4)], [(4, 8)], [(0, 4), (4, 8)], Fit.OVERLAP),
        ([(0, 4)], [(4, 8)], [(4, 8)], Fit.DISJOINT),
        ([(0, 4)], [], [(2, 2)], Fit.COVERED),
        ([], [], [], Fit.COVERED),
    ],
)
def test_classify(
    stored: list[tuple[int, int]], tombstoned: list[tuple[int, int]], message: list[tuple[int, int]], fit: Fit
) -> None:
    assert Coverage(RangeSet(stored), RangeSet(tombstoned)).classify(message) is fit


@given(st.lists(st.tuples(st.booleans(), messages, losses), max_size=20))
def test_nothing_is_stored_twice_and_nothing_goes_back(
    steps: list[tuple[bool, list[tuple[int, int]], tuple[int, int]]],
) -> None:
    coverage = Coverage()
    times_stored = dict.fromkeys(range(80), 0)
    for is_message, message, loss in steps:
        before = coverage.frame()
        if not is_message:
            coverage.tombstone(*loss)
        elif coverage.classify(message) is Fit.DISJOINT:
            coverage.store(message)
            for first, end in message:
                for seq in range(first, end):
                    times_stored[seq] += 1
        after = coverage.frame()
        assert not after.stored & after.tombstoned
        assert not before.stored - after.stored
        assert not before.tombstoned - (after.tombstoned | after.stored)
        assert coverage.end == (after.stored | after.tombstoned).end
    assert max(times_stored.values()) <= 1
    assert {seq for seq, times in times_stored.items() if times} == {
        seq for first, end in coverage.stored for seq in range(first, end)
    }


def test_the_two_sets_are_disjoint_from_the_start() -> None:
    coverage = Coverage(RangeSet([(0, 6)]), RangeSet([(4, 10)]))
    assert coverage.tombstoned == RangeSet([(6, 10)])


def test_a_frame_is_a_copy() -> None:
    coverage = Coverage()
    frame = coverage.frame()
    coverage.store([(0, 4)])
    assert frame.stored == RangeSet()


def test_storing_twice_is_our_own_mistake() -> None:
    coverage = Coverage(RangeSet([(0, 4)]))
    with pytest.raises(AssertionError):
        coverage.store([(2, 6)])


@given(st.lists(st.tuples(st.sampled_from(["raw", "rollup", "lost"]), messages, losses), max_size=20))
def test_a_roll_up_stores_no_reading_and_is_stored_while_it_tells_anything(
    steps: list[tuple[str, list[tuple[int, int]], tuple[int, int]]],
) -> None:
    coverage = Coverage()
    for kind, message, (first, end) in steps:
        before = Coverage(coverage.stored.copy(), coverage.tombstoned.copy(), coverage.rolled.copy())
        if kind == "raw":
            if coverage.classify(message) is Fit.DISJOINT:
                coverage.store(message)
        elif kind == "lost":
            coverage.tombstone(first, end)
        elif first < end:
            known = before.stored | before.rolled
            covered = all(seq in {n for a, b in known for n in range(a, b)} for seq in range(first, end))
            assert coverage.classify_rollup(first, end) is (Fit.COVERED if covered else Fit.DISJOINT)
            coverage.store_rollup(first, end)
            assert coverage.classify_rollup(first, end) is Fit.COVERED
            assert coverage.stored == before.stored
        assert not coverage.rolled - coverage.tombstoned
        assert not coverage.stored & coverage.tombstoned
        assert not before.stored - coverage.stored
        assert not before.rolled - (coverage.rolled | coverage.stored)
        again = Coverage(coverage.stored.copy(), coverage.tombstoned.copy(), coverage.rolled.copy())
        assert (again.stored, again.tombstoned, again.rolled) == (coverage.stored, coverage.tombstoned, coverage.rolled)
