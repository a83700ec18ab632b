"""Variable-length integers (LEB128: seven bits a byte, low bits first), one at a time and whole arrays at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wire.errors import SegmentCorrupt

U64_MAX = (1 << 64) - 1
VARINT_BYTES_MAX = 10  # ceil(64 / 7)
FEW = 100  # numbers that are written sooner one by one than by ten calls of numpy
_ONE, _SIGN = np.array(1, np.uint64), np.array(63, np.int64)  # without dimensions: see `wire.rice_plan`
_PLACES = np.arange(VARINT_BYTES_MAX)
_SHIFTS = (7 * _PLACES).astype(np.uint64)
_LENGTH_STEPS = np.array([1 << (7 * i) for i in range(1, VARINT_BYTES_MAX)], np.uint64)

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


def varint(value: int) -> bytes:
    """One unsigned number below 2^64."""
    return bytes((value,)) if value < 0x80 else varints_of((value,))


def zigzag(value: int) -> int:
    """Signed to unsigned, small magnitudes first: 0, -1, 1, -2 become 0, 1, 2, 3."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    """Inverse of `zigzag`."""
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def zigzag_array(values: U64) -> U64:
    """`zigzag` of int64 bit patterns."""
    signs = (values.view(np.int64) >> _SIGN).view(np.uint64)
    signs ^= values << _ONE
    return signs


def unzigzag_array(values: U64) -> U64:
    """Inverse of `zigzag_array`."""
    signs: U64 = np.negative(values & _ONE)
    signs ^= values >> _ONE
    return signs


def varint_lengths(values: U64) -> I64:
    """Bytes that each number takes."""
    lengths: I64 = _LENGTH_STEPS.searchsorted(values, "right")
    lengths += 1
    return lengths


def varints_of(values: Iterable[int]) -> bytes:
    """Some numbers, one after another."""
    out: list[int] = []
    for value in values:
        rest = value
        while rest >= 0x80:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def varints(values: U64) -> bytes:
    """All numbers, one after another."""
    if len(values) <= FEW:
        return varints_of(values.tolist())
    lengths = varint_lengths(values)
    longest = int(lengths.max())
    if longest == 1:
        return values.astype(np.uint8).tobytes()
    septets = (values[:, None] >> _SHIFTS[:longest]).astype(np.uint8)
    septets &= np.uint8(0x7F)
    there = _PLACES[:longest] < lengths[:, None]
    septets[:, :-1] |= there[:, 1:].view(np.uint8) << np.uint8(7)  # another byte follows
    return septets[there].tobytes()


class Reader:
    """A place in bytes. Every method raises SegmentCorrupt instead of reading past the end."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end

    def take(self, length: int) -> bytes:
        """The next `length` bytes."""
        at = self.at
        if length > self.end - at:
            raise SegmentCorrupt(f"{length} bytes wanted at {at}, {self.end - at} are left")
        self.at = at + length
        return self.data[at : self.at]

    def byte(self) -> int:
        """The next byte."""
        if self.at >= self.end:
            raise SegmentCorrupt(f"a byte wanted at {self.at}, none is left")
        self.at += 1
        return self.data[self.at - 1]

    def varint(self, limit: int = U64_MAX, what: str = "number") -> int:
        """The next number, refused over `limit`."""
        if self.at < self.end and self.data[self.at] <= min(limit, 0x7F):  # one byte, as most are
            self.at += 1
            return self.data[self.at - 1]
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift >= 7 * VARINT_BYTES_MAX:
                raise SegmentCorrupt(f"{what} at {self.at} is longer than {VARINT_BYTES_MAX} bytes")
        if value > limit:
            raise SegmentCorrupt(f"{what} {value} is over {limit}")
        return value

    def varints(self, count: int) -> U64:
        """The next `count` numbers, modulo 2^64. Never allocates more than the bytes left allow."""
        if count > self.end - self.at:
            raise SegmentCorrupt(f"{count} numbers wanted at {self.at}, {self.end - self.at} bytes are left")
        if not count:
            return np.empty(0, np.uint64)
        window = np.frombuffer(self.data, np.uint8, min(self.end - self.at, count * VARINT_BYTES_MAX), self.at)
        ends = (window < 0x80).nonzero()[0][:count]
        if len(ends) < count:
            raise SegmentCorrupt(f"{count} numbers wanted at {self.at}, {len(ends)} are there")
        size = int(ends[-1]) + 1
        self.at += size
        starts = np.empty(count, np.int64)
        starts[0] = 0
        np.add(ends[:-1], 1, out=starts[1:])
        if size == count:
            return window[:size].astype(np.uint64)
        lengths = ends - starts
        if int(lengths.max()) >= VARINT_BYTES_MAX:
            raise SegmentCorrupt(f"a number before {self.at} is longer than {VARINT_BYTES_MAX} bytes")
        places = np.arange(size) - starts.repeat(lengths + 1)
        septets = (window[:size] & np.uint8(0x7F)).astype(np.uint64) << (places * 7).view(np.uint64)
        values: U64 = np.add.reduceat(septets, starts)
        return values
