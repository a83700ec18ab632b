"""One column as a pco wrapped chunk (meta, then one page). The only importer of pcodec; says so where it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt, UnsupportedFormat

HEADER = bytes((4, 1))  # format version of these chunks; pco's own file header, which we do not store
LEVEL = 8  # pco's default: 12 gains 5 % at most on values (measured on the benchmark's columns)
LEVEL_SHORT = 3  # of short float64 columns: less time for a few more bytes (decision 0255)
AUTO_READINGS_MIN = 300  # below, searching delta orders (and modes, but for float64) costs more than it saves

_NAMES = {np.dtype(np.int64): "i64", np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


@dataclass(frozen=True, slots=True)
class _Library:
    compressor: Any  # None where this pcodec writes a newer format than ours
    decompressor: Any
    plain: Any  # for short columns
    plain_float64: Any  # the same: their mode (decimals, say) is what pays; as they are beats deltas by 10 %
    auto: Any


@cache
def _library() -> _Library | None:
    """pcodec, ready for use; None where it is not installed."""
    try:
        import pcodec
        from pcodec import wrapped
    except ImportError:
        return None
    compressor = wrapped.FileCompressor()
    decompressor, _ = wrapped.FileDecompressor.new(HEADER)
    one_page = pcodec.PagingSpec.equal_pages_up_to(1 << 20)
    plain = pcodec.ChunkConfig(
        compression_level=LEVEL,
        mode_spec=pcodec.ModeSpec.classic(),
        delta_spec=pcodec.DeltaSpec.try_consecutive(1),
        paging_spec=one_page,
    )
    plain_float64 = pcodec.ChunkConfig(
        compression_level=LEVEL_SHORT, delta_spec=pcodec.DeltaSpec.no_op(), paging_spec=one_page
    )
    auto = pcodec.ChunkConfig(compression_level=LEVEL, paging_spec=one_page)
    ours = compressor if compressor.write_header() == HEADER else None
    return _Library(ours, decompressor, plain, plain_float64, auto)


def available() -> bool:
    """Can columns be compressed: is pcodec installed, and does it write our format?"""
    library = _library()
    return library is not None and library.compressor is not None


def compress(numbers: NDArray[np.generic]) -> bytes:
    """One chunk of one page."""
    library = _library()
    assert library is not None, "ask `available` first"
    config = library.plain_float64 if numbers.dtype == np.float64 else library.plain
    if len(numbers) >= AUTO_READINGS_MIN:
        config = library.auto
    chunk = library.compressor.chunk_compressor(np.ascontiguousarray(numbers), config)
    data: bytes = chunk.write_meta() + chunk.write_page(0)
    return data


def decompress(chunk: bytes, count: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """Inverse of `compress`, for exactly `count` numbers.

    Raises:
        SegmentCorrupt: the chunk is damaged or has another count.
        UnsupportedFormat: pcodec is not installed.
    """
    library = _library()
    if library is None:
        raise UnsupportedFormat("a column is coded with pco; install pcodec to read it")
    numbers = np.empty(count, dtype)
    try:
        chunk_decompressor, used = library.decompressor.chunk_decompressor(chunk, _NAMES[dtype])
        progress, read = chunk_decompressor.read_page_into(chunk[used:], count, numbers)
    except BaseException as error:
        # A Rust panic is a BaseException of pyo3's; anything else that is no Exception (Ctrl-C) goes on.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise SegmentCorrupt(f"pco chunk of {len(chunk)} bytes: {error}") from error
    if progress.n_processed != count or not progress.finished or used + read != len(chunk):
        raise SegmentCorrupt(f"pco chunk of {len(chunk)} bytes has not {count} numbers")
    return numbers
