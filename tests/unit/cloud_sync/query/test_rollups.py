"""Roll-ups in the cloud: stored once, counted as given up, marked in every answer, and less than what was taken."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cloud_sync.http_api.arrow import rows_arrow
from cloud_sync.http_api.formats import rows_csv, rows_json
from cloud_sync.ingest.check import ALONE, KIND, SHAPE, Checked, Shape, check, compare
from cloud_sync.query.engine import Question
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, ZERO, Cloud
from wire.codec import encode
from wire.merge import merge
from wire.reading import CellState, Kind, LossReason, Tick, Tombstone
from wire.rollup import roll_up
from wire.segment import Segment
from wire.series import SeriesDef, SeriesSet
from wire.sync.outcomes import AlreadyStored, Corrupt, Stored

EPOCH = 11
S = 1_000_000
START_US = (NOW_US + ZERO) // (60 * S) * 60 * S - ZERO  # a whole minute of boottime


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path)
    cloud.hello("gw-a", (EPOCH, 0))
    cloud.catalog.put_series_sets("gw-a", [CLIMATE])
    return cloud


def ticks(minute: int, count: int = 60) -> list[Tick]:
    """A reading a second; temperature 20.00 … 20.59, no humidity at first, pressure constant."""
    start_ms = (START_US + ZERO) // 1000 + 60_000 * minute
    return [
        Tick(
            CLIMATE.id,
            start_ms + 1000 * at,
            (2000 + at, 5000 + minute, 100_000),
            bytes([0, CellState.TIMEOUT if minute == 1 else 0, 0]),
        )
        for at in range(count)
    ]


def raw(cloud: Cloud, minute: int) -> Segment:
    """The 180 cells of a minute."""
    return cloud.segment_of(180 * minute, CLIMATE, ticks(minute))


def rolled(cloud: Cloud, *minutes: int) -> Segment:
    segment = roll_up([raw(cloud, minute) for minute in minutes])
    assert segment is not None
    return segment


def question(first: int = 0, end: int = 10) -> Question:
    return Question("gw-a", (), START_US + 60 * S * first, START_US + 60 * S * end)


def json_of(cloud: Cloud) -> dict[str, Any]:
    answer = json.loads(rows_json(cloud.query.rows(question(), 10_000), "ms"))
    return {series["name"]: series for series in answer["series"]}


def ledger(cloud: Cloud) -> tuple[int, int, int, int]:
    (line,) = cloud.catalog.ledger("gw-a")
    return line.taken, line.stored, line.tombstoned, line.pending


def test_one_is_stored_once_and_counts_as_given_up(cloud: Cloud) -> None:
    both = rolled(cloud, 0, 1)
    assert cloud.store_segment("gw-a", EPOCH, both) == Stored()
    assert ledger(cloud) == (360, 0, 360, 0)
    assert cloud.store_segment("gw-a", EPOCH, both) == AlreadyStored()
    cloud.lose("gw-a", Tombstone(EPOCH, 0, 360, LossReason.THINNED, 360))
    assert ledger(cloud) == (360, 0, 360, 0)
    assert len(cloud.query.rows(question(), 100).rows) == 6


def test_the_tombstone_may_come_first(cloud: Cloud) -> None:
    cloud.lose("gw-a", Tombstone(EPOCH, 0, 360, LossReason.THINNED, 360))
    assert cloud.store_segment("gw-a", EPOCH, rolled(cloud, 0, 1)) == Stored()
    assert cloud.store_segment("gw-a", EPOCH, rolled(cloud, 0, 1)) == AlreadyStored()
    assert ledger(cloud) == (360, 0, 360, 0)


def test_what_is_stored_raw_stays_and_the_rest_is_there_rolled_up(cloud: Cloud) -> None:
    """An ack was lost, the agent restarted, and then its disk filled: never an Overlap, and nothing of it is lost."""
    assert cloud.store_segment("gw-a", EPOCH, raw(cloud, 0)) == Stored()
    assert cloud.store_segment("gw-a", EPOCH, rolled(cloud, 0, 1)) == Stored()
    assert ledger(cloud) == (360, 180, 180, 0)
    assert cloud.store_segment("gw-a", EPOCH, rolled(cloud, 0, 1)) == AlreadyStored()


def test_raw_readings_that_come_later_win(cloud: Cloud) -> None:
    """From a copy of the card."""
    both = rolled(cloud, 0, 1)
    assert cloud.store_segment("gw-a", EPOCH, both) == Stored()
    assert cloud.store_segment("gw-a", EPOCH, raw(cloud, 0)) == Stored()
    assert ledger(cloud) == (360, 180, 180, 0)
    assert len(json_of(cloud)["room/temperature"]["rollups"]) == 2  # half of it is needed still
    assert cloud.store_segment("gw-a", EPOCH, raw(cloud, 1)) == Stored()
    assert ledger(cloud) == (360, 360, 0, 0)
    assert json_of(cloud)["room/temperature"]["rollups"] == []
    assert len(json_of(cloud)["room/temperature"]["times"]) == 120
    assert cloud.store_segment("gw-a", EPOCH, both) == AlreadyStored()


def test_rows_are_marked_in_every_format(cloud: Cloud) -> None:
    cloud.store_segment("gw-a", EPOCH, rolled(cloud, 0, 1))
    cloud.store_segment("gw-a", EPOCH, raw(cloud, 2))
    told = json_of(cloud)
    start_ms = START_US // 1000
    assert told["room/temperature"]["rollups"] == [
        {"time": start_ms + 60_000 * at, "count": 60, "min": 20.0, "max": 20.59} for at in (0, 1)
    ]
    assert told["room/temperature"]["values"][:3] == [20.295, 20.295, 20.0]
    assert len(told["room/temperature"]["times"]) == 62
    assert [gap["reason"] for gap in told["room/humidity"]["gaps"]] == ["timeout"]
    assert len(told["room/humidity"]["rollups"]) == 1
    answer = cloud.query.rows(question(), 10_000)
    rows = list(csv.DictReader(io.StringIO(rows_csv(answer, "ms", True).decode())))
    marked = [row for row in rows if row["count"]]
    assert [(row["series"], row["value"], row["count"], row["min"], row["max"]) for row in marked[:3]] == [
        ("room/temperature", "20.295", "60", "20.0", "20.59"),
        ("room/humidity", "50.0", "60", "50.0", "50.0"),
        ("room/pressure", "100000.0", "60", "100000.0", "100000.0"),
    ]
    assert len(marked) == 5
    table = pa.ipc.open_stream(rows_arrow(answer)).read_all().to_pylist()
    assert [row["count"] for row in table[:4]] == [60, 60, 60, 60]
    assert table[-1]["count"] is None


def test_names_of_several_bytes_per_character_are_whole_in_arrow(cloud: Cloud) -> None:
    cloud.store_segment("gw-a", EPOCH, raw(cloud, 0))
    answer = cloud.query.rows(question(), 100)
    names = ["Küche/µ", "室温/температура", ""]
    lines = tuple(replace(line, name=name) for line, name in zip(answer.lines, names, strict=True))
    table = pa.ipc.open_stream(rows_arrow(replace(answer, lines=lines))).read_all()
    assert table["series"].to_pylist() == [names[number] for number in answer.rows.lines]
    table.validate(full=True)


def test_pages_hold_each_row_once_with_its_mark(cloud: Cloud) -> None:
    cloud.store_segment("gw-a", EPOCH, rolled(cloud, 0, 1))
    token, counts = "", []
    while True:
        page = cloud.query.rows(question(), 2, token)
        counts += page.rows.counts.tolist()
        token = page.page_token
        if not token:
            break
    assert counts == [60, 60, 60, 60, -1, 60]


def test_buckets_count_what_a_roll_up_stands_for(cloud: Cloud) -> None:
    cloud.store_segment("gw-a", EPOCH, rolled(cloud, 0, 1))
    cloud.store_segment("gw-a", EPOCH, raw(cloud, 2))
    (temperature, humidity, _) = cloud.query.buckets(question(), 3600 * S).lines
    assert temperature.count.sum() == 180
    assert (temperature.minimum.min(), temperature.maximum.max()) == (20.0, 20.59)
    assert (temperature.mean * temperature.count).sum() / 180 == pytest.approx(20.295)
    assert humidity.count.sum() == 120
    assert humidity.reasons == {"timeout": 1}


def test_latest_is_a_reading(cloud: Cloud) -> None:
    cloud.store_segment("gw-a", EPOCH, raw(cloud, 0))
    cloud.store_segment("gw-a", EPOCH, rolled(cloud, 1))
    (gateway,) = cloud.catalog.gateways()
    assert cloud.query.latest(gateway)[0].value == 20.59


def test_a_negative_factor_swaps_least_and_greatest(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.hello("gw-a", (EPOCH, 0))
    minus = SeriesSet((SeriesDef("room", "depth", "m", num=-1, den=10),))
    cloud.catalog.put_series_sets("gw-a", [minus])
    start_ms = (START_US + ZERO) // 1000
    segment = roll_up([cloud.segment_of(0, minus, [Tick(minus.id, start_ms + at, (at,)) for at in range(20)])])
    assert segment is not None
    assert cloud.store_segment("gw-a", EPOCH, segment) == Stored()
    rows = cloud.query.rows(question(), 10).rows
    assert (rows.lows[0], rows.values[0], rows.highs[0]) == (-1.9, -0.95, 0.0)


def test_the_ingest_knows_their_shape(cloud: Cloud) -> None:
    shapes = {CLIMATE.id: Shape.of(CLIMATE)}
    good = check(encode(rolled(cloud, 0)))
    assert isinstance(good, Checked)
    assert compare(good, shapes) is None
    disguised = raw(cloud, 0)
    disguised.kind = Kind.ROLLUP_1
    found = check(encode(disguised))
    assert isinstance(found, Checked)
    verdict = compare(found, shapes)
    assert isinstance(verdict, Corrupt)
    assert verdict.code == SHAPE
    several = merge([rolled(cloud, 0), rolled(cloud, 1)])
    assert isinstance(check(encode(several)), Corrupt)
    assert check(encode(several)).code == ALONE  # type: ignore[union-attr]
    hourly = rolled(cloud, 0)
    hourly.kind = Kind.ROLLUP_2
    assert check(encode(hourly)).code == KIND  # type: ignore[union-attr]
    empty = Segment(hourly.priority, Kind.ROLLUP_1, hourly.anchor, (), [])
    assert check(encode(empty)).code == ALONE  # type: ignore[union-attr]
