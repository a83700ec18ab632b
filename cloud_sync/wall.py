"""The wall clock as certificates know it."""

from __future__ import annotations

from datetime import UTC, datetime

from wire.clock import NS_PER_S, Clock


def wall_time(clock: Clock) -> datetime:
    """Now, in UTC, whole seconds."""
    return datetime.fromtimestamp(clock.wall_ns() // NS_PER_S, UTC)
