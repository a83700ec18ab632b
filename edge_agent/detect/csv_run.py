"""A model over a CSV file, as it would have run live: one row in, one row out, nothing of a row known before it."""

from __future__ import annotations

import codecs
import csv
import errno
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from edge_agent.detect.contract import Fit, Model
from edge_agent.detect.errors import ModelRefused
from edge_agent.detect.lane import Lane
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Session

if TYPE_CHECKING:
    from _csv import Reader

HEADER = ("stamp", "score", "threshold", "alarm", "top")
STAMP_NAMES = ("timestamp", "datetime", "time", "date", "stamp", "ts")
FIRST_LINE_MAX = 1 << 20  # characters that are looked at to find the delimiter
STEP_US = 1_000_000  # between rows whose stamps cannot be read
MISSING = frozenset({"", "nan", "na", "null", "none", "n/a", "?"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a file gave."""

    rows: int
    alarms: int  # rows with alarm 1
    calibration_rows: int
    unreadable: int  # cells that are no number; taken as missing
    wordy: tuple[str, ...]  # columns without any number
    failed_runs: int
    problem: str


def score_csv(
    model: Model,
    source: Path,
    target: Path,
    *,
    columns: Sequence[str] = (),
    stamp_column: str = "",
    calibration_rows: int = 0,
    threshold: float = 0.0,
) -> Outcome:
    """Score `source` into `target`. Empty `columns`: all but the stamp; empty `stamp_column`: the first whose name
    says time, else rows count as seconds. Cells that are empty or no number are missing values. Text is UTF-8, or
    UTF-16 with its mark; where cells do not end at commas, a number may have one in the place of its point.

    Raises:
        ModelRefused: a column is not there or twice, the model does not take these columns, the file has no header,
            or a line is no CSV; rows before that line are in `target`.
        OSError: a file cannot be read or written.
    """
    if target.exists() and source.samefile(target):
        raise ModelRefused(f"{target} is the input too. Try: another --out")
    with _readable(source), _opened(source) as file:
        delimiter = _delimiter(file)
        rows = _rows(source, csv.reader(file, delimiter=delimiter, strict=True))
        header = [name.strip() for name in next(rows, [])]
        if not columns and all(_is_value(name) for name in header):
            raise ModelRefused(f"{source}:1: no header line with the names of the columns")
        stamp_at = _stamp_place(header, stamp_column)
        chosen = list(columns) or [name for place, name in enumerate(header) if place != stamp_at and name]
        places = [_place(header, name, source) for name in chosen]
        unit = model.manifest.units[0]
        kind = model.manifest.sensor_kinds[0]
        runner = Runner(Session(model), calibration_rows=calibration_rows, threshold=threshold)
        lane = runner.add([Fit(name, unit, kind) for name in chosen])
        with target.open("w", newline="", encoding="utf-8") as out:
            point = "," if delimiter != "," else "."
            return _score(lane, rows, out, names=chosen, places=places, stamp_at=stamp_at, point=point)


def _score(
    lane: Lane,
    rows: Iterator[list[str]],
    out: TextIO,
    *,
    names: list[str],
    places: list[int],
    stamp_at: int,
    point: str,
) -> Outcome:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    count = alarms = unreadable = 0
    wordy = np.ones(len(places), dtype=bool)
    threshold = lane.runner.threshold
    limit = f"{threshold:g}"
    stamp_us = -1
    for row in rows:
        if not row:
            continue
        cells = [row[place].strip() if place < len(row) else "" for place in places]
        values = np.array([_number(cell.replace(point, ".", 1)) for cell in cells])
        wordy &= np.isnan(values)
        unreadable += sum(math.isnan(value) and cell.lower() not in MISSING for value, cell in zip(values, cells))
        stamp = row[stamp_at] if 0 <= stamp_at < len(row) else str(count)
        stamp_us = max(stamp_us, _stamp_us(stamp, stamp_us))
        verdict = lane.step(stamp_us, values)
        score = float(np.nanmax(verdict.scores)) if not np.isnan(verdict.scores).all() else 0.0
        alarm = score >= threshold
        writer.writerow((stamp, f"{score:.6g}", limit, int(alarm), names[verdict.top] if verdict.top >= 0 else ""))
        count += 1
        alarms += alarm
    _, calibration = lane.rows_learnt
    without = tuple(name for name, each in zip(names, wordy) if each) if count else ()
    return Outcome(count, alarms, calibration, unreadable, without, lane.failures, lane.problem)


@contextmanager
def _readable(source: Path) -> Iterator[None]:
    """What a damaged gzip file raises, as OSError with the file's name."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise OSError(errno.EIO, f"damaged gzip data ({error})", str(source)) from error


def _rows(source: Path, reader: Reader) -> Iterator[list[str]]:
    """Rows that fit the first one; cells may be missing at the end of a row, and empty ones too many."""
    width = 0
    try:
        for row in reader:
            width = width or len(row)
            if any(cell.strip() for cell in row[width:]):
                raise ModelRefused(f"{source}:{reader.line_num}: {len(row)} cells, but the header has {width}")
            yield row
    except csv.Error as error:
        raise ModelRefused(f"{source}:{reader.line_num}: {error}") from error


def _opened(path: Path) -> TextIO:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what spreadsheets call Unicode text
    return opened(path, "rt", encoding="utf-16" if wide else "utf-8-sig", errors="replace", newline="")


def _delimiter(file: TextIO) -> str:
    """The one of comma, semicolon and tab that the first line has most of."""
    line = file.readline(FIRST_LINE_MAX)
    file.seek(0)
    return max(",;\t", key=line.count)


def _stamp_place(header: list[str], name: str) -> int:
    if name:
        if name not in header:
            raise ModelRefused(f"no column {name!r}; the file has {', '.join(header)}")
        return header.index(name)
    return next((place for place, found in enumerate(header) if found.lower() in STAMP_NAMES), -1)


def _place(header: list[str], name: str, source: Path) -> int:
    if header.count(name) != 1:
        raise ModelRefused(f"{source} has {header.count(name)} columns {name!r}; its columns are {', '.join(header)}")
    return header.index(name)


def _is_value(cell: str) -> bool:
    """Whether this is what stands below a header: a number, a date, or nothing."""
    return cell.lower() in MISSING or not math.isnan(_number(cell)) or _stamp_us(cell, 0) != STEP_US


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        return math.nan


def _stamp_us(text: str, before_us: int) -> int:
    """Microseconds of an ISO date or of seconds since any moment; a row that says neither comes a second later."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = datetime.fromisoformat(text.strip())
        except ValueError:
            return before_us + STEP_US
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return round(seconds * 1e6) if math.isfinite(seconds) and abs(seconds) < 1e12 else before_us + STEP_US
