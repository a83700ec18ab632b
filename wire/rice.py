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
_ONE = np.uint64(1)
_ESCAPE = np.uint64(ESCAPE)
_WORD, _IN_WORD, _WORD_BITS = np.uint64(6), np.uint64(63), np.uint64(64)


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
    sizes = np.minimum(quotients, _ESCAPE)
    if written is None:
        widths = k
        sizes += _ONE
    else:
        ones = written.astype(np.uint64)
        sizes += ones
        widths = np.multiply(k, ones, out=ones)
    stops = sizes.cumsum().view(np.int64)
    total = int(stops[-1]) if len(stops) else 0
    if not total:
        return varint(0)
    stops -= 1  # of what is not written: that of the number before; at first -1, the last of all
    unary = np.zeros(total, np.uint8)
    unary[stops] = 1
    packed = np.packbits(unary, bitorder="little").tobytes()
    escaped = quotients[sizes > _ESCAPE]
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
    words, shifts = starts >> _WORD, starts & _IN_WORD
    # As no number has 64 bits, one starts in every word (or the last is over), and only a word's last ends in the next.
    edge = np.ones(len(k) + 1, np.bool_)
    np.not_equal(words[1:], words[:-1], out=edge[1:-1])
    edges = edge.nonzero()[0]
    lasts = edges[1:] - 1
    out = np.zeros(len(edges), np.uint64)
    np.bitwise_or.reduceat(low << shifts, edges[:-1], out=out[:-1])
    out[1:] |= low[lasts] >> (_WORD_BITS - shifts[lasts])  # numpy shifts by 64 to 0
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
