"""Columns as rows of integers: counts as they are or by their common step, floats as decimals or by their bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt
from wire.series import DTYPES, ValueType
from wire.varint import I64, Reader, varints_of

DECIMALS_MAX = 9
# Below, every integer is a float of that kind. Above, a decimal is finer than the floats are, and saves nothing.
FLOAT32_EXACT_MAX, FLOAT64_EXACT_MAX = float(1 << 24), float(1 << 53)
FLOAT32_ROUNDING = 2.0**-24  # a float32 is no further than this share of it from what it was rounded from
PROBES = 12  # values of a column that are tried before all of it is
TRIES = 2  # numbers of decimals, from what the probes need
STEP_BITS_MIN = 40  # what a step must save, about, to pay for its entry
STEP_READINGS_MIN = 8

_SIGN, _ALL_BUT_SIGN = np.array(63, np.int64), np.array(0x7FFF_FFFF_FFFF_FFFF, np.int64)
_SIGN_32, _ALL_BUT_SIGN_32 = np.array(31, np.int32), np.array(0x7FFF_FFFF, np.int32)
_POWERS = 10.0 ** np.arange(DECIMALS_MAX + 1)
_TOPS = FLOAT64_EXACT_MAX / _POWERS[:, None]

Column = NDArray[np.generic]


class Step(NamedTuple):
    """How the integers y of a column become its values: y * size + base for counts, y / 10^size for floats."""

    size: int
    base: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """The columns of one value type as one matrix; those with fewer numbers end in zeros."""

    value_type: ValueType
    places: NDArray[np.intp]
    numbers: NDArray[Any]


def gather(columns: list[Column], types: list[ValueType], lengths: I64 | None, rows: I64) -> list[Group]:
    """Columns by value type; writes each into its row too: counts, or float bits in an order that follows the numbers.

    lengths: of each column, where they are not all as long as the rows.
    """
    width = rows.shape[1]
    if lengths is None and types.count(ValueType.INT) == len(types):
        rows.reshape(-1)[:] = _joined(columns, rows.dtype)
        return [Group(ValueType.INT, np.arange(len(types)), rows)]
    groups = []
    codes = np.frombuffer(bytes(types), np.uint8)
    for value_type in (ValueType.INT, ValueType.FLOAT32, ValueType.FLOAT64):
        places = (codes == int(value_type)).nonzero()[0]  # numpy takes long to see what an IntEnum is
        if not len(places):
            continue
        joined = _joined([columns[place] for place in places.tolist()], DTYPES[value_type])
        if lengths is None:
            numbers = joined.reshape(len(places), width)
        else:
            numbers = np.zeros((len(places), width), joined.dtype)
            numbers[np.arange(width) < lengths[places, None]] = joined
        rows[places] = _to_int(numbers)
        groups.append(Group(value_type, places, numbers))
    return groups


def _joined(columns: list[Column], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Columns of one type, end to end, in half the time that np.concatenate takes for many short ones."""
    buffers: Iterator[Any] = map(np.ascontiguousarray, columns)
    return np.frombuffer(b"".join(buffers), dtype)


def _to_int(numbers: Column) -> I64:
    if numbers.dtype == np.int64:
        return numbers.view(np.int64)
    if numbers.dtype == np.float64:
        bits = numbers.view(np.int64)
        return bits ^ (bits >> _SIGN & _ALL_BUT_SIGN)
    narrow = numbers.view(np.int32)
    return (narrow ^ (narrow >> _SIGN_32 & _ALL_BUT_SIGN_32)).astype(np.int64)


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


def find_steps(rows: I64, groups: list[Group], lengths: I64 | None) -> dict[int, Step]:
    """Divide the rows of counts that have a common step, in place. A meter that counts by 10 W, say."""
    width = rows.shape[1]
    if width < STEP_READINGS_MIN or not groups or groups[0].value_type is not ValueType.INT:  # counts come first
        return {}
    counts = groups[0].places
    probes = rows[:, :: max(1, width // PROBES)]
    if len(counts) < len(rows):
        probes = probes[counts]
    places = counts[np.gcd.reduce(probes[:, 1:] - probes[:, :1], axis=1) > 1]
    if not len(places):
        return {}
    chosen = rows[places]
    away = np.absolute(chosen - chosen[:, :1])
    if lengths is not None:
        away[np.arange(width) >= lengths[places, None]] = 0
    sizes = np.maximum(np.gcd.reduce(away, axis=1), 1)
    moves = np.add.reduce(away[:, 1:] != away[:, :-1], axis=1)
    whole = chosen // sizes[:, None]
    rest = chosen - whole * sizes[:, None]
    same = rest == rest[:, :1]
    if lengths is not None:
        same |= away == 0
    exact = np.logical_and.reduce(same, axis=1)  # a difference over int64 has no true step
    steps = sizes.tolist()
    saved = [move * (step.bit_length() - 1) for move, step in zip(moves.tolist(), steps)]
    kept = [at for at, true in enumerate(exact.tolist()) if true and saved[at] >= STEP_BITS_MIN]
    where = places[kept]
    rows[where] = whole[kept]
    bases = rest[:, 0].tolist()
    return {place: Step(steps[at], bases[at]) for place, at in zip(where.tolist(), kept)}


def find_decimals(groups: list[Group], rows: I64) -> dict[int, Step]:
    """Replace the rows of float columns that hold decimals of up to nine places by the decimals' integers, in place."""
    floats = [group for group in groups if group.value_type is not ValueType.INT and group.numbers.size]
    if not floats:
        return {}
    places = np.concatenate([group.places for group in floats])
    narrow = len(floats[0].places) if floats[0].value_type is ValueType.FLOAT32 else 0  # they come before FLOAT64
    with np.errstate(all="ignore"):  # NaN, infinities and the very large are no decimals, and say so below
        numbers = np.concatenate([group.numbers for group in floats], dtype=np.float64)
        found, decimals, integers = _decimals(numbers, narrow)
    if not len(found):
        return {}
    chosen = places[found]
    rows[chosen] = integers
    return {place: Step(size) for place, size in zip(chosen.tolist(), decimals.tolist())}


def _decimals(numbers: NDArray[np.float64], narrow: int) -> tuple[I64, I64, I64]:
    """By row: the fewest places d for which every number is rint(number * 10^d) / 10^d, bit by bit, if any.

    narrow: how many rows, the first ones, were float32. Returns the rows that have such a d, it, and their integers.
    """
    probes = np.ascontiguousarray(numbers.T[:: max(1, numbers.shape[1] // PROBES)])
    flat = probes.reshape(-1)
    away = _POWERS[:, None] * flat
    np.rint(away, out=away)
    away /= _POWERS[:, None]
    away -= flat
    np.absolute(away, out=away)
    near = np.zeros(probes.shape)
    np.multiply(np.absolute(probes[:, :narrow]), FLOAT32_ROUNDING, out=near[:, :narrow])
    fits = np.logical_and.reduce((away <= near.reshape(-1)).reshape(-1, *probes.shape), axis=1)
    tops = np.maximum.reduce(np.absolute(numbers), axis=1)  # NaN where there is one, and then over any limit
    tops[:narrow] *= FLOAT64_EXACT_MAX / FLOAT32_EXACT_MAX
    fits &= tops < _TOPS
    fits &= fits.cumsum(axis=0, dtype=np.uint8) <= TRIES
    rows, decimals = fits.T.nonzero()
    if not len(rows):
        return rows, decimals, np.empty((0, numbers.shape[1]), np.int64)
    chosen, powers = numbers[rows], _POWERS[decimals][:, None]
    whole = chosen * powers
    np.rint(whole, out=whole)
    whole += 0.0  # -0.0 is no integer: it becomes 0.0, and differs below
    back = whole / powers
    rounded = back[: rows.searchsorted(narrow)]
    rounded[:] = rounded.astype(np.float32)
    exact = np.logical_and.reduce(back.view(np.int64) == chosen.view(np.int64), axis=1).nonzero()[0].tolist()
    tried = rows.tolist()
    fewest = np.array(list({tried[at]: at for at in reversed(exact)}.values()), np.int64)
    return rows[fewest], decimals[fewest], whole[fewest].astype(np.int64)


def encode_steps(steps: dict[int, Step], types: list[ValueType]) -> bytes:
    """The list of steps, by column."""
    numbers = [len(steps)]
    previous = -1
    for place in sorted(steps):
        step = steps[place]
        numbers += (place - previous - 1, step.size)
        if types[place] is ValueType.INT:
            numbers.append(step.base)
        previous = place
    return varints_of(numbers)


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
