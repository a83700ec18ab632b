"""The wall clock. Readings are kept and dated right later whatever it shows; certificates and windows go by it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from edge_agent.doctor.finding import Finding, failed, ok, warning
from wire.clock import NS_PER_S, Clock

IDS = ("clock.year", "clock.synchronised")
YEARS = range(2026, 2076)  # none before this was written, none after the life of any machine it runs on
FIX = "sudo timedatectl set-ntp true"


def check_clock(clock: Clock) -> Iterator[Finding]:
    """The year, and whether a time source disciplines it."""
    year = year_of(clock)
    if year in YEARS:
        yield ok("clock.year", f"the clock shows {year}")
    else:
        text = f"the clock shows {year}: certificates, sync windows and data plans go by it"
        yield failed("clock.year", text, FIX)
    if clock.sync_state().synchronised:
        yield ok("clock.synchronised", "the kernel says that a time source sets the clock")
    else:
        text = "no time source sets the clock; readings are dated right once one does"
        yield warning("clock.synchronised", text, FIX)


def year_of(clock: Clock) -> int:
    """By the wall clock, UTC."""
    return datetime.fromtimestamp(clock.wall_ns() // NS_PER_S, UTC).year
