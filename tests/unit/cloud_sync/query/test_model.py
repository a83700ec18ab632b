"""The engine against a model in plain Python: rows, pages, buckets and cursors over random messages."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_sync.query.engine import Question, RowAnswer
from cloud_sync.query.rows import Rows
from tests.unit.cloud_sync.query.seeding import ANCHOR, BOOT_US, NOW_US, Cloud
from wire.clock import Anchor
from wire.reading import CellState, Quality, Tick
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType

A = SeriesDef("room", "temperature", "Cel", num=1, den=100)
A_FINER = SeriesDef("room", "temperature", "Cel", num=1, den=1000, off=7)
A_KELVIN = SeriesDef("room", "temperature", "K", num=1, den=100)
B = SeriesDef("room", "level", "", value_type=ValueType.FLOAT64)
C = SeriesDef("door", "open", "")
SETS = (
    SeriesSet((A, B)),
    SeriesSet((A_FINER,), StampUnit.US),
    SeriesSet((C, A_KELVIN, B)),
)
SPAN_MS = 40  # a small span, so that stamps collide
_gateways = itertools.count()

States = st.sampled_from([CellState.VALUE] * 6 + [CellState.NO_ANSWER, CellState.TIMEOUT, CellState.ABSENT])


@dataclass(frozen=True)
class Cell:
    time_us: int
    name: str
    unit: str
    value: float
    state: int
    quality: int


@st.composite
def ticks(draw: st.DrawFn, series_set: SeriesSet) -> list[Tick]:
    made = []
    for _ in range(draw(st.integers(1, 6))):
        stamp = BOOT_US // series_set.stamp_unit.us + draw(st.integers(0, SPAN_MS * 1000 // series_set.stamp_unit.us))
        raw: list[int | float] = []
        for definition in series_set.series:
            floats = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, -0.0]))
            raw.append(draw(st.integers(-5000, 5000) if definition.value_type is ValueType.INT else floats))
        states = bytes(draw(States) for _ in series_set.series)
        if all(state == CellState.ABSENT for state in states):
            states = bytes(len(states))
        quality = bytes(draw(st.sampled_from([0, 0, 1, 36])) for _ in series_set.series)
        made.append(Tick(series_set.id, stamp, tuple(raw), states, quality))
    return made


Messages = st.lists(
    st.tuples(
        st.sampled_from([1, 2]), st.dictionaries(st.sampled_from(SETS), st.integers(), min_size=1).map(list)
    ).flatmap(lambda pair: st.tuples(st.just(pair[0]), st.fixed_dictionaries({s: ticks(s) for s in pair[1]}))),
    min_size=1,
    max_size=6,
)


def push_all(cloud: Cloud, gateway: str, messages: list[tuple[int, dict[SeriesSet, list[Tick]]]]) -> list[Cell]:
    """Store them; return what a reader must find. Epoch 2 has no trusted clock and runs 17 us behind."""
    cells = []
    for epoch, batches in messages:
        offset_us = NOW_US - BOOT_US - (17 if epoch == 2 else 0)
        anchor = ANCHOR if epoch == 1 else Anchor(BOOT_US, BOOT_US + offset_us, False, 0)
        cloud.push(gateway, epoch, batches, anchor)
        for series_set, own in batches.items():
            for tick in own:
                time_us = tick.stamp * series_set.stamp_unit.us + offset_us
                for definition, raw, state, quality in zip(series_set.series, tick.raw, tick.states, tick.quality):
                    if state == CellState.ABSENT:
                        continue
                    number = float(raw)
                    if definition.num != 1 or definition.off or definition.den != 1:
                        number = (number * definition.num + definition.off) / definition.den
                    value = number if state == CellState.VALUE else math.nan
                    unsure = Quality.CLOCK_UNSURE if epoch == 2 else 0
                    cells.append(Cell(time_us, definition.name, definition.unit, value, state, quality | unsure))
    return cells


def found(answer: RowAnswer, rows: Rows) -> list[Cell]:
    lines = [answer.lines[index] for index in rows.lines.tolist()]
    columns = zip(rows.times.tolist(), rows.values.tolist(), rows.states.tolist(), rows.quality.tolist())
    return [Cell(time, line.name, line.unit, value, *rest) for line, (time, value, *rest) in zip(lines, columns)]


def key(cell: Cell) -> tuple[object, ...]:
    return (cell.time_us, cell.name, cell.unit, repr(cell.value), cell.state, cell.quality)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=Messages, size=st.integers(1, 7), low=st.integers(0, SPAN_MS), width=st.integers(1, SPAN_MS))
def test_pages_bring_each_row_once_in_order(
    shared_cloud: Cloud, messages: list[tuple[int, dict[SeriesSet, list[Tick]]]], size: int, low: int, width: int
) -> None:
    gateway = f"g{next(_gateways)}"
    cells = push_all(shared_cloud, gateway, messages)
    names = ("room/temperature", "door/open", "room/level")
    start, end = NOW_US + low * 1000, NOW_US + (low + width) * 1000
    known = tuple(n for n in names if any(n == d.name for _, batches in messages for s in batches for d in s.series))
    question = Question(gateway, known, start, end)
    expected = sorted(key(cell) for cell in cells if start <= cell.time_us < end)

    whole = shared_cloud.query.rows(question, 10_000)
    assert whole.page_token == ""
    assert sorted(key(cell) for cell in found(whole, whole.rows)) == expected

    paged, token = [], ""
    for _ in range(len(expected) + 2):
        page = shared_cloud.query.rows(question, size, token)
        assert len(page.rows) <= size
        paged += found(page, page.rows)
        token = page.page_token
        if not token:
            break
    assert [key(cell) for cell in paged] == [key(cell) for cell in found(whole, whole.rows)]
    assert [cell.time_us for cell in paged] == sorted(cell.time_us for cell in paged)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=Messages, step=st.integers(1, 15), low=st.integers(0, SPAN_MS), width=st.integers(1, SPAN_MS))
def test_buckets_are_those_of_the_model(
    shared_cloud: Cloud, messages: list[tuple[int, dict[SeriesSet, list[Tick]]]], step: int, low: int, width: int
) -> None:
    gateway = f"g{next(_gateways)}"
    cells = push_all(shared_cloud, gateway, messages)
    start, end, step_us = NOW_US + low * 1000, NOW_US + (low + width) * 1000, step * 1000
    answer = shared_cloud.query.buckets(Question(gateway, (), start, end), step_us)

    model: dict[tuple[str, str], dict[int, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if start <= cell.time_us < end:
            model[cell.name, cell.unit][cell.time_us // step_us * step_us].append(cell)
    for line in answer.lines:
        buckets = model.pop((line.line.name, line.line.unit), {})
        assert line.times.tolist() == sorted(buckets)
        reasons: dict[str, int] = defaultdict(int)
        for index, time in enumerate(line.times.tolist()):
            values = [cell.value for cell in buckets[time] if math.isfinite(cell.value)]
            assert line.count[index] == len(values)
            assert line.gaps[index] == len(buckets[time]) - len(values)
            if values:
                assert (line.minimum[index], line.maximum[index]) == (min(values), max(values))
                assert line.mean[index] == pytest.approx(sum(values) / len(values), rel=1e-12, abs=1e-9)
            else:
                assert math.isnan(line.mean[index])
            for cell in buckets[time]:
                if not math.isfinite(cell.value):
                    reasons[CellState(cell.state).name.lower() if cell.state else "not_finite"] += 1
        assert line.reasons == reasons
    assert not model


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=Messages, later=Messages)
def test_a_cursor_brings_what_is_new_and_nothing_else(
    shared_cloud: Cloud,
    before: list[tuple[int, dict[SeriesSet, list[Tick]]]],
    later: list[tuple[int, dict[SeriesSet, list[Tick]]]],
) -> None:
    gateway = f"g{next(_gateways)}"
    push_all(shared_cloud, gateway, before)
    shared_cloud.catalog.put_series_sets(gateway, SETS)
    cursor = shared_cloud.query.rows(Question(gateway), 10_000).cursor
    assert len(shared_cloud.query.rows(Question(gateway, cursor=cursor), 10_000).rows) == 0
    cells = push_all(shared_cloud, gateway, later)
    fresh = shared_cloud.query.rows(Question(gateway, cursor=cursor), 10_000)
    assert sorted(map(key, found(fresh, fresh.rows))) == sorted(map(key, cells))
    assert len(shared_cloud.query.rows(Question(gateway, cursor=fresh.cursor), 10_000).rows) == 0
