"""Sync windows: when they begin, as cron says it (local time), and how long each lasts.

A window lasts its whole length of real time, whatever the clocks do meanwhile. A start in the hour that summer time
skips comes an hour later; in the hour that is lived twice, the first one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LASTS_S_MAX = 7 * 86400.0
LOOK_AHEAD_DAYS = 8 * 366  # February 29, across a century's missing one
FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, WEEKDAYS),
)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Made by `parse_window`. `starts`: times of a day it begins at; `days` and `weekdays` as crontab(5) joins them."""

    text: str
    lasts: timedelta
    starts: tuple[time, ...]
    months: frozenset[int]
    days: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    either: bool  # both kinds of day are given: one that fits is enough

    def begins_on(self, day: date) -> bool:
        """Is there a start on this local date?"""
        fits = (day.day in self.days, day.isoweekday() % 7 in self.weekdays)
        return day.month in self.months and (any(fits) if self.either else all(fits))

    def starts_on(self, day: date, zone: tzinfo) -> list[datetime]:
        """Starts of a local date, in UTC."""
        if not self.begins_on(day):
            return []
        return sorted(datetime.combine(day, start, zone).astimezone(UTC) for start in self.starts)


def parse_window(start: str, lasts_s: float) -> Window:
    """`start`: the five fields of crontab(5): `"0 22 * * mon-fri"`. Raises ValueError with what is wrong."""
    words = start.lower().split()
    if len(words) != len(FIELDS):
        names = ", ".join(name for name, *_ in FIELDS)
        raise ValueError(f'start = "{start}" has {len(words)} fields, not five: {names}; as in "0 22 * * mon-fri"')
    minutes, hours, days, months, weekdays = (_field(word, *field) for word, field in zip(words, FIELDS, strict=True))
    starts = tuple(time(hour, minute) for hour in sorted(hours) for minute in sorted(minutes))
    either = words[2] != "*" and words[4] != "*"
    weekdays = {number % 7 for number in weekdays}
    window = Window(
        start, timedelta(seconds=lasts_s), starts, frozenset(months), frozenset(days), frozenset(weekdays), either
    )
    leap = date(2024, 1, 1)
    if not any(window.begins_on(leap + number * DAY) for number in range(7 * 366)):
        raise ValueError(f'start = "{start}" never comes')
    return window


def look(windows: Sequence[Window], now: datetime, zone: tzinfo) -> tuple[bool, datetime]:
    """Is one open, and when to look again: when it ends, or when the next one begins. `now` in UTC."""
    today = now.astimezone(zone).date()
    ends = [
        start + window.lasts
        for window in windows
        for day in _days(today - timedelta(days=window.lasts.days + 2), today + DAY)
        for start in window.starts_on(day, zone)
        if start <= now < start + window.lasts
    ]
    if ends:
        return True, max(ends)
    for day in _days(today - DAY, today + timedelta(days=LOOK_AHEAD_DAYS)):
        following = [start for window in windows for start in window.starts_on(day, zone) if start > now]
        if following:
            return False, min(following)
    raise AssertionError("parse_window refuses what never comes")


def _days(first: date, end: date) -> Iterator[date]:
    while first <= end:
        yield first
        first += DAY


def _field(text: str, name: str, low: int, high: int, names: Sequence[str]) -> set[int]:
    """One field: `*`, numbers, names, ranges, lists, steps."""
    numbers: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(first, name, low, high, names)
            end = _number(last, name, low, high, names) if dash else high if step else begin
        if begin > end:
            raise ValueError(f'{name} "{part}": {first} comes after {last}')
        if step and (not step.isdecimal() or int(step) == 0):
            raise ValueError(f'{name} "{part}": "{step}" is no step')
        numbers.update(range(begin, end + 1, int(step or 1)))
    return numbers


def _number(text: str, name: str, low: int, high: int, names: Sequence[str]) -> int:
    if text in names:
        return names.index(text) + low
    if not text.isdecimal() or not low <= int(text) <= high:
        known = f" or {names[0]} to {names[-1]}" if names else ""
        raise ValueError(f'{name} "{text}" is not {low} to {high}{known}')
    return int(text)
