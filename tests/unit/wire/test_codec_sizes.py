"""Gates on bytes, on real data in the repository: each stands 2 % over what was measured, so that a loss fails."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.wire.codec_samples import atom
from wire.codec import encode
from wire.merge import merge
from wire.segment import Block, Segment

EXCERPT = Path(__file__).parents[2] / "data" / "bme280" / "excerpt-20250407.csv"
COLUMNS = (4, 5, 6, 7, 8, 9)  # t1, RH1, p1, t2, RH2, p2, each at 0.01


def excerpt() -> list[np.ndarray]:
    """Six columns of 420 counts."""
    with EXCERPT.open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines))[1:]
    return [np.array([round(float(row[at]) * 100) for row in rows], np.int64) for at in COLUMNS]


def cut(columns: list[np.ndarray], start: int, n: int) -> Segment:
    """n rows as an atom, with stamps that are late by up to 13 ms."""
    places = np.arange(start, start + n)
    stamps = 86_400_000 + places * 1000 + places * places % 13
    return atom(6 * start, [Block(9, stamps, [column[start : start + n] for column in columns])])


def wide(columns: list[np.ndarray], n: int) -> Segment:
    """50 columns of n: the six, in windows."""
    windows = [columns[at % 6][at // 6 * 40 :][:n] for at in range(48)] + columns[:2]
    return atom(0, [Block(9, cut(columns, 0, n).blocks[0].stamps, [window[:n] for window in windows])])


def test_a_minute_of_fifty_columns() -> None:
    assert len(encode(wide(excerpt(), 60))) / 3000 <= 0.56


def test_a_minute_of_fifty_columns_without_pcodec() -> None:
    assert len(encode(wide(excerpt(), 60), pco=False)) / 3000 <= 0.56


def test_five_seconds_of_fifty_columns() -> None:
    assert len(encode(wide(excerpt(), 5))) / 250 <= 1.29


def test_one_bme280_for_a_minute_with_everything_around_it() -> None:
    assert len(encode(cut(excerpt(), 0, 60))) / 360 <= 0.78


def test_merging_seven_minutes_of_five_second_atoms() -> None:
    atoms = [cut(excerpt(), start, 5) for start in range(0, 420, 5)]
    assert len(encode(merge(atoms))) / 2520 <= 0.62


def two_heights(n: int) -> list[np.ndarray]:
    """Counts that Rice is bad at and pco good: one of two far values each, and a little noise."""
    places = np.arange(n)
    return [(places * places % 7 > 2) * 3_000_000 + places * 37 % 11]


def sevenths(n: int) -> list[np.ndarray]:
    """Float64 that is no decimal: a mean of seven counts."""
    places = np.arange(n)
    return [(places * places * 31 % 997) / 7]


@pytest.mark.parametrize(
    ("columns", "n", "pays"),
    [(two_heights, 127, False), (two_heights, 128, True), (sevenths, 31, False), (sevenths, 60, True)],
    ids=["short counts", "longer counts", "very short floats", "a minute of floats"],
)
def test_pco_is_tried_where_its_bytes_pay_for_its_time(
    columns: Callable[[int], list[np.ndarray]], n: int, pays: bool
) -> None:
    stamps = 86_400_000 + np.arange(n) * 1000
    segment = atom(0, [Block(9, stamps, columns(n))])
    saved = len(encode(segment, pco=False)) - len(encode(segment))
    assert saved > n if pays else saved == 0
