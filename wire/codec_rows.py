"""Rows of integers as bits: one descriptor byte and a seed each, all Rice residuals in one pass, pco chunks beside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wire import rice
from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.rice_plan import Plan
from wire.varint import I64, U64, Reader, unzigzag_array, varint, varints, zigzag_array

SYMBOL_MAX = rice.K_MAX + 1  # 0: residuals are all zero; 1..61: k + 1
SYMBOL_CONST = 62  # every number of the row is the seed
SYMBOL_PCO = 63
SYMBOL_K = 1  # Rice parameter of the symbols after a row's first

U8 = NDArray[np.uint8]
_TRANSFORM_PLACE = np.array(6, np.uint8)  # above the symbol


@dataclass(frozen=True, slots=True)
class Rows:
    """What was read: the integers of each row (garbage where it is pco), and the pco chunks by row."""

    numbers: I64
    chunks: dict[int, bytes]


def encode_rows(found: Plan, lengths: I64, width: int, chunks: dict[int, bytes]) -> bytes:
    """The rows of `found`, except those that `chunks` replaces: their residuals and symbols are cleared."""
    in_rice = ~found.constant
    heads = found.symbols[:, 0] | found.transforms << _TRANSFORM_PLACE
    heads[found.constant] = SYMBOL_CONST
    seeds = found.seeds
    if chunks:
        in_pco = np.array(list(chunks))
        in_rice[in_pco] = False
        heads[in_pco] = SYMBOL_PCO
        seeds = seeds[heads != SYMBOL_PCO]
        found.residuals[in_pco] = 0
        found.symbols[in_pco] = 0  # such a row writes nothing
    lows = found.lows[in_rice & (found.transforms == rice.CLIMB)]
    parts = [heads.tobytes(), varints(np.concatenate((seeds, lows)))]
    if width > rice.GROUP:
        parts.append(_encode_symbols(found.symbols[in_rice], lengths[in_rice]))
    written, k = _spread(found.symbols, found.transforms, lengths, width)
    parts.append(rice.pack(found.residuals, k, written))
    for row in sorted(chunks):
        parts += (varint(len(chunks[row])), chunks[row])
    return b"".join(parts)


def decode_rows(reader: Reader, lengths: I64, width: int) -> Rows:
    """Inverse of `encode_rows`."""
    heads = np.frombuffer(reader.take(len(lengths)), np.uint8)
    in_rice = (heads & np.uint8(63)) <= SYMBOL_MAX
    if in_rice.all():
        seeds = unzigzag_array(reader.varints(len(lengths))).view(np.int64)
        return Rows(_decode_rice(reader, heads, lengths, width, seeds), {})
    constant, in_pco = heads == SYMBOL_CONST, heads == SYMBOL_PCO
    if not (constant | in_pco | in_rice).all():
        raise UnsupportedFormat("a row is of a codec that this end does not know")
    seeds = np.zeros(len(lengths), np.int64)
    seeded = (~in_pco).nonzero()[0]
    seeds[seeded] = unzigzag_array(reader.varints(len(seeded))).view(np.int64)
    numbers = np.empty((len(lengths), width), np.int64)
    numbers[constant] = seeds[constant][:, None]
    numbers[in_rice] = _decode_rice(reader, heads[in_rice], lengths[in_rice], width, seeds[in_rice])
    chunks = {}
    for row in in_pco.nonzero()[0].tolist():
        chunks[row] = reader.take(reader.varint(reader.end - reader.at, "pco chunk length"))
    return Rows(numbers, chunks)


def _decode_rice(reader: Reader, heads: U8, lengths: I64, width: int, seeds: I64) -> I64:
    transforms, symbols = heads >> _TRANSFORM_PLACE, (heads & np.uint8(63))[:, None]
    lows = np.zeros(len(heads), np.int64)
    climbs = (transforms == rice.CLIMB).nonzero()[0]
    if len(climbs):
        lows[climbs] = unzigzag_array(reader.varints(len(climbs))).view(np.int64)
    if width > rice.GROUP:
        symbols = _decode_symbols(reader, symbols, lengths, width)
    written, k = _spread(symbols, transforms, lengths, width)
    residuals = np.zeros(written.shape, np.uint64)
    residuals[written] = rice.unpack(reader, np.broadcast_to(k, written.shape)[written])
    return rice.restore(residuals, transforms, seeds, lows)


def _spread(symbols: U8, transforms: U8, lengths: I64, width: int) -> tuple[NDArray[np.bool_], U64]:
    """Which residuals are in the bits, and the k of each, or of each row where all of a row have one."""
    if symbols.shape[1] > 1:
        symbols = symbols.repeat(rice.GROUP, axis=1)[:, :width]
    loud = symbols.astype(np.bool_)
    if not np.count_nonzero(lengths != width):
        written = np.empty((len(lengths), width), np.bool_)
        written[:] = loud
    else:
        written = np.arange(width) < lengths[:, None]
        written &= loud
    first = written[:, :1]
    first &= (transforms == rice.CENTRE)[:, None]
    return written, (symbols - loud).astype(np.uint64)


def _encode_symbols(symbols: U8, lengths: I64) -> bytes:
    """The symbols after each row's first, as changes."""
    later = np.arange(1, symbols.shape[1]) * rice.GROUP < lengths[:, None]
    changes = np.diff(symbols.astype(np.int64), axis=1)[later]
    return rice.pack(zigzag_array(changes.view(np.uint64)), np.full(len(changes), SYMBOL_K, np.uint64))


def _decode_symbols(reader: Reader, first: U8, lengths: I64, width: int) -> U8:
    groups = -(-width // rice.GROUP)
    later = np.arange(1, groups) * rice.GROUP < lengths[:, None]
    changes = np.zeros((len(first), groups), np.int64)
    changes[:, :1] = first
    packed = rice.unpack(reader, np.full(int(np.count_nonzero(later)), SYMBOL_K, np.uint64))
    changes[:, 1:][later] = unzigzag_array(packed).view(np.int64)
    symbols = np.cumsum(changes, axis=1)
    if symbols.size and (int(symbols.min()) < 0 or int(symbols.max()) > SYMBOL_MAX):
        raise SegmentCorrupt(f"Rice symbols {int(symbols.min())}..{int(symbols.max())} are not in 0..{SYMBOL_MAX}")
    return symbols.astype(np.uint8)
