"""Windows against a calendar walked minute by minute, and on the days when the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sync.window import Window, look, parse_window

OSLO = ZoneInfo("Europe/Oslo")
HOUR = 3600.0


def local(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=OSLO).astimezone(UTC)  # type: ignore[misc,arg-type]


def open_minutes(windows: list[Window], first: datetime, end: datetime) -> list[str]:
    """When it opens and closes, found by asking every minute."""
    told = []
    before = look(windows, first, OSLO)[0]
    while first < end:
        is_open, until = look(windows, first, OSLO)
        assert until > first
        if is_open is not before:
            told.append(f"{'open' if is_open else 'shut'} {first.astimezone(OSLO):%d %H:%M %Z}")
            before = is_open
        first += timedelta(minutes=1)
    return told


def test_a_night_of_the_week() -> None:
    windows = [parse_window("0 22 * * mon-fri", 8 * HOUR)]
    assert open_minutes(windows, local(2026, 11, 27, 12), local(2026, 12, 1, 12)) == [
        "open 27 22:00 CET",
        "shut 28 06:00 CET",
        "open 30 22:00 CET",
        "shut 01 06:00 CET",
    ]


def test_when_it_changes_is_told() -> None:
    windows = [parse_window("30 1 1,15 jan-jun/2 *", HOUR), parse_window("0 12 * * sun", 2 * HOUR)]
    assert look(windows, local(2026, 1, 1, 2), OSLO) == (True, local(2026, 1, 1, 2, 30))
    assert look(windows, local(2026, 1, 1, 3), OSLO) == (False, local(2026, 1, 4, 12))
    assert look(windows, local(2026, 1, 14, 3), OSLO) == (False, local(2026, 1, 15, 1, 30))
    assert look([parse_window("0 0 29 2 *", HOUR)], local(2096, 3, 1), OSLO) == (False, local(2104, 2, 29))


def test_two_kinds_of_day_join_as_in_crontab() -> None:
    window = parse_window("0 0 13 * fri", HOUR)
    assert [day for day in range(1, 16) if window.begins_on(datetime(2026, 11, day))] == [6, 13]  # noqa: DTZ001


def test_a_start_in_the_hour_that_is_skipped_comes_an_hour_later() -> None:
    windows = [parse_window("30 2 * * *", HOUR)]  # 29 March 2026, 02:00 is 03:00
    assert open_minutes(windows, local(2026, 3, 29), local(2026, 3, 29, 12)) == [
        "open 29 03:30 CEST",
        "shut 29 04:30 CEST",
    ]


def test_in_the_hour_that_is_lived_twice_the_first_start_counts() -> None:
    windows = [parse_window("30 2 * * *", HOUR)]  # 25 October 2026, 03:00 is 02:00
    assert open_minutes(windows, local(2026, 10, 25), local(2026, 10, 25, 12)) == [
        "open 25 02:30 CEST",
        "shut 25 02:30 CET",
    ]


def test_a_window_lasts_real_time_over_the_change() -> None:
    windows = [parse_window("0 22 * * *", 8 * HOUR)]
    assert "shut 29 07:00 CEST" in open_minutes(windows, local(2026, 3, 28, 20), local(2026, 3, 29, 12))
    assert "shut 25 05:00 CET" in open_minutes(windows, local(2026, 10, 24, 20), local(2026, 10, 25, 12))


@settings(max_examples=60, deadline=None)
@given(
    minute=st.integers(0, 59),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=4),
    lasts=st.integers(1, 3 * 24 * 60),
    at=st.integers(0, 366 * 24 * 60),
)
def test_what_is_told_agrees_with_a_simple_reading(minute: int, hours: set[int], lasts: int, at: int) -> None:
    """In UTC, where no hour is special: open when a start lies within `lasts` before."""
    windows = [parse_window(f"{minute} {','.join(map(str, sorted(hours)))} * * *", lasts * 60)]
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=at)
    starts = [now.replace(hour=hour, minute=minute) + timedelta(days=day) for hour in hours for day in range(-5, 3)]
    expected = any(start <= now < start + timedelta(minutes=lasts) for start in starts)
    is_open, until = look(windows, now, UTC)
    assert is_open is expected
    if not is_open:
        assert until == min(start for start in starts if start > now)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("0 22 * *", "4 fields, not five"),
        ("60 * * * *", 'minute "60" is not 0 to 59'),
        ("0 24 * * *", 'hour "24"'),
        ("0 0 0 * *", 'day of the month "0"'),
        ("0 0 * foo *", "or jan to dec"),
        ("0 0 * * fri-mon", "fri comes after mon"),
        ("0 */0 * * *", "is no step"),
        ("0 0 31 2 *", "never comes"),
        ("0 ٣ * * 8", "is not 0 to"),
    ],
)
def test_a_start_that_is_none_is_told(start: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_window(start, HOUR)
