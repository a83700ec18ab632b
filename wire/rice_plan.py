"""How each of many rows is best coded with `wire.rice`: its transform, and a parameter k for every 64 residuals.

A batch is fifty rows of sixty numbers, so a call of numpy costs more than its arithmetic: what can be done for all rows
and all transforms at once is, and sums that were made to choose a transform are used again to choose k. Constants are
arrays without dimensions: numpy takes longer to see what a scalar is (decision 0270).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.rice import CENTRE, CLIMB, DELTA, ESCAPE, GROUP, K_MAX, SLOPE, TRANSFORMS
from wire.varint import I64, U64, varint_lengths, zigzag_array

CENTRE_BITS = 2  # one residual more than the others have
ESCAPE_BITS = 12  # what the varint costs, about: only used to choose k
STRIP_CELLS = 1 << 15  # rows are planned in strips of about this many numbers, to stay in cache and in memory
SUMMAND_MAX = np.array(1 << 57, np.uint64)  # 64 of them stay within 64 bits

# glibc gives freed memory back to the kernel, and faults it in again at the next call, until a larger block than the
# plan's has been mapped and freed once: so free one. Without, a third of `encode` is page faults (50x60: 94 of them).
np.empty(TRANSFORMS * STRIP_CELLS, np.uint64)

U8 = NDArray[np.uint8]
_NONE, _ONE, _BYTE, _CENTRE, _CLIMB, _CENTRE_BITS = (np.array(x) for x in (0, 1, 8, CENTRE, CLIMB, CENTRE_BITS))
_HALF, _ONE_FLOAT, _LN_2 = (np.array(number) for number in (0.5, 1.0, 0.69))
_HALVING, _HALVINGS = np.array(1, np.uint64), np.array([[[1]], [[2]]], np.uint64)
_SYMBOLS_FROM_LOW, _FROM_HIGH = np.array([[[1]], [[2]], [[3]]]), np.array(3)
_MANTISSA = np.array(52, np.uint64)  # bits of a float64 below its exponent
_EXPONENT_OF_HALF = 1022  # as float64 writes it
_EXPONENT_OF_ONE = np.array(_EXPONENT_OF_HALF + 1)
_COST_MAX, _K_LOW_MAX = np.array(ESCAPE + ESCAPE_BITS, np.uint64), np.array(K_MAX - 2)


@dataclass(slots=True)
class Plan:
    """How R rows of up to n numbers would be coded, and what it costs.

    seeds, lows: (R,), zigzag; lows are the smallest deltas of CLIMB rows, 0 elsewhere.
    symbols: (R, groups), 0 = all residuals of the group are zero and take no bits, else k + 1.
    bits: (R,), descriptor, seeds and residuals.
    constant: (R,), rows whose numbers all equal the seed.
    """

    transforms: U8
    seeds: U64
    lows: U64
    residuals: U64
    symbols: U8
    bits: I64
    constant: NDArray[np.bool_]


def plan(rows: I64, lengths: I64 | None = None) -> Plan:
    """Choose transform and parameters for each row; only the first `lengths[r]` numbers of row r count."""
    count, width = rows.shape
    strip = max(1, STRIP_CELLS // max(width, 1))
    if count <= strip:
        return _plan(rows, lengths)
    parts = [
        _plan(rows[start : start + strip], None if lengths is None else lengths[start : start + strip])
        for start in range(0, count, strip)
    ]
    return Plan(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Plan)))


def _plan(rows: I64, lengths: I64 | None) -> Plan:
    count, width = rows.shape
    if not width:
        return _nothing(count)
    numbers = np.array(width) if lengths is None else lengths  # how many of each row
    present = None if lengths is None else np.arange(width) < lengths[:, None]
    candidates = np.empty((TRANSFORMS, count, width), np.int64)
    edges = np.empty((3, count), np.int64)  # what CENTRE and what the others start from, lows
    _transform(rows, numbers, present, candidates, edges)
    zigzag_edges = zigzag_array(edges.view(np.uint64))
    low_bytes = varint_lengths(zigzag_edges[2])
    starts = np.arange(0, width, GROUP)
    exponents = _exponents(candidates, starts)

    transforms = _weigh(exponents, numbers, low_bytes).argmin(axis=0)
    moves, climbs = transforms != _CENTRE, transforms == _CLIMB
    best = transforms, np.arange(count)
    chosen = candidates[best].view(np.uint64)
    residuals = zigzag_array(chosen)
    np.copyto(residuals, chosen, where=climbs[:, None])
    symbols, bits = _parameters(residuals, exponents[best], _sizes(lengths, moves, width, starts), starts)
    lows = zigzag_edges[2] * climbs
    constant = np.logical_not(symbols[:, 0] if len(starts) == 1 else np.bitwise_or.reduce(symbols, axis=1))
    constant &= np.logical_not(lows)
    seeds = np.where(moves, zigzag_edges[1], zigzag_edges[0])
    head = varint_lengths(seeds)
    head += low_bytes * climbs
    head += _ONE
    bits += head * _BYTE
    return Plan(transforms.astype(np.uint8), seeds, lows, residuals, symbols, bits, constant)


def _nothing(count: int) -> Plan:
    """Rows without numbers: a head and a seed of 0 each."""
    zeros = np.zeros(count, np.uint64)
    transforms, symbols = np.zeros(count, np.uint8), np.zeros((count, 1), np.uint8)
    residuals = np.empty((count, 0), np.uint64)
    return Plan(transforms, zeros, zeros, residuals, symbols, np.full(count, 16), np.ones(count, np.bool_))


def _transform(rows: I64, lengths: I64, present: NDArray[np.bool_] | None, candidates: I64, edges: I64) -> None:
    """Fill in the residuals of each transform, before their zigzag, and the edges.

    Differences are taken along all rows as if they were one, and what spans two rows is then made 0.
    """
    centred, deltas, slopes, climbs = candidates[CENTRE], candidates[DELTA], candidates[SLOPE], candidates[CLIMB]
    centres, firsts, lows = edges[0], edges[1], edges[2]
    firsts[:] = rows[:, 0]
    flat = rows.reshape(-1)
    np.subtract(flat[1:], flat[:-1], out=deltas.reshape(-1)[1:])
    steps = deltas[:, 1:]
    sums = np.add.reduce(rows if present is None else rows * present, axis=1)
    sums -= firsts * lengths
    np.add(firsts, sums // np.maximum(lengths, _ONE), out=centres)
    np.subtract(rows, centres[:, None], out=centred)
    if present is not None:
        steps = np.where(present[:, 1:], steps, np.iinfo(np.int64).max)
    np.minimum.reduce(steps, axis=1, out=lows) if steps.shape[1] else lows.fill(0)
    np.subtract(deltas, lows[:, None], out=climbs)
    deltas[:, 0] = 0
    flat = deltas.reshape(-1)
    np.subtract(flat[1:], flat[:-1], out=slopes.reshape(-1)[1:])
    candidates[SLOPE:, :, 0] = 0
    if present is not None:
        candidates *= present


def _exponents(candidates: I64, starts: NDArray[np.intp]) -> I64:
    """Of each group of each candidate: the sum of floor(log2) + 1 (one more where rounded up) of (u + 1) / 2 for even
    and u / 2 for odd residuals u, which is never 0 and made without their zigzag."""
    floats = np.empty(candidates.shape)
    floats[:CLIMB] = candidates[:CLIMB]
    floats[CLIMB] = candidates[CLIMB].view(np.uint64) >> _HALVING
    floats += _HALF
    np.absolute(floats[:CLIMB], out=floats[:CLIMB])
    bits = floats.view(np.uint64)
    exponents: I64 = _group_sums(np.right_shift(bits, _MANTISSA, out=bits), starts).view(np.int64)
    exponents -= _EXPONENT_OF_HALF * _spans(starts, candidates.shape[2])
    return exponents


def _spans(starts: NDArray[np.intp], width: int) -> NDArray[np.intp] | int:
    """How many places each group has."""
    return width if len(starts) == 1 else np.minimum(width - starts, GROUP)


def _group_sums(numbers: NDArray[Any], starts: NDArray[np.intp]) -> NDArray[Any]:
    """Sums by group along the last axis of three."""
    if len(starts) == 1:
        sums: NDArray[Any] = np.einsum("trn->tr", numbers)[:, :, None]  # half the time of np.add.reduce
        return sums
    return np.add.reduceat(numbers, starts, axis=2)


def _weigh(exponents: I64, lengths: I64, low_bytes: I64) -> I64:
    """The bits that each transform of each row would take, but for a bit or two each that all residuals take where not
    all are zero: an estimate by the logarithms' mean (0.6 % over the best choice)."""
    weights: I64 = exponents[:, :, 0] if exponents.shape[2] == 1 else exponents.sum(axis=2)
    weights = weights - (weights == _NONE) * lengths
    centre, climb = weights[CENTRE], weights[CLIMB]
    centre += _CENTRE_BITS
    climb += _BYTE * low_bytes
    return weights


def _sizes(lengths: I64 | None, moves: NDArray[np.bool_], width: int, starts: NDArray[np.intp]) -> I64:
    """How many residuals are written of each group of each row."""
    sizes: I64 = np.empty((len(moves), len(starts)), np.int64)
    if lengths is None:
        sizes[:] = _spans(starts, width)
    else:
        np.minimum(np.maximum(lengths[:, None] - starts, 0), GROUP, out=sizes)
        moves = moves & (lengths > 0)
    first = sizes[:, 0]
    first -= moves
    return sizes


def _parameters(residuals: U64, exponents: I64, sizes: I64, starts: NDArray[np.intp]) -> tuple[U8, I64]:
    """The symbol of each group, and the bits of each row's residuals.

    The best k lies between the mean of the logarithms and the logarithm of the mean. Of all k in 0..60, trying these
    four costs 0.3 % more bits (benchmark's mixed columns, 2026-11).
    """
    count, groups = sizes.shape
    some = np.maximum(sizes, _ONE)
    totals = _group_sums(np.minimum(residuals, SUMMAND_MAX)[None], starts)[0]
    low = np.minimum(exponents // some, _K_LOW_MAX)
    means = totals * _LN_2
    means /= some
    np.maximum(means, _ONE_FLOAT, out=means)
    high = (means.view(np.uint64) >> _MANTISSA).view(np.int64)
    high -= _EXPONENT_OF_ONE
    tried = np.empty((4, count, groups), np.int64)  # symbols, k + 1
    np.add(low, _SYMBOLS_FROM_LOW, out=tried[:3])
    np.add(high, _ONE, out=tried[3])
    quotients = np.empty((4, *residuals.shape), np.uint64)
    for place, k in ((0, low), (3, high)):  # a call for each is faster than one for both
        each = k.view(np.uint64)
        if groups > 1:
            each = each.repeat(GROUP, axis=1)[:, : residuals.shape[1]]
        np.right_shift(residuals, each, out=quotients[place])
    np.right_shift(quotients[0], _HALVINGS, out=quotients[1:3])
    np.minimum(quotients, _COST_MAX, out=quotients)
    costs = _group_sums(quotients, starts).view(np.int64)
    costs += sizes * tried
    quiet = np.logical_not(totals)
    best = costs.argmin(axis=0)
    symbols = tried[0] + best
    np.copyto(symbols, tried[3], where=best == _FROM_HIGH)
    symbols[quiet] = 0
    least = np.minimum.reduce(costs)
    least[quiet] = 0
    bits: I64 = least[:, 0] if groups == 1 else least.sum(axis=1) + 3 * (groups - 1)
    return symbols.astype(np.uint8), bits
