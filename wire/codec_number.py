"""Columns as rows of integers: counts as they are or by their common step, floats as decimals or by their bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt
from wire.series import DTYPES, ValueType
from wire.varint import I64, Reader, varint

DECIMALS_MAX = 9
# Below, every integer is a float of that kind. Above, a decimal is finer than the floats are, and saves nothing.
EXACT_MAX = {np.dtype(np.float32): float(1 << 24), np.dtype(np.float64): float(1 << 53)}
PROBES = 6  # values of a column that are tried before all of it is
TRIES = 3  # numbers of decimals, from what the probes need
STEP_BITS_MIN = 40  # what a step must save, about, to pay for its entry
STEP_READINGS_MIN = 8

_POWERS = 10.0 ** np.arange(DECIMALS_MAX + 1)

Column = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Step:
    """How the integers y of a column become its values: y * size + base for counts, y / 10^size for floats."""

    size: int
    base: int = 0


def to_rows(columns: list[Column], rows: I64) -> None:
    """Write each column into the start of its row: counts, or float bits in an order that follows the numbers."""
    width = rows.shape[1]
    if all(len(column) == width for column in columns):
        for dtype in {column.dtype for column in columns}:
            places = [place for place, column in enumerate(columns) if column.dtype == dtype]
            rows[places] = _to_int(np.stack([columns[place] for place in places]))
        return
    for row, column in zip(rows, columns):
        row[: len(column)] = _to_int(column)


def _to_int(numbers: Column) -> I64:
    if numbers.dtype == np.int64:
        return numbers.view(np.int64)
    if numbers.dtype == np.float64:
        bits = numbers.view(np.int64)
        return bits ^ (bits >> np.int64(63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))
    narrow = numbers.view(np.int32).astype(np.int64)
    return narrow ^ (narrow >> np.int64(63) & np.int64(0x7FFF_FFFF))


def from_row(row: I64, value_type: ValueType, step: Step | None) -> Column:
    """One column back."""
    if value_type is ValueType.INT:
        if step is None:
            return row
        return (row.view(np.uint64) * np.uint64(step.size) + np.uint64(step.base)).view(np.int64)
    if step is not None:
        with np.errstate(over="ignore"):  # a hostile decimal may be over float32
            decimals: Column = (row.astype(np.float64) / _POWERS[step.size]).astype(DTYPES[value_type])
            return decimals
    if value_type is ValueType.FLOAT32:
        narrow = row.astype(np.int32)
        return np.where(narrow < 0, narrow ^ np.int32(0x7FFF_FFFF), narrow).view(np.float32)
    return np.where(row < 0, row ^ np.int64(0x7FFF_FFFF_FFFF_FFFF), row).view(np.float64)


def find_steps(rows: I64, counts: list[int], lengths: I64 | None) -> dict[int, Step]:
    """Divide the rows in `counts` that have a common step, in place. A meter that counts by 10 W, say."""
    width = rows.shape[1]
    if width < STEP_READINGS_MIN or not counts:
        return {}
    every = np.array(counts)
    probes = rows[every, :: max(1, width // PROBES)]
    places = every[np.gcd.reduce(np.abs(probes[:, 1:] - probes[:, :1]), axis=1) > 1]
    if not len(places):
        return {}
    chosen = rows[places]
    away = np.abs(chosen - chosen[:, :1])
    if lengths is not None:
        away[np.arange(width) >= lengths[places, None]] = 0
    steps = np.gcd.reduce(away, axis=1)
    moves = np.count_nonzero(away[:, 1:] != away[:, :-1], axis=1)
    saved = moves * np.log2(np.maximum(steps, 1)).astype(np.int64)
    worth = np.flatnonzero((steps > 1) & (saved >= STEP_BITS_MIN))
    if not len(worth):
        return {}
    whole, rest = np.divmod(chosen[worth], steps[worth, None])
    exact = ((rest == rest[:, :1]) | (away[worth] == 0)).all(axis=1)  # a difference over int64 has no true step
    places, worth = places[worth[exact]], worth[exact]
    rows[places] = whole[exact]
    return {
        place: Step(step, base)
        for place, step, base in zip(places.tolist(), steps[worth].tolist(), rest[exact, 0].tolist())
    }


def find_decimals(columns: list[Column], width: int) -> list[tuple[int, Step, I64]]:
    """For each float column that holds decimals of up to nine places: its place, its step, its integers."""
    found = []
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        places = [place for place, column in enumerate(columns) if column.dtype == dtype and len(column)]
        if places:
            numbers = np.zeros((len(places), width), dtype)
            for row, place in zip(numbers, places):
                row[: len(columns[place])] = columns[place]
            with np.errstate(all="ignore"):  # NaN, infinities and the very large are no decimals, and say so below
                found += [(places[at], step, integers) for at, step, integers in _decimals(numbers)]
    return found


def _decimals(numbers: NDArray[np.generic]) -> list[tuple[int, Step, I64]]:
    """By row: the fewest places d for which every number is rint(number * 10^d) / 10^d, bit by bit, if any."""
    dtype = numbers.dtype
    wide = numbers.astype(np.float64)
    probes = wide[:, :: max(1, numbers.shape[1] // PROBES), None]
    scaled = np.rint(probes * _POWERS)
    fits = ((scaled / _POWERS).astype(dtype) == probes).all(axis=1) & (np.abs(scaled) < EXACT_MAX[dtype]).all(axis=1)
    bits = numbers.view(np.int32 if dtype == np.float32 else np.int64)
    places = fits.argmax(axis=1)
    rows = np.flatnonzero(fits.any(axis=1))
    found = []
    for _ in range(TRIES):
        if not len(rows):
            break
        powers = _POWERS[places[rows], None]
        whole = np.rint(wide[rows] * powers) + 0.0  # -0.0 is no integer: it becomes 0.0, and differs below
        back = (whole / powers).astype(dtype).view(bits.dtype)
        exact = (back == bits[rows]).all(axis=1)
        kept = np.flatnonzero(exact & (np.abs(whole) < EXACT_MAX[dtype]).all(axis=1))
        integers = whole[kept].astype(np.int64)
        found += [(int(row), Step(int(places[row])), numbers) for row, numbers in zip(rows[kept], integers)]
        rows = rows[~exact]
        places[rows] += 1
        rows = rows[places[rows] <= DECIMALS_MAX]
    return found


def encode_steps(steps: dict[int, Step], types: list[ValueType]) -> bytes:
    """The list of steps, by column."""
    parts = [varint(len(steps))]
    previous = -1
    for place in sorted(steps):
        parts += (varint(place - previous - 1), varint(steps[place].size))
        if types[place] is ValueType.INT:
            parts.append(varint(steps[place].base))
        previous = place
    return b"".join(parts)


def decode_steps(reader: Reader, types: list[ValueType]) -> dict[int, Step]:
    """Inverse of `encode_steps`."""
    steps: dict[int, Step] = {}
    place = -1
    for _ in range(reader.varint(len(types), "number of steps")):
        place += 1 + reader.varint(len(types), "gap between steps")
        if place >= len(types):
            raise SegmentCorrupt(f"a step for column {place} of {len(types)}")
        if types[place] is ValueType.INT:
            steps[place] = Step(reader.varint(what="step"), reader.varint(what="base of a step"))
        else:
            steps[place] = Step(reader.varint(DECIMALS_MAX, "decimals"))
    return steps
