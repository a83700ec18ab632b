"""The body of one block: planes of states and quality, then stamps, columns and scores as rows of integers.

Each row is coded on its own terms (see `wire.rice`), all Rice rows in one pass; a column may instead be one pco chunk
where pcodec is installed and its bytes are fewer.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from wire import codec_pco, rice
from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.reading import CellState
from wire.segment import Block, BlockHeader
from wire.series import DTYPES, ValueType
from wire.varint import I64, U64, Reader, unzigzag_array, varint, varints, zigzag_array

PLANE_NONE = 0
PLANE_RUNS = 1
PLANE_DEFLATE = 2
SCORED = 0x10

SYMBOL_CONST = 62  # every number of the row is the seed
SYMBOL_PCO = 63
SYMBOL_MAX = rice.K_MAX + 1
SYMBOL_K = 1  # Rice parameter of the symbols after a row's first

PERIOD_BITS = 16  # fraction bits of the stamps' period
PCO_READINGS_MIN = 32  # a pco chunk's own head is 13 bytes or more
PCO_BYTES_MIN = 24

U8 = NDArray[np.uint8]
Column = NDArray[np.generic]


def encode_block(block: Block, *, pco: bool) -> bytes:
    """The body of a block."""
    states_codec, states = _encode_plane(block.states)
    quality_codec, quality = _encode_plane(block.quality)
    scored = block.scores is not None
    parts = [bytes((states_codec | quality_codec << 2 | (SCORED if scored else 0),)), states, quality]
    period, residuals = _to_line(block.stamps)
    parts.append(varint(period))
    rows = np.empty((1 + len(block.columns) * (2 if scored else 1), block.ticks), np.int64)
    rows[0] = residuals
    for row, column in zip(rows[1:], block.columns):
        row[:] = _to_int(column)
    if block.scores is not None:
        rows[1 + len(block.columns) :] = block.scores
    lengths = _pack_left(block, rows) if states_codec else None
    parts.append(_encode_rows(block, rows, lengths, pco=pco))
    return b"".join(parts)


def _encode_rows(block: Block, rows: I64, lengths: I64 | None, *, pco: bool) -> bytes:
    found = rice.plan(rows, lengths)
    constant = ~found.symbols.any(axis=1) & (found.transforms != rice.CENTRE) & (found.transforms != rice.FLOOR)
    constant |= ~found.residuals.any(axis=1)
    chunks: dict[int, bytes] = {}
    if pco and block.ticks >= PCO_READINGS_MIN and codec_pco.available():
        for index, column in enumerate(block.columns, 1):
            if constant[index] or found.bits[index] < 8 * PCO_BYTES_MIN:
                continue
            numbers = column if lengths is None else column[block.states[index - 1] == CellState.VALUE]  # type: ignore[index]
            chunk = codec_pco.compress(numbers)
            if 8 * (len(chunk) + 2) < found.bits[index]:
                chunks[index] = chunk
    in_rice = ~constant
    in_rice[list(chunks)] = False
    heads = found.symbols[:, 0].copy() if block.ticks else np.zeros(len(rows), np.uint8)
    heads |= found.transforms << np.uint8(6)
    heads[constant] = SYMBOL_CONST
    heads[list(chunks)] = SYMBOL_PCO
    seeded = np.ones(len(rows), np.bool_)
    seeded[list(chunks)] = False
    parts = [heads.tobytes(), varints(zigzag_array(found.seeds[seeded].view(np.uint64)))]
    size = np.full(len(rows), block.ticks) if lengths is None else lengths
    if block.ticks > rice.GROUP:
        parts.append(_encode_symbols(found.symbols[in_rice], size[in_rice]))
    emitted, k = _spread(found.symbols[in_rice], found.emitted[in_rice])
    parts.append(rice.pack(found.residuals[in_rice][emitted], k))
    for chunk in chunks.values():
        parts += (varint(len(chunk)), chunk)
    return b"".join(parts)


def decode_block(reader: Reader, head: BlockHeader, types: list[ValueType]) -> Block:
    """Inverse of `encode_block`. Raises SegmentCorrupt, UnsupportedFormat."""
    flags = reader.byte()
    if flags & ~(SCORED | 15):
        raise UnsupportedFormat(f"block flags {flags:#04x}")
    shape = (head.columns, head.ticks)
    states = _decode_plane(reader, flags & 3, shape)
    quality = _decode_plane(reader, flags >> 2 & 3, shape)
    period = reader.varint(what="stamp period")
    scored = bool(flags & SCORED)
    present = None if states is None else states == CellState.VALUE
    sizes = np.full(1 + head.columns * (2 if scored else 1), head.ticks, np.int64)
    if present is not None:
        taken = present.sum(axis=1)
        sizes[1:] = np.tile(taken, 2 if scored else 1)
    rows, pco = _decode_rows(reader, sizes, head.ticks, types)
    stamps = _from_line(rows[0], period)
    columns: list[Column] = []
    for index, value_type in enumerate(types, 1):
        column = pco.get(index)
        if column is None:
            column = _from_int(rows[index, : sizes[index]], value_type)
        columns.append(column if present is None else _spread_right(column, present[index - 1]))
    scores = None
    if scored:
        scores = np.empty(shape, np.uint8)
        for index, row in enumerate(rows[1 + head.columns :]):
            numbers = row.astype(np.uint8)
            scores[index] = numbers if present is None else _spread_right(numbers[: sizes[1 + index]], present[index])
    return Block(head.set_id, stamps, columns, states, quality, scores, head.stamp_unit)


def _decode_rows(reader: Reader, sizes: I64, ticks: int, types: list[ValueType]) -> tuple[I64, dict[int, Column]]:
    heads = np.frombuffer(reader.take(len(sizes)), np.uint8)
    transforms = heads >> np.uint8(6)
    first = heads & np.uint8(63)
    constant = heads == SYMBOL_CONST
    in_pco = heads == SYMBOL_PCO
    in_rice = first <= SYMBOL_MAX
    if not (constant | in_pco | in_rice).all() or in_pco[0] or in_pco[1 + len(types) :].any():
        raise UnsupportedFormat("a row's codec is unknown")
    seeds = np.zeros(len(sizes), np.int64)
    seeds[~in_pco] = unzigzag_array(reader.varints(int((~in_pco).sum()))).view(np.int64)
    rows = np.empty((len(sizes), ticks), np.int64)
    rows[constant] = seeds[constant][:, None]
    turned, lengths = transforms[in_rice], sizes[in_rice]
    symbols = first[in_rice][:, None]
    if ticks > rice.GROUP:
        symbols = _decode_symbols(reader, symbols, lengths, ticks)
    wanted = np.arange(ticks) < lengths[:, None]
    wanted[(turned == rice.DELTA) | (turned == rice.SLOPE), :1] = False
    emitted, k = _spread(symbols, wanted)
    residuals = np.zeros(emitted.shape, np.uint64)
    residuals[emitted] = rice.unpack(reader, k)
    rows[in_rice] = rice.restore(residuals, turned, seeds[in_rice])
    pco: dict[int, Column] = {}
    for index in np.flatnonzero(in_pco).tolist():
        chunk = reader.take(reader.varint(reader.end - reader.at, "pco chunk length"))
        pco[index] = codec_pco.decompress(chunk, int(sizes[index]), DTYPES[types[index - 1]])
    return rows, pco


def _spread(symbols: U8, wanted: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], U64]:
    """Which residuals are in the bits, and the k of each."""
    ticks = wanted.shape[1]
    if symbols.shape[1] == 1:
        emitted = wanted & (symbols != 0)
        k = np.repeat(symbols[:, 0], emitted.sum(axis=1))
    else:
        wide = np.repeat(symbols, rice.GROUP, axis=1)[:, :ticks]
        emitted = wanted & (wide != 0)
        k = wide[emitted]
    return emitted, k.astype(np.uint64) - np.uint64(1)


def _encode_symbols(symbols: U8, lengths: I64) -> bytes:
    """The symbols after each row's first, as changes."""
    later = np.arange(1, symbols.shape[1]) * rice.GROUP < lengths[:, None]
    changes = np.diff(symbols.astype(np.int64), axis=1)[later]
    return rice.pack(zigzag_array(changes.view(np.uint64)), np.full(len(changes), SYMBOL_K, np.uint64))


def _decode_symbols(reader: Reader, first: U8, lengths: I64, ticks: int) -> U8:
    groups = -(-ticks // rice.GROUP)
    later = np.arange(1, groups) * rice.GROUP < lengths[:, None]
    changes = np.zeros((len(first), groups), np.int64)
    changes[:, :1] = first
    packed = rice.unpack(reader, np.full(int(later.sum()), SYMBOL_K, np.uint64))
    changes[:, 1:][later] = unzigzag_array(packed).view(np.int64)
    symbols = np.cumsum(changes, axis=1)
    if symbols.size and (int(symbols.min()) < 0 or int(symbols.max()) > SYMBOL_MAX):
        raise SegmentCorrupt(f"Rice symbols {int(symbols.min())}..{int(symbols.max())} are not in 0..{SYMBOL_MAX}")
    return symbols.astype(np.uint8)


def _pack_left(block: Block, rows: I64) -> I64:
    """Move the VALUE cells of each row to its start. Returns how many each row has."""
    assert block.states is not None
    columns = len(block.columns)
    present = block.states == CellState.VALUE
    counts = present.sum(axis=1)
    lengths = np.full(len(rows), block.ticks, np.int64)
    for start in range(1, len(rows), columns):
        lengths[start : start + columns] = counts
        for row in np.flatnonzero(counts < block.ticks).tolist():
            taken = rows[start + row][present[row]]
            rows[start + row] = 0
            rows[start + row, : len(taken)] = taken
    return lengths


def _spread_right(taken: Column, present: NDArray[np.bool_]) -> Column:
    if len(taken) == len(present):
        return taken
    column = np.zeros(len(present), taken.dtype)
    column[present] = taken
    return column


def _to_int(column: Column) -> I64:
    """Integers as they are; float bits in an order that follows the numbers, so that deltas are small."""
    if column.dtype == np.float32:
        narrow = column.view(np.int32)
        return np.where(narrow < 0, narrow ^ np.int32(0x7FFF_FFFF), narrow).astype(np.int64)
    bits = column.view(np.int64)
    if column.dtype == np.float64:
        return np.where(bits < 0, bits ^ np.int64(0x7FFF_FFFF_FFFF_FFFF), bits)
    return bits


def _from_int(row: I64, value_type: ValueType) -> Column:
    if value_type is ValueType.FLOAT32:
        narrow = row.astype(np.int32)
        return np.where(narrow < 0, narrow ^ np.int32(0x7FFF_FFFF), narrow).view(np.float32)
    if value_type is ValueType.FLOAT64:
        return np.where(row < 0, row ^ np.int64(0x7FFF_FFFF_FFFF_FFFF), row).view(np.float64)
    return row.copy()


def _to_line(stamps: I64) -> tuple[int, I64]:
    """The period (fixed point) of the line that fits best of two, and the stamps' distance from it."""
    if len(stamps) < 2:
        return 0, stamps
    steps = np.diff(stamps)
    ends = (int(stamps[-1]) - int(stamps[0]) << PERIOD_BITS) // (len(stamps) - 1)
    middle = int(np.partition(steps, len(steps) // 2)[len(steps) // 2]) << PERIOD_BITS
    best: tuple[int, I64] | None = None
    least = 0.0
    for period in dict.fromkeys((ends, middle)):
        if not 0 <= period < 1 << 63:
            continue
        residuals = _from_line(stamps, -period)
        spread = np.abs(residuals - residuals[0]).astype(np.float64)
        cost = min(float(np.log2(spread + 1).sum()), float(np.log2(np.abs(np.diff(residuals)) + 1.0).sum()))
        if best is None or cost < least:
            best, least = (period, residuals), cost
    return best or (0, stamps)


def _from_line(residuals: I64, period: int) -> I64:
    """residual + (i * |period| >> PERIOD_BITS) with the sign of the period, modulo 2^64."""
    size = np.uint64(abs(period))
    places = np.arange(len(residuals), dtype=np.uint64)
    whole, part = size >> np.uint64(PERIOD_BITS), size & np.uint64((1 << PERIOD_BITS) - 1)
    line = places * whole + (places * part >> np.uint64(PERIOD_BITS))
    numbers = residuals.view(np.uint64)
    return (numbers - line if period < 0 else numbers + line).view(np.int64)


def _encode_plane(plane: U8 | None) -> tuple[int, bytes]:
    """Codec id and bytes of a (k, n) plane that is mostly zero: runs, or deflate where that is less."""
    if plane is None or not plane.any():
        return PLANE_NONE, b""
    flat = plane.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate(([0], edges))
    ends = np.append(edges, len(flat))
    values = flat[starts]
    kept = values != 0
    starts, ends, values = starts[kept], ends[kept], values[kept]
    gaps = starts - np.concatenate(([0], ends[:-1]))
    numbers = np.concatenate((gaps, ends - starts)).astype(np.uint64)
    runs = varint(len(values)) + varints(numbers) + values.tobytes()
    if len(runs) < 32:
        return PLANE_RUNS, runs
    deflated = zlib.compress(flat.tobytes(), 6)
    if len(deflated) + 3 < len(runs):
        return PLANE_DEFLATE, varint(len(deflated)) + deflated
    return PLANE_RUNS, runs


def _decode_plane(reader: Reader, codec: int, shape: tuple[int, int]) -> U8 | None:
    cells = shape[0] * shape[1]
    if codec == PLANE_NONE:
        return None
    if codec == PLANE_DEFLATE:
        packed = reader.take(reader.varint(reader.end - reader.at, "plane length"))
        inflater = zlib.decompressobj()
        try:
            flat = inflater.decompress(packed, cells + 1)
        except zlib.error as error:
            raise SegmentCorrupt(f"plane: {error}") from error
        if len(flat) != cells or not inflater.eof or inflater.unused_data:
            raise SegmentCorrupt(f"plane of {cells} cells has {len(flat)}")
        return np.frombuffer(flat, np.uint8).reshape(shape).copy()
    if codec != PLANE_RUNS:
        raise UnsupportedFormat(f"plane codec {codec}")
    count = reader.varint(cells, "runs in a plane")
    numbers = reader.varints(2 * count)
    values = np.frombuffer(reader.take(count), np.uint8)
    if count and int(numbers.max()) > cells:
        raise SegmentCorrupt(f"a run of {int(numbers.max())} in a plane of {cells} cells")
    edges = np.cumsum(np.stack((numbers[:count], numbers[count:]), axis=1).reshape(-1)).view(np.int64)
    if count and int(edges[-1]) > cells:
        raise SegmentCorrupt(f"runs of {int(edges[-1])} cells in a plane of {cells}")
    lengths = np.diff(edges, prepend=0, append=cells)
    spread = np.zeros(len(lengths), np.uint8)
    spread[1::2] = values
    return np.repeat(spread, lengths).reshape(shape)
