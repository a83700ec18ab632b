"""The body of one block: planes of states and quality, the stamps' period, steps, then all rows of integers.

Row 0 is the stamps, then one row per column, then one per column for scores. A row holds only the VALUE cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire import codec_pco
from wire.codec_number import (
    Column,
    Group,
    Layout,
    Step,
    decode_steps,
    encode_steps,
    find_decimals,
    find_steps,
    from_row,
    gather,
)
from wire.codec_plane import PLANE_NONE, PLANE_ROWS, decode_plane, encode_plane, encode_runs
from wire.codec_rows import decode_rows, encode_rows
from wire.codec_stamp import PERIOD_MAX, from_line, to_line
from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.reading import CellState
from wire.rice_plan import Plan, plan
from wire.segment import SCORE_NONE, Block, BlockHeader
from wire.series import DTYPES, ValueType
from wire.varint import I64, Reader, varint

# A block's flags: the codecs of states, quality and scores, two bits each, then:
FLAG_STEPS = 0x40
FLAGS_KNOWN = 0x7F
SCORES_DENSE = 0.2  # from this share of non-zero scores on, they are rows and not a plane

# pco is tried where its bytes pay for its time on real columns (decision 0255):
PCO_READINGS_MIN = 32  # float64 that is no decimal; a pco chunk's own head is 13 bytes or more
PCO_READINGS_COUNTS = 128  # counts that have no step and take so many bits each:
PCO_BITS_COUNTS = 16
PCO_READINGS_ALWAYS = 300

U8 = NDArray[np.uint8]


def encode_block(block: Block, types: Layout, *, pco: bool) -> bytes:
    """The body of a block. types: of its columns."""
    width, count = block.ticks, len(block.columns)
    states_codec, states = encode_plane(block.states)
    quality_codec, quality = encode_plane(block.quality)
    present = block.states == CellState.VALUE if states_codec and block.states is not None else None
    columns = block.columns if present is None else [c[p] for c, p in zip(block.columns, present)]
    scores_codec, scores = _encode_scores(block.scores, present)
    lengths = _lengths(width, count, present, in_rows=scores_codec == PLANE_ROWS)

    rows = np.zeros((len(lengths), width), np.int64)
    of_columns = rows[1 : 1 + count]
    period, rows[0] = to_line(block.stamps)
    groups = gather(columns, types.places, None if present is None else lengths[1 : 1 + count], of_columns)
    if scores_codec == PLANE_ROWS and block.scores is not None:
        _put_scores(block.scores, present, rows[1 + count :])
    steps = find_steps(of_columns, groups, None if present is None else lengths[1 : 1 + count])
    steps |= find_decimals(groups, of_columns)
    found = plan(rows, None if present is None else lengths)
    chunks = _pco_chunks(found, lengths, columns, groups, steps) if pco and width >= PCO_READINGS_MIN else {}
    steps = {place: step for place, step in steps.items() if place + 1 not in chunks}

    flags = states_codec | quality_codec << 2 | scores_codec << 4 | bool(steps) * FLAG_STEPS
    parts = [bytes((flags,)), states, quality, scores, varint(period)]
    if steps:
        parts.append(encode_steps(steps, types.of_columns))
    parts.append(encode_rows(found, lengths, width, chunks))
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands in a body before its rows, and how many numbers each row holds."""

    states: U8 | None
    quality: U8 | None
    scores: U8 | None
    scores_in_rows: bool
    period: int
    steps: dict[int, Step]
    present: NDArray[np.bool_] | None  # which cells are VALUE; None: all
    lengths: I64


def read_frame(reader: Reader, head: BlockHeader, types: list[ValueType]) -> Frame:
    """The start of a body. Raises SegmentCorrupt, UnsupportedFormat."""
    flags = reader.byte()
    if flags & ~FLAGS_KNOWN:
        raise UnsupportedFormat(f"block flags {flags:#04x}, this end knows {FLAGS_KNOWN:#04x}")
    width, count = head.ticks, head.columns
    states = decode_plane(reader, flags & 3, (count, width))
    quality = decode_plane(reader, flags >> 2 & 3, (count, width))
    scores_codec = flags >> 4 & 3
    in_rows = scores_codec == PLANE_ROWS
    scores = None if in_rows else decode_plane(reader, scores_codec, (count, width))
    period = reader.varint(PERIOD_MAX - 1, "stamp period")
    steps = decode_steps(reader, types) if flags & FLAG_STEPS else {}
    present = None if states is None else states == CellState.VALUE
    lengths = _lengths(width, count, present, in_rows=in_rows)
    return Frame(states, quality, scores, in_rows, period, steps, present, lengths)


def decode_block(reader: Reader, head: BlockHeader, types: list[ValueType]) -> Block:
    """Inverse of `encode_block`. Raises SegmentCorrupt, UnsupportedFormat."""
    frame = read_frame(reader, head, types)
    count, steps, present, lengths, scores = head.columns, frame.steps, frame.present, frame.lengths, frame.scores
    rows = decode_rows(reader, lengths, head.ticks)
    stamps = from_line(rows.numbers[0], frame.period)
    columns: list[Column] = list(rows.numbers[1 : 1 + count])
    if present is not None or steps or rows.chunks or any(types):  # ValueType.INT is 0
        columns = [
            _decode_column(row[: lengths[place]], rows.chunks.pop(place, None), types[place - 1], steps.get(place - 1))
            for place, row in enumerate(rows.numbers[1 : 1 + count], 1)
        ]
    if rows.chunks:
        raise SegmentCorrupt(f"pco in rows {sorted(rows.chunks)}, which are no columns")
    if present is not None:
        columns = [_spread(column, there) for column, there in zip(columns, present)]
    if frame.scores_in_rows:
        scores = _take_scores(rows.numbers[1 + count :], present)
    elif scores is not None and present is not None:
        scores[~present] = SCORE_NONE
    return Block(head.set_id, stamps, columns, frame.states, frame.quality, scores, head.stamp_unit)


def _decode_column(row: I64, chunk: bytes | None, value_type: ValueType, step: Step | None) -> Column:
    if chunk is None:
        return from_row(row, value_type, step)
    return codec_pco.decompress(chunk, len(row), DTYPES[value_type])


def _pco_chunks(
    found: Plan, lengths: I64, columns: list[Column], groups: list[Group], steps: dict[int, Step]
) -> dict[int, bytes]:
    """pco chunks by row, for columns where they are smaller."""
    chunks: dict[int, bytes] = {}
    short = found.residuals.shape[1] < PCO_READINGS_COUNTS
    for value_type, places, _ in groups:
        if short and value_type is not ValueType.FLOAT64:
            continue
        for place in places.tolist():
            row = place + 1
            bits, readings, least = int(found.bits[row]), int(lengths[row]), PCO_READINGS_ALWAYS
            if place not in steps:
                if value_type is ValueType.FLOAT64:
                    least = PCO_READINGS_MIN
                elif value_type is ValueType.INT and bits >= PCO_BITS_COUNTS * readings:
                    least = PCO_READINGS_COUNTS
            if readings < least or found.constant[row]:
                continue
            if not codec_pco.available():  # asked late: a gateway of counts alone never loads the library
                return chunks
            chunk = codec_pco.compress(columns[place])
            if 8 * (len(chunk) + 2) < bits:
                chunks[row] = chunk
    return chunks


def _lengths(width: int, count: int, present: NDArray[np.bool_] | None, *, in_rows: bool) -> I64:
    """How many numbers each row holds: all stamps, then the VALUE cells of columns and of scores that are rows."""
    copies = 2 if in_rows else 1
    if present is None:
        lengths = np.empty(1 + count * copies, np.int64)
        lengths.fill(width)
        return lengths
    return np.concatenate(([width], np.tile(np.count_nonzero(present, axis=1), copies))).astype(np.int64)


def _encode_scores(scores: NDArray[np.uint8] | None, present: NDArray[np.bool_] | None) -> tuple[int, bytes]:
    """Codec id and, for a plane, its bytes."""
    if scores is None:
        return PLANE_NONE, b""
    told = scores if present is None else scores * present
    if np.count_nonzero(told) > SCORES_DENSE * told.size:
        return PLANE_ROWS, b""
    return encode_runs(told)


def _put_scores(scores: NDArray[np.uint8], present: NDArray[np.bool_] | None, rows: I64) -> None:
    if present is None:
        rows[:] = scores
        return
    for row, codes, there in zip(rows, scores, present):
        taken = codes[there]
        row[: len(taken)] = taken


def _take_scores(rows: I64, present: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    codes = rows.astype(np.uint8)
    if present is None:
        return codes
    scores = np.full(present.shape, SCORE_NONE, np.uint8)
    for row, there, whole in zip(codes, present, scores):
        whole[there] = row[: np.count_nonzero(there)]
    return scores


def _spread(taken: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[Any]:
    """VALUE cells back to their places; the others are 0."""
    if len(taken) == len(present):
        return taken
    column = np.zeros(len(present), taken.dtype)
    column[present] = taken
    return column
