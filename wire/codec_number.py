"""Columns as rows of integers: counts as they are or by their common step, floats as decimals or by their bits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt
from wire.series import DTYPES, VALUE_TYPES, ValueType
from wire.varint import I64, Reader, varints_of

DECIMALS_MAX = 9
# The largest number of a column, rounded down to a power of two, times 10^d stays below: then what rounding did to
# n / 10^d moves n by less than a half. Above, decimals are about as fine as the floats are, and save next to nothing.
FLOAT32_WHOLE_MAX, FLOAT64_WHOLE_MAX = float(1 << 23), float(1 << 51)
PROBES = 12  # values of a column that are tried for a step before all of it is
STEP_BITS_MIN = 40  # what a step must save, about, to pay for its entry
STEP_READINGS_MIN = 8
LAYOUTS_KEPT = 64  # one for each series set of a gateway, about; some 70 kB for one of 4096 columns

_SIGN, _ALL_BUT_SIGN = np.array(63, np.int64), np.array(0x7FFF_FFFF_FFFF_FFFF, np.int64)
_SIGN_32, _ALL_BUT_SIGN_32 = np.array(31, np.int32), np.array(0x7FFF_FFFF, np.int32)
_EXPONENT = np.array(0x7FF0_0000_0000_0000, np.int64)  # bits of a float64 without its mantissa: a power of two
_POWERS = 10.0 ** np.arange(DECIMALS_MAX + 1)
_TENS = 10 ** np.arange(DECIMALS_MAX + 1)
_TOPS = FLOAT64_WHOLE_MAX / _POWERS[:, None]

Column = NDArray[np.generic]


class Step(NamedTuple):
    """How the integers y of a column become its values: y * size + base for counts, y / 10^size for floats."""

    size: int
    base: int = 0


class Layout(NamedTuple):
    """What follows from the types of a block's columns, whatever their numbers."""

    of_columns: list[ValueType]
    places: list[tuple[ValueType, NDArray[np.intp]]]  # which columns are of each type that there is, counts first
    runs: bytes  # of equal types, as a block's head tells them


@lru_cache(maxsize=LAYOUTS_KEPT)
def layout(dtypes: tuple[np.dtype[Any], ...]) -> Layout:
    """Types of a block's columns. Kept, as the blocks of a set all have the same. Raises KeyError: no type of ours."""
    types = [VALUE_TYPES[dtype] for dtype in dtypes]
    codes = np.array(types, np.uint8)
    places = [(value_type, (codes == int(value_type)).nonzero()[0]) for value_type in sorted(set(types))]
    runs = varints_of([len(list(run)) << 2 | value_type for value_type, run in groupby(types)])
    return Layout(types, places, runs)


class Group(NamedTuple):
    """The columns of one value type as one matrix; those with fewer numbers end in zeros."""

    value_type: ValueType
    places: NDArray[np.intp]
    numbers: NDArray[Any]


def gather(
    columns: list[Column], by_type: list[tuple[ValueType, NDArray[np.intp]]], lengths: I64 | None, rows: I64
) -> list[Group]:
    """Columns by value type; writes each into its row too: counts, or float bits in an order that follows the numbers.

    lengths: of each column, where they are not all as long as the rows.
    """
    width = rows.shape[1]
    if lengths is None and len(by_type) == 1 and by_type[0][0] is ValueType.INT:
        rows.reshape(-1)[:] = _joined(columns, rows.dtype)
        return [Group(*by_type[0], rows)]
    groups = []
    for value_type, places in by_type:
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
    away = chosen - chosen[:, :1]
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
    """Replace the rows of float columns that hold decimals of up to nine places by the decimals' integers, in place.

    Decimals are those of which every number is float64(n) / 10^d, bit by bit, for the same d. They are such for any
    larger d too, as long as rounding leaves n: so the largest d that a column's numbers allow is tried, alone.
    """
    floats = [group for group in groups if group.value_type is not ValueType.INT and group.numbers.size]
    if not floats:
        return {}
    places = np.concatenate([group.places for group in floats])
    narrow = len(floats[0].places) if floats[0].value_type is ValueType.FLOAT32 else 0  # they come before FLOAT64
    with np.errstate(all="ignore"):  # NaN, infinities and the very large allow no d
        numbers = np.concatenate([group.numbers for group in floats], dtype=np.float64)
        tops = np.maximum.reduce(np.absolute(numbers), axis=1)
        bits = tops.view(np.int64)
        bits &= _EXPONENT
        tops[:narrow] *= FLOAT64_WHOLE_MAX / FLOAT32_WHOLE_MAX
        allowed = np.add.reduce(tops < _TOPS, axis=0)  # how many of 0, 1, 2, ...
        powers = _POWERS[allowed - 1][:, None]
        whole = numbers * powers
        np.rint(whole, out=whole)
        whole += 0.0  # -0.0 is no integer: it becomes 0.0, and differs below
        back = whole / powers
        rounded = back[:narrow]
        rounded[:] = rounded.astype(np.float32)
    exact = np.logical_and.reduce(back.view(np.int64) == numbers.view(np.int64), axis=1)
    exact &= allowed > 0
    found = exact.nonzero()[0]
    if not len(found):
        return {}
    integers = whole[found].astype(np.int64)
    decimals = allowed[found] - 1
    zeros = np.add.reduce(np.gcd.reduce(integers, axis=1) % _TENS[1:, None] == 0, axis=0)  # that all of a row end in
    np.minimum(zeros, decimals, out=zeros)
    chosen = places[found]
    rows[chosen] = integers // _TENS[zeros][:, None]
    return {place: Step(size) for place, size in zip(chosen.tolist(), (decimals - zeros).tolist())}


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
