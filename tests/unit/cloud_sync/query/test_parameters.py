"""Times, durations and tokens: what is taken, and that anything else is refused with what helps."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.errors import QueryInvalid
from cloud_sync.query.parameters import (
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    TIME_US_MAX,
    TIME_US_MIN,
    bounded_page_size,
    parse_duration,
    parse_time,
)
from cloud_sync.query.tokens import pack_token, question_id, unpack_token

NOW_US = 1_780_000_000_000_000


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("2026-05-28T20:26:40Z", NOW_US),
        ("2026-05-28t20:26:40.5z", NOW_US + 500_000),
        ("2026-05-28T22:26:40+02:00", NOW_US),
        ("2026-05-28T22:26:40 02:00", NOW_US),  # '+' that arrived as a space
        ("2026-05-28 20:26:40.000001Z", NOW_US + 1),
        ("1780000000", NOW_US),
        ("1780000000.25", NOW_US + 250_000),
        ("1780000000000", NOW_US),
        ("1780000000000.5", NOW_US + 500),
        ("1780000000000001", NOW_US + 1),
        ("0", 0),
        ("-1.5", -1_500_000),
        ("now", NOW_US),
        ("-15m", NOW_US - 900_000_000),
        ("now-1h", NOW_US - 3_600_000_000),
        ("-500ms", NOW_US - 500_000),
    ],
)
def test_times_people_write(text: str, time_us: int) -> None:
    assert parse_time("start", text, NOW_US) == time_us


NO_TIMES = ["", "yesterday", "2026-05-28", "2026-05-28T20:26:40", "2026-13-01T00:00:00Z", "9999-01-01T00:00:00Z"]
NO_TIMES += ["1e9", "nan", "-", "now-", "99999999999999999", "١٢٣", "2026-05-28T20:26:40+99:99", "--5m", "\x00"]


@pytest.mark.parametrize("text", NO_TIMES)
def test_times_that_are_none_are_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(QueryInvalid, match="RFC 3339"):
        parse_time("start", text, NOW_US)


@given(st.integers(TIME_US_MIN, TIME_US_MAX))
def test_every_microsecond_survives_rfc3339(time_us: int) -> None:
    seconds, rest = divmod(time_us, 1_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:06d}Z"
    assert parse_time("start", text, NOW_US) == time_us


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with suppress(QueryInvalid):
        assert TIME_US_MIN <= parse_time("start", text, NOW_US) <= TIME_US_MAX


@pytest.mark.parametrize(
    ("text", "span_us"),
    [("10s", 10_000_000), ("500ms", 500_000), ("1.5h", 5_400_000_000), ("1d", 86_400_000_000), ("2", 2_000_000)],
)
def test_durations(text: str, span_us: int) -> None:
    assert parse_duration("step", text) == span_us


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1w", "1 s", "s", "999999999999d", "1.2.3s", "inf"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(QueryInvalid, match="step"):
        parse_duration("step", text)


def test_page_size_is_coerced_to_the_maximum() -> None:
    assert bounded_page_size(None) == bounded_page_size(0) == PAGE_SIZE_DEFAULT
    assert bounded_page_size(10**9) == PAGE_SIZE_MAX
    with pytest.raises(QueryInvalid, match="negative"):
        bounded_page_size(-1)


@given(st.integers(-(1 << 62), 1 << 62), st.text(max_size=20))
def test_tokens_come_back(number: int, text: str) -> None:
    asked = question_id("rows", "gateway")
    assert unpack_token("page_token", pack_token(asked, number, text), asked, int, str) == [number, text]


@given(st.text(max_size=60))
def test_foreign_tokens_are_refused(token: str) -> None:
    with pytest.raises(QueryInvalid, match="page_token"):
        unpack_token("page_token", token, question_id("rows"), int)


def test_a_token_is_bound_to_its_question() -> None:
    token = pack_token(question_id("rows", "one"), 5)
    with pytest.raises(QueryInvalid, match="another question"):
        unpack_token("page_token", token, question_id("rows", "two"), int)
