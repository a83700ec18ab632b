"""Can these bytes be decoded? Told without building the columns, for a cloud that stores messages as they came.

Whatever makes `wire.codec.decode` fail stands in the structure, not in the numbers: which rows there are, how long
each stream is, how large the stamps get. So the structure is walked and of the numbers only the stamps are read. What
the walk does not know for certain (long rows, escapes, anything that looks wrong) `decode` itself has to tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wire import codec_pco
from wire.codec import TIME_US_MAX, check_counts, decode, open_segment, zone
from wire.codec_block import Frame, read_frame
from wire.codec_rows import SYMBOL_CONST, SYMBOL_PCO
from wire.errors import WireError
from wire.rice import CENTRE, CLIMB, ESCAPE, GROUP, SLOPE
from wire.segment import BlockHeader, Header
from wire.series import DTYPES, ValueType
from wire.varint import U64_MAX, VARINT_BYTES_MAX, Reader, unzigzag

_SIGN = 1 << 63


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known of a segment that `decode` takes. The zone is that of `wire.codec.zone`."""

    header: Header
    value_types: tuple[tuple[ValueType, ...], ...]  # of each block's columns
    zone_us: tuple[int, int]


def verify(data: bytes) -> Verified:
    """Tell whether `decode` takes these bytes.

    Raises:
        SegmentCorrupt, UnsupportedFormat: exactly where `decode` does.
    """
    reader, header, types = open_segment(data)
    try:
        zone_us = _walk(reader, header, types)
    except WireError:  # so will decode, in its own words, or take it after all: a seed is read modulo 2^64 there
        zone_us = None
    if zone_us is None:
        zone_us = zone(decode(data))
    return Verified(header, tuple(map(tuple, types)), zone_us)


def _walk(reader: Reader, header: Header, types: list[list[ValueType]]) -> tuple[int, int] | None:
    """The zone, or None where only `decode` can tell."""
    spans: list[tuple[int, int]] = []
    planes = []
    for head, value_types in zip(header.blocks, types):
        if head.ticks > GROUP:
            return None
        frame = read_frame(reader, head, value_types)
        stamps = _walk_rows(reader, head, value_types, frame)
        if stamps is None:
            return None
        if stamps:
            us = head.stamp_unit.us
            spans.append((min(stamps) * us, max(stamps) * us))
        planes.append(frame.states)
    if reader.at != reader.end:
        return None
    check_counts(header, planes)
    first, last = min([low for low, _ in spans], default=0), max([high for _, high in spans], default=0)
    return (first, last) if first >= -TIME_US_MAX and last <= TIME_US_MAX else None


def _walk_rows(reader: Reader, head: BlockHeader, types: list[ValueType], frame: Frame) -> list[int] | None:
    """The stamps of a block, whose rows are walked to their end; None where only `decode` can tell."""
    lengths = frame.lengths.tolist()
    heads = reader.take(len(lengths))
    numbers = bits = climbs = 0
    in_pco: list[int] = []
    for row, (code, length) in enumerate(zip(heads, lengths)):
        transform, symbol = code >> 6, code & 63
        if symbol >= SYMBOL_CONST:
            if code == SYMBOL_PCO and 1 <= row <= head.columns:
                in_pco.append(row)
            elif code != SYMBOL_CONST:
                return None
            continue
        climbs += transform == CLIMB
        if symbol:
            written = length - (transform != CENTRE and length > 0)
            numbers += written
            bits += written * (symbol - 1)
    if heads[0] == SYMBOL_PCO:
        return None
    seed = _first_of(reader, len(heads) - len(in_pco))
    low = _first_of(reader, climbs)
    ones = int.from_bytes(reader.take(reader.varint(reader.end - reader.at, "unary length")), "little")
    escapes = _escapes(ones)
    packed = reader.take((bits + 7) // 8)
    if seed is None or low is None or ones.bit_count() != numbers or escapes is None:
        return None
    if _first_of(reader, escapes) is None:
        return None
    for row in in_pco:
        chunk = reader.take(reader.varint(reader.end - reader.at, "pco chunk length"))
        codec_pco.decompress(chunk, lengths[row], DTYPES[types[row - 1]])
    residuals = _first_row(heads[0], head.ticks, ones, packed)
    return None if residuals is None else _stamps(heads[0] >> 6, seed, low, residuals, frame.period)


def _escapes(ones: int) -> int | None:
    """How many ones have ESCAPE zeros before them; None where one has more."""
    zeros = ones ^ ((1 << ones.bit_length()) - 1)
    for shift in (1, 2, 4, 8, 8):  # a bit stays where 2, 4, 8, 16, 24 zeros begin
        zeros &= zeros >> shift
    return None if zeros & zeros >> 1 else zeros.bit_count()


def _first_of(reader: Reader, count: int) -> int | None:
    """Skip `count` varints and return the first; None where one is missing or too long. Raises SegmentCorrupt."""
    if not count:
        return 0
    window = np.frombuffer(reader.data, np.uint8, min(reader.end - reader.at, count * VARINT_BYTES_MAX), reader.at)
    ends = (window < 0x80).nonzero()[0]
    if len(ends) < count:
        return None
    if count > 1 and int((ends[1:count] - ends[: count - 1]).max()) > VARINT_BYTES_MAX:
        return None
    end = reader.at + int(ends[count - 1]) + 1
    first = reader.varint()
    reader.at = end
    return first


def _first_row(code: int, length: int, ones: int, packed: bytes) -> list[int] | None:
    """The residuals of the first row, zeros where they take no bits; None where one has an escape."""
    symbol, skipped = code & 63, code >> 6 != CENTRE and length > 0
    if not 0 < symbol < SYMBOL_CONST:
        return [0] * length
    k = symbol - 1
    written = length - skipped
    ones &= (1 << (ESCAPE + 1) * written) - 1  # no further can they lie, and smaller integers shift faster
    lows = int.from_bytes(packed[: (written * k + 7) // 8], "little")
    mask = (1 << k) - 1
    residuals = [0] * skipped
    for _ in range(written):
        quotient = (ones & -ones).bit_length() - 1
        if quotient == ESCAPE:
            return None
        ones >>= quotient + 1
        residuals.append((quotient << k | lows & mask) & U64_MAX)
        lows >>= k
    return residuals


def _stamps(transform: int, seed: int, low: int, residuals: list[int], period: int) -> list[int]:
    """`rice.restore` and `codec_stamp.from_line` for one row."""
    start, climb = unzigzag(seed), unzigzag(low)
    stamps = []
    number, delta = start, 0
    for place, residual in enumerate(residuals):
        if transform == CENTRE:
            number = start + unzigzag(residual)
        elif place:
            change = residual + climb if transform == CLIMB else unzigzag(residual)
            delta = delta + change if transform == SLOPE else change
            number += delta
        stamp = number + (place * period >> 16) & U64_MAX
        stamps.append(stamp - (stamp & _SIGN) * 2)
    return stamps
