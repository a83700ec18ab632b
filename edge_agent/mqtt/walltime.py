"""Boot-relative stamps as people and other programs read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from wire.clock import NS_PER_US, Clock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_time(clock: Clock, stamp_us: int) -> str:
    """`2026-01-31T12:00:00.123Z`, by what the wall clock says now."""
    wall_us = (clock.wall_ns() - clock.boottime_ns()) // NS_PER_US + stamp_us
    when = EPOCH + timedelta(microseconds=wall_us)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
