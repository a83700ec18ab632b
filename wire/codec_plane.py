"""Planes: (k, n) bytes that are mostly zero (states, quality, rare scores), as runs or, if that is less, deflated."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.varint import Reader, varint, varints

PLANE_NONE = 0
PLANE_RUNS = 1
PLANE_DEFLATE = 2
PLANE_ROWS = 3  # scores alone: one row of integers per column, for scores that are seldom zero
RUNS_BYTES_MIN = 32  # shorter run lists are not worth a try at deflate
DEFLATE_LEVEL = 6

U8 = NDArray[np.uint8]


def encode_plane(plane: U8 | None) -> tuple[int, bytes]:
    """Codec id and bytes; none for a plane of zeros."""
    if plane is None or not np.count_nonzero(plane):
        return PLANE_NONE, b""
    return encode_runs(plane)


def encode_runs(plane: U8) -> tuple[int, bytes]:
    """Codec id and bytes, for a plane of zeros too."""
    flat = plane.reshape(-1)
    if not len(flat):
        return PLANE_RUNS, varint(0)
    edges = (flat[1:] != flat[:-1]).nonzero()[0] + 1
    starts = np.concatenate(([0], edges))
    ends = np.append(edges, len(flat))
    values = flat[starts]
    kept = values != 0
    starts, ends, values = starts[kept], ends[kept], values[kept]
    gaps = starts - np.concatenate(([0], ends[:-1]))
    numbers = np.concatenate((gaps, ends - starts)).astype(np.uint64)
    runs = varint(len(values)) + varints(numbers) + values.tobytes()
    if len(runs) < RUNS_BYTES_MIN:
        return PLANE_RUNS, runs
    deflated = zlib.compress(flat.tobytes(), DEFLATE_LEVEL)
    if len(deflated) + 3 < len(runs):
        return PLANE_DEFLATE, varint(len(deflated)) + deflated
    return PLANE_RUNS, runs


def decode_plane(reader: Reader, codec: int, shape: tuple[int, int]) -> U8 | None:
    """Inverse of `encode_plane`; never inflates more than the plane's cells."""
    if codec == PLANE_NONE:
        return None
    if codec == PLANE_RUNS:
        return _decode_runs(reader, shape)
    if codec != PLANE_DEFLATE:
        raise UnsupportedFormat(f"plane codec {codec}")
    cells = shape[0] * shape[1]
    packed = reader.take(reader.varint(reader.end - reader.at, "plane length"))
    inflater = zlib.decompressobj()
    try:
        flat = inflater.decompress(packed, cells + 1)
    except zlib.error as error:
        raise SegmentCorrupt(f"plane: {error}") from error
    if len(flat) != cells or not inflater.eof or inflater.unused_data:
        raise SegmentCorrupt(f"a plane of {cells} cells inflates to {len(flat)}")
    return np.frombuffer(bytearray(flat), np.uint8).reshape(shape)


def _decode_runs(reader: Reader, shape: tuple[int, int]) -> U8:
    cells = shape[0] * shape[1]
    count = reader.varint(cells, "runs in a plane")
    numbers = reader.varints(2 * count)
    values = np.frombuffer(reader.take(count), np.uint8)
    if count and int(numbers.max()) > cells:
        raise SegmentCorrupt(f"a run of {int(numbers.max())} in a plane of {cells} cells")
    edges = np.cumsum(np.stack((numbers[:count], numbers[count:]), axis=1).reshape(-1)).view(np.int64)
    if count and int(edges[-1]) > cells:
        raise SegmentCorrupt(f"runs of {int(edges[-1])} cells in a plane of {cells}")
    spread = np.zeros(2 * count + 1, np.uint8)
    spread[1::2] = values
    return np.repeat(spread, np.diff(edges, prepend=0, append=cells)).reshape(shape)
