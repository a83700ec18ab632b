"""The grains of data: what one cycle of one poll group brings, and what is said of data that is gone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

SERIES_PER_SET_MAX = 4096  # and so the cells of a tick


class Quality(IntFlag):
    """Doubts about a reading that was taken all the same. 0 = none."""

    RANGE = 1
    STUCK = 2
    RATE = 4
    STALE = 8
    UNCALIBRATED = 16
    CLOCK_UNSURE = 32
    SUBSTITUTED = 64


class CellState(IntEnum):
    """What a cell holds. Every state but ABSENT takes a Seq; 1..127 are gaps with their reason."""

    VALUE = 0
    NO_ANSWER = 1  # NAK on I2C, silence on a serial line
    TIMEOUT = 2  # the driver's deadline passed
    BUS_DOWN = 3  # the bus is quarantined or gone
    BAD_DATA = 4  # checksum, framing or an impossible code
    WRONG_DEVICE = 5  # another chip answers at the address
    DRIVER_ERROR = 6  # the driver itself failed
    NOT_READY = 7  # the chip had no new conversion
    END_OF_DATA = 8  # a replayed file ended
    ABSENT = 255  # filtered: not taken, no Seq


class Priority(IntEnum):
    """Priority class of an atom. Lower goes first and is given up last."""

    ALARM = 0
    NORMAL = 1
    LOW = 2


class Kind(IntEnum):
    """What an atom holds: readings as taken, or what thinning left of them (identity = epoch, range, kind)."""

    RAW = 0
    ROLLUP_1 = 1  # least, greatest, mean and count per minute: `wire.rollup`
    ROLLUP_2 = 2  # reserved: per hour


@dataclass(frozen=True, slots=True)
class Tick:
    """One cycle of one poll group: a shared stamp, and one cell per series of its set.

    `stamp` is boot-relative, in the set's stamp unit. `raw[i]` is an int for INT series and a float otherwise;
    where `states[i]` is not VALUE it is ignored (drivers put 0). `states` and `quality` are None when all are 0.
    """

    set_id: int
    stamp: int
    raw: tuple[int | float, ...]
    states: bytes | None = None
    quality: bytes | None = None

    @property
    def cells(self) -> int:
        """How many Seq numbers this tick takes: all cells that are not ABSENT."""
        return len(self.raw) - (self.states.count(CellState.ABSENT) if self.states else 0)


class LossReason(IntEnum):
    """Why data is not there."""

    EVICTED = 1  # the disk budget
    THINNED = 2  # replaced by a roll-up
    CORRUPT = 3  # the file was damaged; salvage could not read it
    HOLE = 4  # below next_seq, yet not in the outbox, found at boot
    POWER_CUT = 5  # journalled, not committed; count is an estimate
    JOURNAL_FULL = 6  # the ring was full and could not be committed
    CLOUD_RESTORED = 7  # acked once, deleted here, and gone from a cloud restored from backup
    ERASED = 8  # reserved: by request


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An idempotent record that the Seq range first..end of an epoch was given up, and why.

    Keyed (epoch, first, end, reason). A loss that never got Seq numbers (power cut, ring full) has an empty range
    at the `next_seq` of that moment and an estimated `count`. Stamps are boot-relative microseconds, -1 = unknown.
    """

    epoch: int
    first: int
    end: int
    reason: LossReason
    count: int
    span_first_us: int = -1
    span_last_us: int = -1

    @property
    def key(self) -> tuple[int, int, int, int]:
        """What makes it the same record."""
        return (self.epoch, self.first, self.end, int(self.reason))
