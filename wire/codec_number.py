"""Columns as rows of integers: counts as they are or by their common step, floats as decimals or by their bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    places: NDArray[np.intp]
    numbers: NDArray[Any]


def gather(columns: list[Column], types: list[ValueType], lengths: I64 | None, rows: I64) -> list[Group]:
    """Columns by value type; writes each into its row too: counts, or float bits in an order that follows the numbers.

    lengths: of each column, where they are not all as long as the rows.
    """
    width = rows.shape[1]
    if lengths is None and types.count(ValueType.INT) == len(types):
        np.concatenate(columns, out=rows.reshape(-1))
        return [Group(ValueType.INT, np.arange(len(types)), rows)]
    groups = []
    codes = np.frombuffer(bytes(types), np.uint8)
    for value_type in (ValueType.INT, ValueType.FLOAT32, ValueType.FLOAT64):
        places = (codes == value_type).nonzero()[0]
        if not len(places):
            continue
        joined = np.concatenate([columns[place] for place in places.tolist()])
        if lengths is None:
            numbers = joined.reshape(len(places), width)
        else:
            numbers = np.zeros((len(places), width), joined.dtype)
            numbers[np.arange(width) < lengths[places, None]] = joined
        rows[places] = _to_int(numbers)
        groups.append(Group(value_type, places, numbers))
    return groups


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
    away = np.abs(chosen - chosen[:, :1])
    if lengths is not None:
        away[np.arange(width) >= lengths[places, None]] = 0
    steps = np.gcd.reduce(away, axis=1).tolist()
    moves = (away[:, 1:] != away[:, :-1]).sum(axis=1).tolist()
    worth = [at for at, step in enumerate(steps) if step > 1 and moves[at] * (step.bit_length() - 1) >= STEP_BITS_MIN]
    if not worth:
        return {}
    sizes = np.array([[steps[at]] for at in worth])
    chosen = chosen[worth]
    whole = chosen // sizes
    rest = chosen - whole * sizes
    same = rest == rest[:, :1]
    if lengths is not None:
        same |= away[worth] == 0
    exact = same.all(axis=1).nonzero()[0].tolist()  # a difference over int64 has no true step
    where = places[worth].tolist()
    found = {where[at]: Step(steps[worth[at]], int(rest[at, 0])) for at in exact}
    rows[list(found)] = whole[exact]
    return found


def find_decimals(groups: list[Group], rows: I64) -> dict[int, Step]:
    """Replace the rows of float columns that hold decimals of up to nine places by the decimals' integers, in place."""
    floats = [group for group in groups if group.value_type is not ValueType.INT and group.numbers.size]
    if not floats:
        return {}
    places = np.concatenate([group.places for group in floats])
    narrow = np.zeros(len(places), np.bool_)
    narrow[: len(floats[0].places)] = floats[0].value_type is ValueType.FLOAT32  # which comes before FLOAT64
    with np.errstate(all="ignore"):  # NaN, infinities and the very large are no decimals, and say so below
        numbers = np.concatenate([group.numbers for group in floats], dtype=np.float64)
        found, decimals, integers = _decimals(numbers, narrow)
    if not found:
        return {}
    chosen = places[found]
    rows[chosen] = integers
    return {place: Step(size) for place, size in zip(chosen.tolist(), decimals)}


def _decimals(numbers: NDArray[np.float64], narrow: NDArray[np.bool_]) -> tuple[list[int], list[int], I64]:
    """By row: the fewest places d for which every number is rint(number * 10^d) / 10^d, bit by bit, if any.

    narrow: rows that were float32. Returns the rows that have such a d, it, and their integers.
    """
    probes = np.ascontiguousarray(numbers.T[:: max(1, numbers.shape[1] // PROBES)])
    powers = _POWERS[:, None]
    away = powers * probes.reshape(-1)
    np.rint(away, out=away)
    away /= powers
    away -= probes.reshape(-1)
    np.abs(away, out=away)
    near = np.abs(probes)
    near *= np.where(narrow, FLOAT32_ROUNDING, 0.0)
    near_enough = (away <= near.reshape(-1)).reshape(len(_POWERS), *probes.shape)
    fits = np.logical_and.reduce(near_enough, axis=1)
    tops = np.maximum.reduce(np.abs(numbers), axis=1)  # NaN where there is one, and then over any limit
    fits &= powers * tops < np.where(narrow, FLOAT32_EXACT_MAX, FLOAT64_EXACT_MAX)
    rows, decimals = fits.T.nonzero()
    tried = np.arange(len(rows)) - rows.searchsorted(rows) < TRIES  # the first of each row
    rows, decimals = rows[tried], decimals[tried]
    chosen, powers = numbers[rows], _POWERS[decimals, None]
    whole = np.rint(chosen * powers)
    whole += 0.0  # -0.0 is no integer: it becomes 0.0, and differs below
    back = whole / powers
    np.copyto(back, back.astype(np.float32), where=narrow[rows, None])
    exact = np.logical_and.reduce(back.view(np.int64) == chosen.view(np.int64), axis=1).nonzero()[0]
    fewest = dict(zip(rows[exact[::-1]].tolist(), exact[::-1].tolist()))
    kept = list(fewest.values())
    return list(fewest), decimals[kept].tolist(), whole[kept].astype(np.int64)


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
