"""What a simulated I2C part is: it takes written bytes, gives read ones, and can be made to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol


class Fault(StrEnum):
    """How a part fails, until it is told otherwise."""

    NONE = "none"
    NAK = "nak"  # does not acknowledge its address
    HANG = "hang"  # holds the clock line low: the whole bus stands until the adapter's time-out
    WRONG_ID = "wrong-id"  # another part's id
    STUCK = "stuck"  # the converter stands still: the last value again and again
    SKIPPED = "skipped"  # conversions give the code for "switched off"
    GARBLED = "garbled"  # reads all ones


class I2cChip(Protocol):
    """One part at one address."""

    fault: Fault

    def write(self, data: bytes) -> None:
        """A write message; may be empty (a probe)."""
        ...

    def read(self, length: int) -> bytes:
        """A read message: exactly `length` bytes."""
        ...


GivenOut = Callable[[Sequence[int | None]], None]
"""Called when a part first hands a conversion out, with each channel's raw value (None: not converted). This is the
simulator's own count of readings."""
