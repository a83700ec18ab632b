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
    bins = Bins((3, 1), rows, rate)
    found = []
    for place, value in enumerate(values, 1):
        bins.add(np.array([1]), np.array([[value]]))
        if place % rows == 0:
            found.append(bins.take(slice(1, 2))[0, 0])
    np.testing.assert_allclose(found, plain(values, rows, rate))
    assert np.isnan([bins.mean[0, 0], bins.high[2, 0]]).all(), "no other group was touched"


def test_a_spike_down_and_a_spike_up_are_kept() -> None:
    bins = Bins((1, 2), 3, 0.1)
    for _ in range(3):
        bins.add(slice(None), np.array([[10.0, 10.0]]))
    bins.take(slice(None))
    bins.add(slice(None), np.array([[11.0, 11.0]]))
    bins.add(slice(None), np.array([[2.0, 19.0]]))
    bins.add(slice(None), np.array([[9.0, 9.0]]))
    assert bins.take(slice(None)).tolist() == [[2.0, 19.0]]
