"""Roll-ups against plain Python: least, greatest, mean and number per minute, gaps, doubts, scores; and their bytes."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.wire.codec_samples import ANCHOR, same
from wire.codec import decode, encode
from wire.errors import MergeRefused, SegmentCorrupt
from wire.merge import segment_of
from wire.reading import CellState, Kind, Priority, Tick
from wire.rollup import STATS, roll_up, rollup_columns, rollup_types
from wire.segment import SCORE_NONE, Block, Segment
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType

KINDS = (ValueType.INT, ValueType.FLOAT32, ValueType.FLOAT64)
SETS = {
    unit: SeriesSet(tuple(SeriesDef("s", kind.name, "Cel", value_type=kind) for kind in KINDS), unit)
    for unit in StampUnit
}
BY_ID = {each.id: each for each in SETS.values()}
FLOATS = st.sampled_from([0.0, -0.0, 1.5, -2.25, math.nan, math.inf, -math.inf, 1e30])
STATES = st.sampled_from([0, 0, 0, CellState.TIMEOUT, CellState.BAD_DATA, CellState.ABSENT])

ticks = st.builds(
    lambda stamp, whole, single, double, states, quality: Tick(
        SETS[StampUnit.MS].id, stamp, (whole, single, double), bytes(states), bytes(quality)
    ),
    st.integers(-70_000, 400_000),
    st.integers(-(1 << 63), (1 << 63) - 1),
    FLOATS,
    FLOATS,
    st.lists(STATES, min_size=3, max_size=3),
    st.lists(st.integers(0, 127), min_size=3, max_size=3),
)


def plain(taken: list[Tick], scores: list[bytes]) -> list[list[tuple[object, ...]]]:
    """Per minute, by first stamp, and column: state, least, greatest, mean, number, doubts, score."""
    order = sorted(range(len(taken)), key=lambda at: taken[at].stamp)
    minutes: dict[int, list[int]] = {}
    for at in order:
        minutes.setdefault(taken[at].stamp // 60_000, []).append(at)
    rows = []
    for members in minutes.values():
        row: list[tuple[object, ...]] = []
        for column in range(3):
            states = [(taken[at].states or b"\0\0\0")[column] for at in members]
            values = [taken[at].raw[column] for at, state in zip(members, states) if state == 0]
            finite = [value for value in values if math.isfinite(value)]
            gaps = [state for state in states if 0 < state < 128]
            state = 0 if values else gaps[0] if gaps else 255
            codes = [scores[at][column] for at in members if scores[at][column] != SCORE_NONE]
            doubts = 0
            for at in members:
                doubts |= (taken[at].quality or b"\0\0\0")[column]
            row.append((state, finite, doubts, max(codes, default=SCORE_NONE)))
        rows.append(row)
    return rows


@settings(deadline=None)
@given(st.lists(ticks, min_size=1, max_size=40), st.data())
def test_it_says_what_plain_python_says(taken: list[Tick], data: st.DataObject) -> None:
    scores = [bytes(data.draw(st.lists(st.sampled_from([0, 7, 254, 255]), min_size=3, max_size=3))) for _ in taken]
    raw = segment_of(taken, BY_ID, 1000, Priority.LOW, ANCHOR, scores=list(scores))
    if not raw.atoms:
        return
    rolled = roll_up([raw])
    expected = plain(taken, scores)
    if rolled is None:
        assert len(expected) * 3 * STATS > raw.count
        return
    assert same(decode(encode(rolled)), rolled)
    assert (rolled.kind, rolled.priority, rolled.anchor) == (Kind.ROLLUP_1, Priority.LOW, ANCHOR)
    assert (rolled.atoms[0].first, rolled.count) == (1000, raw.count)
    (block,) = rolled.blocks
    columns = rollup_columns(block)
    assert block.ticks == len(expected)
    for at, row in enumerate(expected):
        for column, (state, finite, doubts, score) in enumerate(row):
            assert isinstance(finite, list)
            told = 0 if block.states is None else int(block.states[column, at])
            assert told == state
            assert (0 if block.quality is None else int(block.quality[column, at])) == doubts
            assert block.scores is not None
            assert int(block.scores[column, at]) == score
            if state == 0:
                assert int(columns.counts[column][at]) == len(finite)
                low, high, mean = (float(x[column][at]) for x in (columns.lows, columns.highs, columns.means))
                if not finite:
                    assert all(map(math.isnan, (low, high, mean)))
                    continue
                assert (columns.lows[column][at], columns.highs[column][at]) == (
                    np.array(min(finite), columns.lows[column].dtype),
                    np.array(max(finite), columns.highs[column].dtype),
                )
                assert low <= mean <= high
                within = 1e-3 + 1e-6 * max(abs(x) for x in finite)
                assert mean == pytest.approx(statistics.fmean(float(x) for x in finite), abs=within)


def minute(unit: StampUnit = StampUnit.MS, first: int = 0, count: int = 60, step_s: int = 1) -> Segment:
    per_s = 1_000_000 // unit.us
    taken = [Tick(SETS[unit].id, at * step_s * per_s, (at, at / 2, at / 4)) for at in range(count)]
    return segment_of(taken, BY_ID, first, Priority.NORMAL, ANCHOR)


@pytest.mark.parametrize("unit", list(StampUnit))
def test_a_minute_is_a_minute_in_either_unit(unit: StampUnit) -> None:
    rolled = roll_up([minute(unit, count=150)])
    assert rolled is not None
    (block,) = rolled.blocks
    assert (block.stamps * unit.us).tolist() == [0, 60_000_000, 120_000_000]
    columns = rollup_columns(block)
    assert columns.counts[0].tolist() == [60, 60, 30]
    assert columns.means[0].tolist() == [29.5, 89.5, 134.5]
    assert columns.highs[2].tolist() == [14.75, 29.75, 37.25]


def test_atoms_become_one_and_it_is_much_smaller() -> None:
    parts = [minute(first=at * 15, count=5) for at in range(12)]
    rolled = roll_up(parts)
    assert rolled is not None
    assert (rolled.atoms[0].first, rolled.atoms[0].end) == (0, 180)
    assert len(encode(rolled)) * 5 < sum(len(encode(part)) for part in parts)


def test_what_is_no_run_of_raw_atoms_is_refused() -> None:
    first, gap = minute(first=0), minute(first=190)
    with pytest.raises(MergeRefused, match="follow each other"):
        roll_up([first, gap])
    rolled = roll_up([first])
    assert rolled is not None
    with pytest.raises(MergeRefused, match="raw atoms"):
        roll_up([rolled])
    later = minute(first=180)
    later.anchor = replace(ANCHOR, uncertainty_us=1)
    with pytest.raises(MergeRefused):
        roll_up([first, later])


def test_it_is_never_larger_than_what_it_stands_for() -> None:
    assert roll_up([minute(count=3, step_s=60)]) is None
    assert roll_up([minute(count=4, step_s=1)]) is not None
    wide = SeriesSet(tuple(SeriesDef("s", f"c{at}", "Cel") for at in range(1025)))
    taken = [Tick(wide.id, at, tuple(range(1025))) for at in range(8)]
    assert roll_up([segment_of(taken, {wide.id: wide}, 0, Priority.LOW, ANCHOR)]) is None


def test_its_columns_have_the_types_of_its_series() -> None:
    rolled = roll_up([minute()])
    assert rolled is not None
    names = [column.dtype.name for column in rolled.blocks[0].columns]
    types = [ValueType.INT, ValueType.FLOAT32, ValueType.FLOAT64]
    assert names[:3] == names[3:6] == ["int64", "float32", "float64"]
    assert names[6:] == ["float64"] * 3 + ["int64"] * 3
    assert rollup_types(types) == (*types, *types, *[ValueType.FLOAT64] * 3, *[ValueType.INT] * 3)


def test_a_block_of_odd_width_is_no_roll_up() -> None:
    with pytest.raises(SegmentCorrupt, match="5 columns"):
        rollup_columns(Block(1, np.zeros(1, np.int64), [np.zeros(1, np.int64)] * 5))
