"""A bin keeps the extreme that lies further from the moving mean as it was when the bin began."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.detect.bins import Bins


def plain(values: list[float], rows: int, rate: float) -> list[float]:
    """The same in scalars."""
    mean: float | None = None
    found, middle, held = [], 0.0, list[float]()
    for place, value in enumerate(values, 1):
        if not np.isnan(value):
            if mean is None:
                mean = middle = value
            mean += rate * (value - mean)
            held.append(value)
        if place % rows == 0:
            if held:
                low, high = min(held), max(held)
                found.append(low if middle - low > high - middle else high)
            else:
                found.append(float("nan"))
            held = []
            middle = mean if mean is not None else 0.0
    return found


@given(
    st.lists(st.one_of(st.integers(-50, 50).map(float), st.just(float("nan"))), max_size=60),
    st.integers(2, 7),
    st.sampled_from([0.1, 0.5, 1.0]),
)
@settings(deadline=None)
def test_like_the_plain_way(values: list[float], rows: int, rate: float) -> None:
    bins = Bins((1, 1), rows, rate)
    found = [full for value in values if (full := bins.add(np.array([[value]]))) is not None]
    np.testing.assert_allclose([bin_[0, 0] for bin_ in found], plain(values, rows, rate))


def test_a_row_may_be_a_bin() -> None:
    bins = Bins((1, 1), 1, 0.1)
    assert [bins.add(np.array([[value]])) for value in (3.0, 4.0)] == [[[3.0]], [[4.0]]]


def test_a_spike_down_and_a_spike_up_are_kept() -> None:
    bins = Bins((1, 2), 3, 0.1)
    for _ in range(3):
        bins.add(np.array([[10.0, 10.0]]))
    bins.add(np.array([[11.0, 11.0]]))
    bins.add(np.array([[2.0, 19.0]]))
    full = bins.add(np.array([[9.0, 9.0]]))
    assert full is not None
    assert full.tolist() == [[2.0, 19.0]]
