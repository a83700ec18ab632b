"""Rice coding of many rows at once in numpy: the codec that needs no native library and wins on short columns.

A row is a run of 64-bit integers. It is turned into residuals by one of four transforms, and every 64 residuals get
their own parameter k: a residual u is written as u >> k in unary and its low k bits. All arithmetic is modulo 2^64,
so every int64 (and every float's bits) comes back exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt
from wire.varint import I64, U64, Reader, unzigzag_array, varint, varint_lengths, varints, zigzag_array

CENTRE_BITS = 3  # one residual more than the others have
GROUP = 64  # residuals that share one k
K_MAX = 60  # so that u >> k stays below ESCAPE for every u
ESCAPE = 24  # a quotient of this or more is written as ESCAPE zeros and, aside, the rest as a varint
ESCAPE_BITS = 12  # what the varint costs, about: only used to choose k

STRIP_CELLS = 1 << 15  # rows are planned in strips of about this many numbers, to stay in cache and in memory
SUMMAND_MAX = np.uint64(1 << 57)  # 64 of them stay within 64 bits

CENTRE = 0  # zigzag(x[i] - seed), i >= 0
DELTA = 1  # seed = x[0], zigzag(x[i] - x[i-1]), i >= 1
SLOPE = 2  # seed = x[0], first as DELTA, then zigzag of the change of the delta
CLIMB = 3  # seed = x[0], then delta - low, low = smallest delta: counters, which never fall
TRANSFORMS = 4

# glibc gives freed memory back to the kernel, and faults it in again at the next call, until a larger block than the
# plan's has been mapped and freed once: so free one. Without, a third of `encode` is page faults (50x60: 94 of them).
np.empty(TRANSFORMS * STRIP_CELLS, np.uint64)

U8 = NDArray[np.uint8]
_ONE = np.uint64(1)


@dataclass(slots=True)
class Plan:
    """How R rows of up to n numbers would be coded, and what it costs.

    symbols: (R, groups), 0 = all residuals of the group are zero and take no bits, else k + 1.
    emitted: (R, n), which residuals are written where their group's symbol is not 0.
    lows: (R,), smallest delta of CLIMB rows, 0 elsewhere.
    bits: (R,), descriptor, seeds and residuals.
    constant: (R,), rows whose numbers all equal the seed.
    """

    transforms: U8
    seeds: I64
    lows: I64
    residuals: U64
    symbols: U8
    emitted: NDArray[np.bool_]
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
    present = None if lengths is None else np.arange(width) < lengths[:, None]
    candidates = np.empty((TRANSFORMS, count, width), np.int64)
    centres = np.zeros(count, np.int64)
    lows = np.zeros(count, np.int64)
    if width:
        centres, lows = _transform(rows, lengths, present, candidates)
    halves = _halves(candidates)
    exponents = _exponents(halves)
    exponents += 1
    low_bits = 8 * varint_lengths(zigzag_array(lows.view(np.uint64)))
    transforms = _weigh(halves, exponents, lengths, low_bits).argmin(axis=0)
    moves, climbs = transforms != CENTRE, transforms == CLIMB
    best = transforms, np.arange(count)
    residuals = candidates[best].view(np.uint64)
    residuals = np.where(climbs[:, None], residuals, zigzag_array(residuals))
    emitted = np.ones((count, width), np.bool_) if present is None else present
    emitted[moves, :1] = False
    sizes = _sizes(np.full(count, width) if lengths is None else lengths, moves, width)
    symbols, bits = _parameters(residuals, exponents[best], sizes)
    seeds = np.where(moves, rows[:, 0], centres) if width else centres
    lows *= climbs
    bits += 8 + 8 * varint_lengths(zigzag_array(seeds.view(np.uint64)))
    bits += low_bits * climbs
    constant = ~np.logical_or(symbols.any(axis=1), lows)
    return Plan(transforms.astype(np.uint8), seeds, lows, residuals, symbols, emitted, bits, constant)


def _transform(rows: I64, lengths: I64 | None, present: NDArray[np.bool_] | None, candidates: I64) -> tuple[I64, I64]:
    """Fill in the residuals of each transform, before their zigzag. Returns CENTRE's seeds and CLIMB's lows."""
    deltas = rows[:, 1:] - rows[:, :-1]
    offsets = rows - rows[:, :1]
    steps = deltas
    if present is None or lengths is None:
        means = offsets.sum(axis=1) // rows.shape[1]
    else:
        offsets *= present
        means = offsets.sum(axis=1) // np.maximum(lengths, 1)
        steps = np.where(present[:, 1:], deltas, np.iinfo(np.int64).max)
    lows = steps.min(axis=1) if steps.size else np.zeros(len(rows), np.int64)
    centres = rows[:, 0] + means
    np.subtract(rows, centres[:, None], out=candidates[CENTRE])
    candidates[DELTA:, :, 0] = 0
    candidates[DELTA, :, 1:] = deltas
    candidates[SLOPE, :, 1:2] = deltas[:, :1]
    np.subtract(deltas[:, 1:], deltas[:, :-1], out=candidates[SLOPE, :, 2:])
    np.subtract(deltas, lows[:, None], out=candidates[CLIMB, :, 1:])
    if present is not None:
        candidates *= present
    return centres, lows


def _halves(candidates: I64) -> NDArray[np.float64]:
    """(u + 1) / 2 for even and u / 2 for odd residuals u: never 0, and made without their zigzag."""
    halves = np.empty_like(candidates)
    np.right_shift(candidates[:CLIMB], 63, out=halves[:CLIMB])
    halves[:CLIMB] ^= candidates[:CLIMB]
    np.right_shift(candidates[CLIMB].view(np.uint64), _ONE, out=halves[CLIMB].view(np.uint64))
    floats = halves.astype(np.float64)
    floats += 0.5
    return floats


def _weigh(halves: NDArray[np.float64], exponents: I64, lengths: I64 | None, low_bits: I64) -> NDArray[np.float64]:
    """Bits that each transform of each row would take, but for a constant: the mean of two estimates, one by the
    logarithms' mean and one by the mean's logarithm (0.3 % over the best choice; either alone 0.6 %)."""
    width = halves.shape[2]
    means = 2 * np.einsum("trn->tr", halves) / max(width, 1)  # 1 where all are zero; einsum sums short rows faster
    sizes = width if lengths is None else lengths
    weights: NDArray[np.float64] = np.einsum("trn->tr", exponents) + np.log2(np.maximum(means, 1.0) - 0.75) * sizes
    weights /= 2
    weights[CENTRE] += CENTRE_BITS
    weights[CLIMB] += low_bits
    return weights


def _exponents(floats: NDArray[np.float64]) -> I64:
    """floor(log2(x)) for x > 0 (one more where the conversion from an integer rounded up)."""
    found: I64 = floats.view(np.int64) >> np.int64(52)
    found -= 1023
    return found


def _sizes(lengths: I64, moves: NDArray[np.bool_], width: int) -> I64:
    """How many residuals are written of each group of each row."""
    groups = max(1, -(-width // GROUP))
    sizes: I64 = np.minimum(np.maximum(lengths[:, None] - GROUP * np.arange(groups), 0), GROUP)
    sizes[:, 0] -= moves & (lengths > 0)
    return sizes


def _parameters(residuals: U64, exponents: I64, sizes: I64) -> tuple[U8, I64]:
    """The symbol of each group, and the bits of each row's residuals.

    The best k lies between the mean of the logarithms and the logarithm of the mean. Of all k in 0..60, trying these
    four costs 0.3 % more bits (benchmark's mixed columns, 2026-11).
    """
    count, width = residuals.shape
    groups = sizes.shape[1]
    if groups > 1 and width % GROUP:
        pad = ((0, 0), (0, groups * GROUP - width))
        residuals, exponents = np.pad(residuals, pad), np.pad(exponents, pad)
    shape = (count, groups, GROUP if groups > 1 else width)
    grouped = residuals.reshape(shape)
    some = np.maximum(sizes, 1)
    totals = np.einsum("rgn->rg", np.minimum(grouped, SUMMAND_MAX))
    k = np.empty((4, count, groups), np.int64)
    k[0] = np.einsum("rgn->rg", exponents.reshape(shape)) // some
    np.add(k[0], 1, out=k[1])
    np.add(k[0], 2, out=k[2])
    k[3] = _exponents(np.maximum(totals * 0.69 / some, 1.0))
    np.minimum(k, K_MAX, out=k)
    quotients = grouped >> k.view(np.uint64)[..., None]
    np.minimum(quotients, np.uint64(ESCAPE + ESCAPE_BITS), out=quotients)
    costs = np.einsum("krgn->krg", quotients).view(np.int64) + sizes * (k + 1)
    best = costs.argmin(axis=0), np.arange(count)[:, None], np.arange(groups)
    symbols, costs = k[best] + 1, costs[best]
    quiet = totals == 0
    symbols[quiet] = 0
    costs[quiet] = 0
    bits: I64 = costs.sum(axis=1) + 3 * max(groups - 1, 0)
    return symbols.astype(np.uint8), bits


def restore(residuals: U64, transforms: U8, seeds: I64, lows: I64) -> I64:
    """Inverse of the transforms: residuals (R, n) become numbers."""
    if not residuals.shape[1]:
        return residuals.view(np.int64)
    numbers = unzigzag_array(residuals)
    which = set(transforms.tolist())
    if CLIMB in which:
        climbs = (transforms == CLIMB).nonzero()[0]
        numbers[climbs] = residuals[climbs] + lows[climbs].view(np.uint64)[:, None]
        numbers[climbs, 0] = 0
    if SLOPE in which:
        slopes = (transforms == SLOPE).nonzero()[0]
        numbers[slopes] = numbers[slopes].cumsum(axis=1)
    if CENTRE in which:
        still = transforms == CENTRE
        numbers[still] += seeds[still].view(np.uint64)[:, None]
        moving = (~still).nonzero()[0]
        numbers[moving, 0] += seeds[moving].view(np.uint64)
        numbers[moving] = numbers[moving].cumsum(axis=1)
    else:
        numbers[:, 0] += seeds.view(np.uint64)
        numbers.cumsum(axis=1, out=numbers)
    return numbers.view(np.int64)


def pack(values: U64, k: U64) -> bytes:
    """Write each value with its own k: unary section (length, bits), low bits, escapes."""
    if not len(values):
        return varint(0)
    quotients = values >> k
    clipped = np.minimum(quotients, np.uint64(ESCAPE))
    stops = np.cumsum(clipped + _ONE).view(np.int64) - 1
    unary = np.zeros(int(stops[-1]) + 1, np.uint8)
    unary[stops] = 1
    packed = np.packbits(unary, bitorder="little").tobytes()
    escaped = quotients[clipped == ESCAPE] - np.uint64(ESCAPE)
    return b"".join((varint(len(packed)), packed, _pack_low(values ^ (quotients << k), k), varints(escaped)))


def _pack_low(low: U64, k: U64) -> bytes:
    """Numbers of k bits, end to end, first in the lowest bit."""
    ends = np.cumsum(k)
    total = int(ends[-1])
    if not total:
        return b""
    starts = ends - k
    words = (starts >> np.uint64(6)).view(np.int64)
    shifts = starts & np.uint64(63)
    out = np.zeros((total + 63) // 64 + 1, np.uint64)
    new = np.ones(len(words), np.bool_)
    np.not_equal(words[1:], words[:-1], out=new[1:])
    heads = new.nonzero()[0]
    out[words[heads]] = np.bitwise_or.reduceat(low << shifts, heads)
    over = (shifts + k > 64).nonzero()[0]
    out[words[over] + 1] |= low[over] >> (np.uint64(64) - shifts[over])
    return out.astype("<u8", copy=False).tobytes()[: (total + 7) // 8]


def unpack(reader: Reader, k: U64) -> U64:
    """Inverse of `pack` for len(k) values. Raises SegmentCorrupt."""
    length = reader.varint(reader.end - reader.at, "unary length")
    if len(k) > 8 * length:
        raise SegmentCorrupt(f"{len(k)} residuals wanted, {8 * length} unary bits are there")
    unary = np.frombuffer(reader.data, np.uint8, length, reader.at)
    reader.at += length
    if not len(k):
        return np.empty(0, np.uint64)
    stops = np.unpackbits(unary, bitorder="little").nonzero()[0]
    if len(stops) != len(k):
        raise SegmentCorrupt(f"{len(k)} residuals wanted, {len(stops)} are there")
    quotients = np.empty(len(k), np.uint64)
    quotients[0] = stops[0]
    quotients[1:] = stops[1:] - stops[:-1]
    quotients[1:] -= _ONE
    largest = int(quotients.max())
    if largest > ESCAPE:
        raise SegmentCorrupt(f"a unary run of {largest} is over {ESCAPE}")
    low = _unpack_low(reader, k)
    if largest == ESCAPE:
        escaped = np.flatnonzero(quotients == ESCAPE)
        quotients[escaped] += reader.varints(len(escaped))
    low |= quotients << k
    return low


def _unpack_low(reader: Reader, k: U64) -> U64:
    """Inverse of `_pack_low`."""
    ends = k.cumsum()
    total = int(ends[-1])
    if not total:
        return np.zeros(len(k), np.uint64)
    raw = reader.take((total + 7) // 8) + bytes(16)
    starts = ends - k
    places = (starts >> np.uint64(3)).view(np.int64)
    shifts = starts & np.uint64(7)
    windows = np.ndarray((len(raw) - 8,), "<u8", raw, 0, (1,))
    low: U64 = windows[places] >> shifts
    if int(k.max()) > 57:
        long = np.flatnonzero(k + shifts > 64)
        low[long] |= windows[places[long] + 8] << (np.uint64(64) - shifts[long])
    low &= (_ONE << k) - _ONE
    return low
