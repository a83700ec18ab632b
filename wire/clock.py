"""Time, passed in: no module of the project reads a clock by itself.

Two clocks matter on a gateway. CLOCK_BOOTTIME never steps and counts through suspend; every stamp is taken from it.
The wall clock may be years off until the network sets it (a Pi has no battery clock); an `Anchor` ties the two.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
US_PER_S = 1_000_000
MS_PER_S = 1_000

STA_UNSYNC = 0x0040  # adjtimex(2): clock unsynchronised
TIME_ERROR = 5  # adjtimex(2): return value when the clock is not synchronised


@dataclass(frozen=True, slots=True)
class SyncState:
    """Whether the wall clock can be trusted, and how far (kernel's estimate, microseconds)."""

    synchronised: bool
    uncertainty_us: int


class Clock(Protocol):
    """The only way to time. `sleep` blocks the calling thread; asyncio code waits on its own loop."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC, by the wall clock; may step."""
        ...

    def boottime_ns(self) -> int:
        """Nanoseconds since boot, suspend included; never steps."""
        ...

    def sync_state(self) -> SyncState:
        """Is the wall clock disciplined by a time source?"""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        ...


@dataclass(frozen=True, slots=True)
class Anchor:
    """One simultaneous look at both clocks. `wall_us - boottime_us` is the offset that dates boot-relative stamps.

    Atoms share the identical anchor until the offset steps or the sync state changes, so that they can be merged
    and cut again without loss.
    """

    boottime_us: int
    wall_us: int
    synchronised: bool
    uncertainty_us: int

    @property
    def offset_us(self) -> int:
        """Add it to a boot-relative stamp in microseconds to get wall time."""
        return self.wall_us - self.boottime_us


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2) on 64-bit Linux; the tail is padding up to the kernel's size."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("tail", ctypes.c_byte * 256),
    )


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def wall_ns(self) -> int:
        """See `Clock`."""
        return time.time_ns()

    def boottime_ns(self) -> int:
        """See `Clock`."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def sync_state(self) -> SyncState:
        """The kernel's own word (adjtimex); unsynchronised where the call is refused."""
        timex = _Timex()
        state = self._libc.adjtimex(ctypes.byref(timex))
        synchronised = state >= 0 and state != TIME_ERROR and not timex.status & STA_UNSYNC
        return SyncState(synchronised, int(timex.maxerror) if state >= 0 else 0)

    def sleep(self, seconds: float) -> None:
        """See `Clock`."""
        time.sleep(seconds)


def boot_id() -> str:
    """The kernel's random id of this boot (random(4), boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def machine_id() -> str:
    """What tells this machine from others: the board's serial number, else the installation's id (machine-id(5)).

    A copied card carries machine-id(5) with it; the serial number of a board with a device tree stays behind. Where
    neither is there it is the boot id, so that clones still differ.
    """
    for path in ("/sys/firmware/devicetree/base/serial-number", "/etc/machine-id"):
        try:
            text = Path(path).read_text(encoding="ascii").strip("\0 \n")
        except (OSError, UnicodeDecodeError):
            continue
        if text.strip("0"):
            return text
    return boot_id()
