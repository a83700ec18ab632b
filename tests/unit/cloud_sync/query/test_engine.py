"""What a reader sees: definitions and offsets that change, bounds that help, snapshots, damage, the newest value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cloud_sync.errors import QueryInvalid
from cloud_sync.query import engine as engine_module
from cloud_sync.query import rows as rows_module
from cloud_sync.query.engine import QueryEngine, Question
from cloud_sync.query.parameters import SERIES_MAX
from tests.unit.cloud_sync.query.seeding import ANCHOR, BOOT_US, CLIMATE, NOW_US, Cloud, HandClock, tick
from wire.clock import Anchor
from wire.reading import CellState, Quality
from wire.series import SeriesDef, SeriesSet, ValueType

S = 1_000_000
ONE = SeriesSet((SeriesDef("room", "temperature", "Cel", num=1, den=100),))


def test_a_better_clock_moves_what_is_stored_without_rewriting_it(cloud: Cloud) -> None:
    wrong = Anchor(BOOT_US, NOW_US - 3_600 * S, False, 0)
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US + n * S, 2100 + n) for n in range(5)]}, wrong)
    keys = list(cloud.store.list())
    early = cloud.query.rows(Question("g"), 100).rows
    assert early.times.tolist() == [NOW_US - 3_600 * S + n * S for n in range(5)]
    assert set(early.quality.tolist()) == {Quality.CLOCK_UNSURE}

    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US + 9 * S, 2109)]}, ANCHOR)
    rows = cloud.query.rows(Question("g"), 100).rows
    assert rows.times.tolist() == [NOW_US + n * S for n in (0, 1, 2, 3, 4, 9)]
    assert set(rows.quality.tolist()) == {0}
    assert cloud.query.buckets(Question("g", (), NOW_US - 4_000 * S, NOW_US), S).lines[0].times.tolist() == []
    assert set(keys) < set(cloud.store.list())


def test_each_reading_is_converted_by_the_definition_it_was_taken_under(cloud: Cloud) -> None:
    finer = SeriesSet((SeriesDef("room", "temperature", "Cel", num=1, den=1000, off=-500),))
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US, 2150)]})
    cloud.push("g", 1, {finer: [tick(finer, NOW_US + S, 22_500)]})
    answer = cloud.query.rows(Question("g", ("room/temperature",)), 100)
    assert answer.rows.values.tolist() == [21.5, 22.0]
    assert len(answer.lines) == 1
    assert len(answer.lines[0].definitions) == 2
    assert answer.notices == ()


def test_a_changed_unit_makes_two_lines_and_a_notice(cloud: Cloud) -> None:
    kelvin = SeriesSet((SeriesDef("room", "temperature", "K", num=1, den=100),))
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US, 2150)]})
    cloud.push("g", 1, {kelvin: [tick(kelvin, NOW_US + S, 29_465)]})
    answer = cloud.query.buckets(Question("g", ("room/temperature",), NOW_US, NOW_US + 60 * S), 60 * S)
    assert {(line.line.unit, line.mean[0]) for line in answer.lines} == {("Cel", 21.5), ("K", 294.65)}
    assert len(answer.notices) == 1
    assert "'Cel'" in answer.notices[0]
    assert "'K'" in answer.notices[0]


def test_floats_come_back_bit_for_bit(cloud: Cloud) -> None:
    level = SeriesSet((SeriesDef("tank", "level", "", value_type=ValueType.FLOAT64),))
    values = [math.pi, -0.0, 5e-324, math.inf, 1.7976931348623157e308]
    cloud.push("g", 1, {level: [tick(level, NOW_US + n * S, value) for n, value in enumerate(values)]})
    rows = cloud.query.rows(Question("g"), 100).rows
    assert rows.values.tobytes() == np.array(values).tobytes()


def test_the_range_is_half_open(cloud: Cloud) -> None:
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US + n * S, n) for n in range(3)]})
    assert cloud.query.rows(Question("g", (), NOW_US, NOW_US + 2 * S), 10).rows.times.tolist() == [NOW_US, NOW_US + S]
    with pytest.raises(QueryInvalid, match="not after start"):
        cloud.query.rows(Question("g", (), NOW_US, NOW_US), 10)


def test_pages_show_the_moment_of_the_first(cloud: Cloud) -> None:
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US + n * S, n) for n in range(6)]})
    first = cloud.query.rows(Question("g"), 4)
    cloud.push("g", 2, {ONE: [tick(ONE, NOW_US + n * S, 100 + n) for n in range(6)]})
    second = cloud.query.rows(Question("g"), 4, first.page_token)
    assert second.rows.values.tolist() == [0.04, 0.05]
    assert second.page_token == ""
    late = cloud.query.rows(Question("g", cursor=second.cursor), 100)
    assert len(late.rows) == 6


def test_a_page_reads_no_further_than_it_must(cloud: Cloud) -> None:
    for minute in range(20):
        start_us = NOW_US + minute * 60 * S
        cloud.push("g", 1, {ONE: [tick(ONE, start_us + n * S, n) for n in range(60)]})
    page = cloud.query.rows(Question("g"), 100)
    assert len(page.rows) == 100
    assert cloud.query.cache.misses <= 3


def test_the_cache_keeps_to_its_bytes(cloud: Cloud) -> None:
    for minute in range(20):
        start_us = NOW_US + minute * 60 * S
        cloud.push("g", 1, {CLIMATE: [tick(CLIMATE, start_us + n * S, n, n, n) for n in range(60)]})
    query = QueryEngine(cloud.catalog, cloud.store, cache_bytes=20_000)
    question = Question("g", (), NOW_US, NOW_US + 1200 * S)
    first = query.buckets(question, 60 * S)
    again = query.buckets(question, 60 * S)
    assert 0 < query.cache.bytes_held <= 20_000
    assert query.cache.misses > 20
    assert first.lines[0].mean.tolist() == again.lines[0].mean.tolist()
    roomy = cloud.query.cache
    for _ in range(2):
        cloud.query.buckets(question, 60 * S)
    assert (roomy.misses, roomy.hits) == (20, 20)


def test_bounds_say_value_limit_and_what_helps(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US, 1)]})
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US + S, 1)]})
    with pytest.raises(QueryInvalid, match=r"points; the most is 200000\. Take a larger step"):
        cloud.query.buckets(Question("g", (), 0, NOW_US), S)
    with pytest.raises(QueryInvalid, match="step 999 us is under 1000 us"):
        cloud.query.buckets(Question("g", (), NOW_US, NOW_US + S), 999)
    with pytest.raises(QueryInvalid, match="The nearest is 'room/temperature'"):
        cloud.query.rows(Question("g", ("room/temprature",)), 10)
    monkeypatch.setattr(engine_module, "MESSAGES_MAX", 1)
    with pytest.raises(QueryInvalid, match="holds 2 messages; the most for one query is 1"):
        cloud.query.buckets(Question("g", (), NOW_US, NOW_US + 2 * S), S)
    many = SeriesSet(tuple(SeriesDef("wide", f"c{n}", "") for n in range(SERIES_MAX + 1)))
    cloud.push("h", 1, {many: [tick(many, NOW_US, *range(SERIES_MAX + 1))]})
    with pytest.raises(QueryInvalid, match="65 series in one query; the most is 64"):
        cloud.query.rows(Question("h"), 10)


def test_a_page_ends_early_rather_than_read_for_ever(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(10):
        cloud.push("g", 1, {ONE: [tick(ONE, NOW_US + n * S, n)]})
    monkeypatch.setattr(rows_module, "MESSAGES_PER_PAGE", 3)
    page = cloud.query.rows(Question("g"), 100)
    assert len(page.rows) == 3
    values = page.rows.values.tolist()
    while page.page_token:
        page = cloud.query.rows(Question("g"), 100, page.page_token)
        values += page.rows.values.tolist()
    assert values == [n / 100 for n in range(10)]

    for epoch in range(2, 7):
        cloud.push("h", epoch, {ONE: [tick(ONE, NOW_US, epoch)]})
    monkeypatch.setattr(rows_module, "MESSAGES_MAX", 4)
    with pytest.raises(QueryInvalid, match="overlap at one moment"):
        cloud.query.rows(Question("h"), 100)


def test_a_missing_pack_is_told_and_the_rest_answered(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US, 1)]})
    (key,) = cloud.store.list()
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US + S, 2)]})
    cloud.store.delete(key)
    for _ in range(2):
        answer = cloud.query.rows(Question("g"), 10)
        assert answer.rows.values.tolist() == [0.02]
        assert answer.notices == (answer.unread,)
        assert key in answer.unread
        buckets = cloud.query.buckets(Question("g", start_us=NOW_US, end_us=NOW_US + 10 * S), S)
        assert buckets.lines[0].count.tolist() == [1]
        assert key in buckets.notices[0]
    assert [1 for record in caplog.records if f"pack={key}" in record.getMessage()] == [1], "the log says it once"


def test_a_cursor_of_another_catalog_is_refused(cloud: Cloud) -> None:
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US, 1)]})
    cursor = cloud.query.rows(Question("g"), 10).cursor
    cloud.catalog.begin_generation()
    with pytest.raises(QueryInvalid, match="another question"):
        cloud.query.rows(Question("g", cursor=cursor), 10)


def test_latest_keeps_the_value_beside_a_later_gap(cloud: Cloud) -> None:
    gap = bytes([CellState.NO_ANSWER, 0, CellState.ABSENT])
    batch = [tick(CLIMATE, NOW_US - 9 * S, 2150, 4000, 101_300), tick(CLIMATE, NOW_US - 8 * S, 0, 4100, 0, states=gap)]
    cloud.push("g", 1, {CLIMATE: batch})
    row = cloud.catalog.gateway("g")
    assert row is not None
    by_name = {latest.line.name: latest for latest in cloud.query.latest(row)}
    temperature = by_name["room/temperature"]
    assert (temperature.time_us, temperature.state) == (NOW_US - 8 * S, CellState.NO_ANSWER)
    assert (temperature.value_time_us, temperature.value) == (NOW_US - 9 * S, 21.5)
    assert (by_name["room/humidity"].value, by_name["room/humidity"].time_us) == (41.0, NOW_US - 8 * S)
    assert (by_name["room/pressure"].value, by_name["room/pressure"].time_us) == (101_300.0, NOW_US - 9 * S)


def test_latest_looks_back_a_day_and_further_only_when_that_holds_nothing(cloud: Cloud) -> None:
    slow = SeriesSet((SeriesDef("meter", "energy", "J"),))
    gone = SeriesSet((SeriesDef("old", "value", ""),))
    cloud.push("g", 1, {gone: [tick(gone, NOW_US - 90_000 * S, 1)]})
    cloud.push("g", 1, {slow: [tick(slow, NOW_US - 80_000 * S, 5)]})
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US - S, 2100)]})
    row = cloud.catalog.gateway("g")
    assert row is not None
    found = {latest.line.name: latest.value for latest in cloud.query.latest(row)}
    assert found == {"room/temperature": 21.0, "meter/energy": 5.0, "old/value": None}

    adrift = Anchor(0, 5 * S, False, 0)  # a gateway that believes in 1970
    cloud.push("h", 1, {ONE: [tick(ONE, NOW_US, 2200)]}, adrift)
    row = cloud.catalog.gateway("h")
    assert row is not None
    (latest,) = cloud.query.latest(row)
    assert (latest.value, latest.quality) == (22.0, Quality.CLOCK_UNSURE)


def test_latest_is_the_newest_by_time_not_by_arrival(cloud: Cloud) -> None:
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US - S, 2300)]})
    cloud.push("g", 1, {ONE: [tick(ONE, NOW_US - 60 * S, 1000)]})  # backlog, later
    assert isinstance(cloud.clock, HandClock)
    row = cloud.catalog.gateway("g")
    assert row is not None
    (latest,) = cloud.query.latest(row)
    assert latest.value == 23.0


def test_latest_is_not_hidden_by_a_boot_whose_clock_was_ahead(cloud: Cloud) -> None:
    ahead = Anchor(BOOT_US, NOW_US + 315_576_000 * 1_000_000, False, 0)
    cloud.push("g", 1, {CLIMATE: [tick(CLIMATE, NOW_US - 60_000_000, 1, 1, 1)]}, ahead)
    cloud.push("g", 2, {CLIMATE: [tick(CLIMATE, NOW_US - 1_000_000, 2, 2, 2)]})
    row = cloud.catalog.gateway("g")
    assert row is not None
    assert {found.time_us for found in cloud.query.latest(row)} == {NOW_US - 1_000_000}
