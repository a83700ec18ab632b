"""Rice coding of many rows at once in numpy: the codec that needs no native library and wins on short columns.

A row is a run of 64-bit integers. It is turned into residuals by one of four transforms, and every 64 residuals get
their own parameter k: a residual u is written as u >> k in unary and its low k bits. All arithmetic is modulo 2^64,
so every int64 (and every float's bits) comes back exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt
from wire.varint import I64, U64, Reader, unzigzag_array, varint, varints

GROUP = 64  # residuals that share one k
K_MAX = 60  # so that u >> k stays below ESCAPE for every u
ESCAPE = 24  # a quotient of this or more is written as ESCAPE zeros and, aside, the rest as a varint

CENTRE = 0  # zigzag(x[i] - seed), i >= 0
DELTA = 1  # seed = x[0], zigzag(x[i] - x[i-1]), i >= 1
SLOPE = 2  # seed = x[0], first as DELTA, then zigzag of the change of the delta
CLIMB = 3  # seed = x[0], then delta - low, low = smallest delta: counters, which never fall
TRANSFORMS = 4

U8 = NDArray[np.uint8]
# Without dimensions, like the other constants: see `wire.rice_plan`.
_ONE, _ESCAPE, _IN_WORD, _WORD_BITS = (np.array(number, np.uint64) for number in (1, ESCAPE, 63, 64))


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


def pack(values: U64, k: U64, written: NDArray[np.bool_] | None = None) -> bytes:
    """Write each value with its own k: unary section (length, bits), low bits, escapes.

    k may be one for a whole row of values. What is not `written` must be 0.
    """
    quotients = values >> k
    escapes = quotients >= _ESCAPE
    escaped = quotients[escapes]
    if written is None:
        widths = k
        sizes = quotients + _ONE
    else:
        ones = written.astype(np.uint64)
        sizes = quotients + ones
        widths = np.multiply(k, ones, out=ones)
    sizes[escapes] = _ESCAPE + _ONE
    stops = sizes.reshape(-1).cumsum().view(np.int64)
    total = int(stops[-1]) if len(stops) else 0
    if not total:
        return varint(0)
    unary = np.zeros(total + 1, np.uint8)  # one before the first: what is not written marks that or a mark again
    unary[stops] = 1
    packed = np.packbits(unary[1:], bitorder="little").tobytes()
    low = values & ((_ONE << k) - _ONE)
    parts = varint(len(packed)), packed, _pack_low(low.reshape(-1), widths.reshape(-1)), varints(escaped - _ESCAPE)
    return b"".join(parts)


def _pack_low(low: U64, k: U64) -> bytes:
    """Numbers of k bits, end to end, first in the lowest bit."""
    ends = k.cumsum()
    total = int(ends[-1])
    if not total:
        return b""
    starts = np.subtract(ends, k, out=ends)
    shifts = starts & _IN_WORD
    # As no number has 64 bits, one starts in every word (or the last is over), and only a word's last ends in the next.
    # Edges are each word's first number, and the end.
    edges = starts.searchsorted(np.arange(0, int(starts[-1]) + 65, 64, dtype=np.uint64))
    lasts = edges[1:] - 1
    out = np.zeros(len(edges), np.uint64)
    np.bitwise_or.reduceat(low << shifts, edges[:-1], out=out[:-1])
    over = out[1:]
    over |= low[lasts] >> (_WORD_BITS - shifts[lasts])  # numpy shifts by 64 to 0
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
