"""What a number means: series definitions, and the sets of them that are sampled together.

A Series is (gateway, sensor, channel). Its definition may change (another resolution, a new calibration); each
version is named by a 64-bit content hash. A `SeriesSet` is the ordered list of definitions that one poll group
samples with one stamp; it too is named by a hash, so that a segment names fifty series in eight bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wire.reading import SERIES_PER_SET_MAX

NAME_LENGTH_MAX = 128


class ValueType(IntEnum):
    """How a series' raw values are kept. INT is a count at declared resolution; floats are opaque and bit-exact."""

    INT = 0  # int64
    FLOAT32 = 1
    FLOAT64 = 2


DTYPES: dict[ValueType, np.dtype[np.generic]] = {
    ValueType.INT: np.dtype(np.int64),
    ValueType.FLOAT32: np.dtype(np.float32),
    ValueType.FLOAT64: np.dtype(np.float64),
}
VALUE_TYPES = {dtype: value_type for value_type, dtype in DTYPES.items()}


class StampUnit(IntEnum):
    """Resolution of a poll group's stamps. Each factor 10 costs 0.4 byte a reading, so milliseconds unless fast."""

    MS = 0
    US = 1

    @property
    def us(self) -> int:
        """Microseconds in one step."""
        return 1000 if self is StampUnit.MS else 1


def content_id(canonical: bytes) -> int:
    """64-bit content hash with the top bit cleared (SQLite's integers are signed): BLAKE2b, 8 bytes, big-endian."""
    return int.from_bytes(hashlib.blake2b(canonical, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class SeriesDef:
    """One version of one series' meaning. value = (raw * num + off) / den, in `unit` (SenML, RFC 8428)."""

    sensor: str
    channel: str
    unit: str
    value_type: ValueType = ValueType.INT
    num: int = 1
    den: int = 1
    off: int = 0
    device_class: str = ""  # Home Assistant's vocabulary
    low: float | None = None  # plausible range, in `unit`
    high: float | None = None
    rate_max: float | None = None  # largest plausible change, unit per second
    calibration: int = 0  # version of the parameter set; 0 = as the chip came

    def __post_init__(self) -> None:
        for name in (self.sensor, self.channel):
            if not name or len(name) > NAME_LENGTH_MAX or "/" in name or not name.isprintable():
                raise ValueError(f"name {name!r} must be 1 to {NAME_LENGTH_MAX} printable characters without '/'")
        if self.den < 1:
            raise ValueError(f"den {self.den} of {self.sensor}/{self.channel} must be at least 1")
        for bound in ("low", "high", "rate_max"):
            number = getattr(self, bound)
            if number is not None:
                if not math.isfinite(number):
                    raise ValueError(f"{bound} {number} of {self.sensor}/{self.channel} must be finite")
                object.__setattr__(self, bound, float(number))  # 0 and 0.0 have one hash, on both ends

    @property
    def name(self) -> str:
        """`sensor/channel`: the series within its gateway, whatever the version."""
        return f"{self.sensor}/{self.channel}"

    @property
    def canonical(self) -> bytes:
        """The bytes that are hashed: JSON, keys sorted, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()

    @cached_property
    def id(self) -> int:
        """Content hash of this version."""
        return content_id(self.canonical)

    def values(self, raw: NDArray[np.generic]) -> NDArray[np.float64]:
        """Raw counts (or opaque floats) to values in `unit`: the one formula, in float64."""
        numbers = raw.astype(np.float64)
        if self.num == 1 and self.off == 0 and self.den == 1:
            return numbers
        scaled: NDArray[np.float64] = (numbers * self.num + self.off) / self.den
        return scaled


@dataclass(frozen=True)
class SeriesSet:
    """The series that one poll group samples with one stamp, in column order."""

    series: tuple[SeriesDef, ...]
    stamp_unit: StampUnit = StampUnit.MS

    def __post_init__(self) -> None:
        if not 1 <= len(self.series) <= SERIES_PER_SET_MAX:
            raise ValueError(f"{len(self.series)} series in a set; 1 to {SERIES_PER_SET_MAX} are allowed")

    @cached_property
    def id(self) -> int:
        """Content hash over the stamp unit and the series' hashes, in order."""
        parts = [bytes([self.stamp_unit])] + [s.id.to_bytes(8, "big") for s in self.series]
        return content_id(b"".join(parts))

    @property
    def value_types(self) -> tuple[ValueType, ...]:
        """Per column."""
        return tuple(s.value_type for s in self.series)
