"""What callers write (times, durations, bounds), made into integers or refused with what helps."""

from __future__ import annotations

import re
from datetime import datetime

from cloud_sync.errors import QueryInvalid
from wire.clock import US_PER_S

SERIES_MAX = 64  # lines in one answer; a console page draws fewer
POINTS_MAX = 200_000  # series x buckets in one answer: about 10 MB of JSON
MESSAGES_MAX = 20_000  # messages one query may decode
PAGE_SIZE_DEFAULT = 10_000
PAGE_SIZE_MAX = 100_000
STEP_US_MIN = 1_000
TIME_US_MAX = 1 << 53  # year 2255; every microsecond below it is exact in JSON's doubles
TIME_US_MIN = -(1 << 40)  # a gateway without a clock may date readings a few days before 1970

_UNITS_US = {"us": 1, "ms": 1_000, "s": US_PER_S, "m": 60 * US_PER_S, "h": 3_600 * US_PER_S, "d": 86_400 * US_PER_S}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(us|ms|s|m|h|d)?", re.ASCII)
_EPOCH = re.compile(r"-?\d{1,16}(?:\.\d{1,9})?", re.ASCII)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?([Zz]|[+ -]\d\d:\d\d)", re.ASCII)
_TIME_HELP = "Write RFC 3339 (2026-01-31T12:00:00Z), epoch seconds or milliseconds, or a span back from now (-15m)"
_EPOCH_S_MAX = 10**11  # below: seconds (to the year 5138); from there to 10**14 milliseconds, then microseconds


def parse_duration(name: str, text: str) -> int:
    """`10s`, `500ms`, `1.5h`, `1d`, or a bare number of seconds: microseconds, at least 1. Raises QueryInvalid."""
    match = _DURATION.fullmatch(text.strip())
    span_us = round(float(match[1]) * _UNITS_US[match[2] or "s"]) if match else 0
    if not 1 <= span_us <= TIME_US_MAX:
        raise QueryInvalid(f"{name} {text[:40]!r} is no duration. Write a number and a unit: 500ms, 10s, 5m, 1h, 1d")
    return span_us


def parse_time(name: str, text: str, now_us: int) -> int:
    """A moment in wall-clock microseconds since 1970. Raises QueryInvalid with the accepted forms.

    Takes RFC 3339 with an offset, epoch seconds, milliseconds or microseconds (told apart by size), `now`, and
    `-15m` or `now-15m`.
    """
    text = text.strip()
    if text == "now":
        return now_us
    back = text.removeprefix("now")
    if back.startswith("-") and _DURATION.fullmatch(back[1:]) and not back[1:].replace(".", "").isdigit():
        return now_us - parse_duration(name, back[1:])
    if _EPOCH.fullmatch(text):
        time_us = _from_epoch(text)
    elif match := _RFC3339.fullmatch(text):
        time_us = _from_rfc3339(name, text, match[1])
    else:
        raise QueryInvalid(f"{name} {text[:40]!r} is no time. {_TIME_HELP}")
    if not TIME_US_MIN <= time_us <= TIME_US_MAX:
        raise QueryInvalid(f"{name} {text[:40]!r} lies outside 1969-12-19 to 2255-06-05. {_TIME_HELP}")
    return time_us


def _from_epoch(text: str) -> int:
    whole, _, fraction = text.partition(".")
    size = abs(int(whole))
    unit_us = US_PER_S if size < _EPOCH_S_MAX else 1_000 if size < 1_000 * _EPOCH_S_MAX else 1
    sign = -1 if whole.startswith("-") else 1
    return int(whole) * unit_us + sign * round(float(f"0.{fraction or 0}") * unit_us)


def _from_rfc3339(name: str, text: str, zone: str) -> int:
    if zone.startswith(" "):  # a '+' that was not percent-encoded arrives as a space
        text = text[: -len(zone)] + "+" + zone[1:]
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise QueryInvalid(f"{name} {text[:40]!r} is no time: {error}. {_TIME_HELP}") from error
    epoch = datetime.fromisoformat("1970-01-01T00:00:00Z")
    span = moment - epoch
    return (span.days * 86_400 + span.seconds) * US_PER_S + span.microseconds


def bounded_page_size(asked: int | None, default: int = PAGE_SIZE_DEFAULT, maximum: int = PAGE_SIZE_MAX) -> int:
    """AIP-158: absent or zero is the default, more than the maximum is the maximum. Raises QueryInvalid below 0."""
    if asked is not None and asked < 0:
        raise QueryInvalid(f"page_size {asked} is negative. Leave it out for {default}; the most is {maximum}")
    return min(asked or default, maximum)
