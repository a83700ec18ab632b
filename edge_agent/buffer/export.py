"""The outbox' readings as lines: CSV or JSON, as they were taken, dated by the anchor of their atom."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from edge_agent.buffer.source import Source, atoms, series_sets
from edge_agent.outbox.keys import number_of
from wire.codec import decode
from wire.errors import WireError
from wire.reading import CellState, Kind, Quality
from wire.rollup import RollupColumns, rollup_columns
from wire.scores import decode_scores
from wire.segment import Block, Segment
from wire.series import SeriesSet

COLUMNS = (
    *("time", "series", "value", "unit", "gap", "quality", "score", "synchronised", "boot", "seq", "delivered"),
    *("count", "min", "max"),  # of roll-ups only
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which readings: patterns of series (none: all), wall time from <= t < to, what waits, what the cloud has."""

    series: tuple[str, ...] = ()
    from_us: int | None = None
    to_us: int | None = None
    waiting: bool = True
    history: bool = True

    def has(self, name: str) -> bool:
        """Whether a series is among them."""
        return not self.series or any(fnmatchcase(name, pattern) for pattern in self.series)


@dataclass(slots=True)
class Exported:
    """How much was written, and the atoms that could not be read."""

    rows: int = 0
    damaged: int = 0


def export(source: Source, choice: Choice, out: TextIO, *, as_json: bool) -> Exported:
    """Write a head and a line per reading (CSV), or a JSON object per line. Boot by boot, class by class, by time.

    Raises:
        OutboxCorrupt, StateUnusable, RequestRefused: the outbox cannot be read on.
        OSError: `out` takes no more.
    """
    done = Exported()
    sets = series_sets(source)
    table = csv.writer(out, lineterminator="\n")
    if not as_json:
        table.writerow(COLUMNS)
    for atom_id, owed, _, data in atoms(source):
        if not (choice.waiting if owed else choice.history):
            continue
        try:
            segment = decode(data)
        except WireError:
            done.damaged += 1
            continue
        for row in _rows(segment, sets, choice):
            row |= {"boot": number_of(atom_id), "delivered": not owed}
            if as_json:
                out.write(json.dumps({name: row[name] for name in COLUMNS}) + "\n")
            else:
                table.writerow([_cell(row[name]) for name in COLUMNS])
            done.rows += 1
    return done


def _rows(segment: Segment, sets: dict[int, SeriesSet], choice: Choice) -> Iterator[dict[str, Any]]:
    """The cells of an atom in Seq order: its ticks by (stamp, set), the cells of a tick in column order.

    Those of a roll-up have its first Seq."""
    seq = segment.atoms[0].first if segment.atoms else 0
    offset_us = segment.anchor.offset_us
    ticks = sorted(
        (int(stamp) * block.stamp_unit.us, number, at)
        for number, block in enumerate(segment.blocks)
        for at, stamp in enumerate(block.stamps)
    )
    rolled = segment.kind is not Kind.RAW
    values = [_values(block, sets.get(block.set_id), rolled=rolled) for block in segment.blocks]
    for stamp_us, number, at in ticks:
        block = segment.blocks[number]
        time_us = stamp_us + offset_us
        chosen = (choice.from_us is None or choice.from_us <= time_us) and (
            choice.to_us is None or time_us < choice.to_us
        )
        for column, (name, unit, numbers, scores, stats) in enumerate(values[number]):
            state = 0 if block.states is None else int(block.states[column, at])
            if state == CellState.ABSENT:
                continue
            if chosen and choice.has(name):
                quality = 0 if block.quality is None else int(block.quality[column, at])
                score = None if scores is None or np.isnan(scores[at]) else float(scores[at])
                yield {
                    "time": (EPOCH + timedelta(microseconds=time_us)).isoformat() if _datable(time_us) else None,
                    "series": name,
                    "value": None if state else _number(numbers[at]),
                    "unit": unit,
                    "gap": _gap(state),
                    "quality": [flag.name.lower() for flag in Quality if quality & flag and flag.name],
                    "score": None if score is None else round(score, 6),
                    "synchronised": segment.anchor.synchronised,
                    "seq": seq,
                    **({"count": None, "min": None, "max": None} if stats is None or state else stats(at)),
                }
            seq += 0 if rolled else 1


_Column = tuple[str, str, Any, Any, Callable[[int], dict[str, Any]] | None]


def _values(block: Block, defined: SeriesSet | None, *, rolled: bool) -> list[_Column]:
    """Per series: name, unit, values in that unit, scores; of a roll-up, whose values are means, the rest."""
    scores = None if block.scores is None else decode_scores(block.scores)
    rollup = rollup_columns(block) if rolled else None
    found: list[_Column] = []
    for column, raw in enumerate(block.columns if rollup is None else rollup.means):
        own = None if scores is None else scores[column]
        known = defined is not None and column < len(defined.series)
        series = defined.series[column] if defined is not None and known else None
        convert = _plain if series is None else series.values
        name, unit = (f"{block.set_id:016x}/{column}", "") if series is None else (series.name, series.unit)
        stats = None if rollup is None else _stats(rollup, column, convert)
        found.append((name, unit, convert(raw), own, stats))
    return found


def _plain(raw: NDArray[np.generic]) -> NDArray[np.float64]:
    return raw.astype(np.float64)


def _stats(
    rollup: RollupColumns, column: int, convert: Callable[[NDArray[np.generic]], NDArray[np.float64]]
) -> Callable[[int], dict[str, Any]]:
    """A negative factor of the definition swaps least and greatest."""
    counts = rollup.counts[column].tolist()
    ends = np.sort(np.array([convert(rollup.lows[column]), convert(rollup.highs[column])]), axis=0)
    return lambda at: {"count": counts[at], "min": _number(ends[0, at]), "max": _number(ends[1, at])}


def _number(value: np.float64) -> float | str:
    """JSON has no word for what is not finite."""
    return float(value) if np.isfinite(value) else str(float(value))


def _gap(state: int) -> str | None:
    if not state:
        return None
    return CellState(state).name.lower() if state in CellState._value2member_map_ else f"gap_{state}"


def _datable(time_us: int) -> bool:
    return abs(time_us) < 250_000_000_000_000_000  # the year 9892; an anchor may claim anything


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return " ".join(value) if isinstance(value, list) else value
