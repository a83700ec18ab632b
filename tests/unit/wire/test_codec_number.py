"""Decimals among floats: the fewest places, found wherever rounding leaves them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from wire.codec_number import Group, Step, find_decimals, layout
from wire.series import DTYPES, ValueType


def found(numbers: NDArray[np.generic]) -> tuple[dict[int, Step], list[int]]:
    """Steps of one column, and its row afterwards."""
    rows = np.zeros((1, len(numbers)), np.int64)
    group = Group(ValueType.FLOAT32 if numbers.dtype == np.float32 else ValueType.FLOAT64, np.arange(1), numbers[None])
    return find_decimals([group], rows), rows[0].tolist()


@pytest.mark.parametrize("kind", [ValueType.FLOAT32, ValueType.FLOAT64])
@pytest.mark.parametrize("places", [0, 1, 2, 3])
@pytest.mark.parametrize("first", [1, 1000, 1234, 1677, 4194, 8388, 8500, 9999])
def test_decimals_of_any_height_are_found_with_their_fewest_places(kind: ValueType, places: int, first: int) -> None:
    """Whatever larger number of places is tried at first: float32 has seven digits, float64 has fifteen."""
    integers = np.arange(first, first + 999)
    for scale in (1, 10, 100):  # of counts
        counts = integers * scale + (scale > 1)
        if not np.count_nonzero(counts % 10):
            continue
        numbers = (counts / 10.0**places).astype(DTYPES[kind])
        steps, row = found(numbers)
        assert steps == {0: Step(places)}
        assert row == counts.tolist()


@pytest.mark.parametrize("bits", range(40, 51))
@pytest.mark.parametrize("places", [1, 3, 6])
def test_decimals_of_fifteen_digits(bits: int, places: int) -> None:
    counts = 1 + np.arange(1 << bits, (1 << bits) + 9990, 10)
    assert found(counts / 10.0**places) == ({0: Step(places)}, counts.tolist())


def test_float32_is_tried_to_its_last_digit() -> None:
    counts = np.arange(12_300_000, 12_300_999)
    assert found((counts / 10.0**6).astype(np.float32)) == ({0: Step(6)}, counts.tolist())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_zeros_are_decimals_of_no_place(dtype: type) -> None:
    assert found(np.zeros(9, dtype)) == ({0: Step(0)}, [0] * 9)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, -0.0, 1e30, 1e-30, 0.1 + 2.0**-50])
@pytest.mark.parametrize("share", [1, 9])
def test_what_is_no_decimal_stays(odd: float, share: int) -> None:
    numbers = np.full(9, 21.5)
    numbers[:share] = odd
    assert found(numbers) == ({}, [0] * 9)


def test_a_layout_tells_types_places_and_runs() -> None:
    kinds = [ValueType.FLOAT64, ValueType.INT, ValueType.INT, ValueType.FLOAT32, ValueType.FLOAT64]
    told = layout(tuple(DTYPES[kind] for kind in kinds))
    assert told.of_columns == kinds
    assert [(kind, places.tolist()) for kind, places in told.places] == [
        (ValueType.INT, [1, 2]),
        (ValueType.FLOAT32, [3]),
        (ValueType.FLOAT64, [0, 4]),
    ]
    assert told.runs == bytes((1 << 2 | 2, 2 << 2, 1 << 2 | 1, 1 << 2 | 2))
