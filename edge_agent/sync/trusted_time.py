"""The wall clock, where it may be believed: set by the network, or told by the cloud within this boot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wire.clock import NS_PER_US, Clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TrustedTime:
    """The kernel's word first; else what Welcome said, carried on by CLOCK_BOOTTIME."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_us: int | None = None  # of the cloud's clock to this boottime

    def told(self, server_time_us: int) -> None:
        """The cloud's clock, as it was a moment ago."""
        self._offset_us = server_time_us - self._clock.boottime_ns() // NS_PER_US

    def utc(self) -> datetime | None:
        """Now; None while nothing tells it."""
        if self._clock.sync_state().synchronised:
            return EPOCH + timedelta(microseconds=self._clock.wall_ns() // NS_PER_US)
        if self._offset_us is None:
            return None
        return EPOCH + timedelta(microseconds=self._offset_us + self._clock.boottime_ns() // NS_PER_US)
