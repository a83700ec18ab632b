"""Answers of the query engine as JSON and CSV. Runs on worker threads: a large answer takes milliseconds to write."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cloud_sync.errors import ObjectMissing
from cloud_sync.http_api.models import Number
from cloud_sync.query.blocks import gap_name
from cloud_sync.query.engine import BucketAnswer, RowAnswer
from wire.reading import CellState, Quality

TimeUnit = Literal["ms", "us"]
US_PER: dict[TimeUnit, int] = {"ms": 1_000, "us": 1}

ROW_COLUMNS = "time,series,value,unit,quality,gap,count,min,max"
BUCKET_COLUMNS = "time,series,unit,count,min,max,mean,gaps"

_QUALITY_NAMES = ["|".join(str(bit.name).lower() for bit in Quality if bits & bit) for bits in range(256)]
GAP_NAMES = ["" if code == CellState.VALUE else gap_name(code) for code in range(256)]


def json_bytes(answer: object) -> bytes:
    """Compact JSON; refuses NaN, which is no JSON."""
    return json.dumps(answer, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def json_numbers(values: NDArray[np.float64]) -> list[Number]:
    """Finite numbers as they are, others by the names that protobuf's JSON gives them."""
    numbers: list[Number] = values.tolist()
    for index in np.flatnonzero(~np.isfinite(values)).tolist():
        numbers[index] = "NaN" if np.isnan(values[index]) else "Infinity" if values[index] > 0 else "-Infinity"
    return numbers


def rfc3339(times_us: NDArray[np.int64], unit: TimeUnit) -> list[str]:
    """UTC with three or six decimals; the finer digits are cut, not rounded."""
    scaled = (times_us // US_PER[unit]).astype(f"datetime64[{unit}]")
    return [text + "Z" for text in np.datetime_as_string(scaled).tolist()]


def rows_json(answer: RowAnswer, unit: TimeUnit) -> bytes:
    """See `RowAnswerModel`."""
    rows = answer.rows
    series: list[dict[str, Any]] = []
    for number, line in enumerate(answer.lines):
        own = np.flatnonzero(rows.lines == number)
        states = rows.states[own]
        times = (rows.times[own] // US_PER[unit]).tolist()
        values = json_numbers(rows.values[own])
        gaps = np.flatnonzero(states != CellState.VALUE).tolist()
        for index in gaps:
            values[index] = None
        rolled = np.flatnonzero(rows.counts[own]).tolist()
        counts = np.maximum(rows.counts[own], 0).tolist()
        lows, highs = json_numbers(rows.lows[own]), json_numbers(rows.highs[own])
        series.append(
            {
                "name": line.name,
                "unit": line.unit,
                "times": times,
                "values": values,
                "quality": rows.quality[own].tolist(),
                "rollups": [
                    {"time": times[at], "count": counts[at], "min": lows[at], "max": highs[at]}
                    for at in rolled
                    if states[at] == CellState.VALUE
                ],
                "gaps": [{"time": times[index], "reason": GAP_NAMES[states[index]]} for index in gaps],
            }
        )
    return json_bytes(
        {
            "gateway": answer.question.gateway,
            "start": answer.question.start_us // US_PER[unit],
            "end": answer.question.end_us // US_PER[unit],
            "time_unit": unit,
            "series": series,
            "next_page_token": answer.page_token,
            "cursor": answer.cursor,
            "notices": answer.notices,
        }
    )


def buckets_json(answer: BucketAnswer, unit: TimeUnit) -> bytes:
    """See `BucketAnswerModel`."""
    series = []
    for held in answer.lines:
        empty = np.flatnonzero(held.count == 0).tolist()
        columns = {"min": held.minimum.tolist(), "max": held.maximum.tolist(), "mean": held.mean.tolist()}
        for column in columns.values():
            for index in empty:
                column[index] = None
        series.append(
            {
                "name": held.line.name,
                "unit": held.line.unit,
                "times": (held.times // US_PER[unit]).tolist(),
                **columns,
                "count": held.count.tolist(),
                "gaps": held.gaps.tolist(),
                "gap_reasons": held.reasons,
            }
        )
    return json_bytes(
        {
            "gateway": answer.question.gateway,
            "start": answer.question.start_us // US_PER[unit],
            "end": answer.question.end_us // US_PER[unit],
            "step_us": answer.step_us,
            "time_unit": unit,
            "series": series,
            "cursor": answer.cursor,
            "notices": answer.notices,
        }
    )


def rows_csv(answer: RowAnswer, unit: TimeUnit, header: bool) -> bytes:
    """One reading per line, by time. Floats are the shortest text that reads back to the same number.

    A roll-up has its mean as value, and count, min and max.

    Raises ObjectMissing when readings of the page cannot be read.
    """
    _whole(answer)
    rows = answer.rows
    names = [_quoted(line.name) for line in answer.lines]
    units = [_quoted(line.unit) for line in answer.lines]
    text = [ROW_COLUMNS + "\r\n"] if header else []
    text += [
        f"{time},{names[line]},{'' if state else repr(value)},{units[line]},"
        f"{_QUALITY_NAMES[quality]},{GAP_NAMES[state]},"
        f"{f'{max(count, 0)},{low!r},{high!r}' if count and not state else ',,'}\r\n"
        for time, line, value, state, quality, count, low, high in zip(
            rfc3339(rows.times, unit),
            rows.lines.tolist(),
            rows.values.tolist(),
            rows.states.tolist(),
            rows.quality.tolist(),
            rows.counts.tolist(),
            rows.lows.tolist(),
            rows.highs.tolist(),
            strict=True,
        )
    ]
    return "".join(text).encode()


def buckets_csv(answer: BucketAnswer, unit: TimeUnit) -> bytes:
    """One bucket of one series per line, by time, then in the order of the series. Raises as `rows_csv`."""
    _whole(answer)
    lines: list[tuple[int, int, str]] = []
    for number, held in enumerate(answer.lines):
        name, series_unit = _quoted(held.line.name), _quoted(held.line.unit)
        columns = (held.times, held.count, held.minimum, held.maximum, held.mean, held.gaps)
        stamps = rfc3339(held.times, unit)
        for stamp, (time, count, low, high, mean, gaps) in zip(stamps, zip(*(c.tolist() for c in columns))):
            numbers = f"{low!r},{high!r},{mean!r}" if count else ",,"
            lines.append((time, number, f"{stamp},{name},{series_unit},{count},{numbers},{gaps}\r\n"))
    lines.sort(key=lambda line: line[:2])
    return (BUCKET_COLUMNS + "\r\n" + "".join(line[2] for line in lines)).encode()


def _whole(answer: RowAnswer | BucketAnswer) -> None:
    """A table has no place to say that lines are missing. Raises ObjectMissing when they are."""
    if answer.unread:
        raise ObjectMissing(f"{answer.unread} CSV is whole or not at all. Try: format=json for the rest")


def _quoted(text: str) -> str:
    """A CSV field (RFC 4180)."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([text])
    return out.getvalue()
