"""Columns as rows of integers: counts as they are or by their common step, floats as decimals or by their bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt
from wire.series import DTYPES, ValueType
from wire.varint import I64, Reader, varint

DECIMALS_MAX = 9
# Below, every integer is a float of that kind. Above, a decimal is finer than the floats are, and saves nothing.
FLOAT32_EXACT_MAX, FLOAT64_EXACT_MAX = float(1 << 24), float(1 << 53)
FLOAT32_ROUNDING = 2.0**-24  # a float32 is no further than this share of it from what it was rounded from
PROBES = 12  # values of a column that are tried before all of it is
TRIES = 2  # numbers of decimals, from what the probes need
STEP_BITS_MIN = 40  # what a step must save, about, to pay for its entry
STEP_READINGS_MIN = 8

_POWERS = 10.0 ** np.arange(DECIMALS_MAX + 1)

Column = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Step:
    """How the integers y of a column become its values: y * size + base for counts, y / 10^size for floats."""

    size: int
    base: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """The columns of one value type as one matrix; those with fewer numbers end in zeros."""

    value_type: ValueType
    places: list[int]
    numbers: NDArray[Any]


def gather(columns: list[Column], types: list[ValueType], lengths: I64 | None, width: int) -> list[Group]:
    """Columns by value type. lengths: of each column, where they are not all `width`."""
    groups = []
    by_type: list[list[int]] = [[] for _ in ValueType]
    for place, value_type in enumerate(types):
        by_type[value_type].append(place)
    for value_type, places in zip(ValueType, by_type):
        if not places:
            continue
        joined = np.concatenate(columns if len(places) == len(types) else [columns[place] for place in places])
        if lengths is None:
            numbers = joined.reshape(len(places), width)
        else:
            numbers = np.zeros((len(places), width), joined.dtype)
            numbers[np.arange(width) < lengths[places, None]] = joined
        groups.append(Group(value_type, places, numbers))
    return groups


def to_rows(groups: list[Group], rows: I64) -> None:
    """Write each column into its row: counts, or float bits in an order that follows the numbers."""
    for group in groups:
        rows[group.places] = _to_int(group.numbers)


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
    moves = (away[:, 1:] != away[:, :-1]).sum(axis=1)
    saved = moves * np.log2(np.maximum(steps, 1)).astype(np.int64)
    worth = ((steps > 1) & (saved >= STEP_BITS_MIN)).nonzero()[0]
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


def find_decimals(groups: list[Group]) -> list[tuple[int, Step, I64]]:
    """For each float column that holds decimals of up to nine places: its place, its step, its integers."""
    floats = [group for group in groups if group.value_type is not ValueType.INT and group.numbers.size]
    if not floats:
        return []
    narrow = np.array([group.value_type is ValueType.FLOAT32 for group in floats for _ in group.places])
    places = [place for group in floats for place in group.places]
    with np.errstate(all="ignore"):  # NaN, infinities and the very large are no decimals, and say so below
        numbers = np.concatenate([group.numbers for group in floats], dtype=np.float64)
        return [(places[at], step, integers) for at, step, integers in _decimals(numbers, narrow)]


def _decimals(numbers: NDArray[np.float64], narrow: NDArray[np.bool_]) -> list[tuple[int, Step, I64]]:
    """By row: the fewest places d for which every number is rint(number * 10^d) / 10^d, bit by bit, if any.

    narrow: rows that were float32.
    """
    probes = numbers[:, :: max(1, numbers.shape[1] // PROBES), None]
    away = probes * _POWERS
    np.rint(away, out=away)
    away /= _POWERS
    away -= probes
    np.abs(away, out=away)
    near = np.abs(probes) * np.where(narrow, FLOAT32_ROUNDING, 0.0)[:, None, None]
    fits = (away <= near).all(axis=1)
    tops = np.abs(numbers).max(axis=1, keepdims=True)  # NaN where there is one, and then over any limit
    fits &= tops * _POWERS < np.where(narrow, FLOAT32_EXACT_MAX, FLOAT64_EXACT_MAX)[:, None]
    rows, decimals = fits.nonzero()
    if not len(rows):
        return []
    tried = np.arange(len(rows)) - rows.searchsorted(rows) < TRIES  # the first of each row
    rows, decimals = rows[tried], decimals[tried]
    chosen, powers = numbers[rows], _POWERS[decimals, None]
    whole = np.rint(chosen * powers) + 0.0  # -0.0 is no integer: it becomes 0.0, and differs below
    back = whole / powers
    np.copyto(back, back.astype(np.float32), where=narrow[rows, None])
    exact = (back.view(np.int64) == chosen.view(np.int64)).all(axis=1).nonzero()[0]
    if not len(exact):
        return []
    fewest = dict(zip(rows[exact[::-1]].tolist(), exact[::-1].tolist()))
    return [(row, Step(int(decimals[at])), whole[at].astype(np.int64)) for row, at in fewest.items()]


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
