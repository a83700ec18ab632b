"""What an interface may carry a day and a month, and what it has: counted in bytes of IP, kept over restarts.

Days and months are the owner's local ones, and turn only with a clock that may be believed: while it is unsure, the
count goes on in the last known ones. What is kept is always a little more than was spent (`ahead`), so that a power cut
can make the count too high and never too low.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from fnmatch import fnmatchcase

AHEAD_BYTES_MIN, AHEAD_BYTES_MAX = 16_000, 1_000_000
AHEAD_SHARE = 0.01  # of the smallest limit: at most some 200 writes until it is used up


@dataclass(frozen=True, slots=True)
class Plan:
    """`interface`: a name, or a pattern such as `wwan*`. 0 bytes: no limit. `reserve`: share kept for alarms."""

    interface: str
    daily: int = 0
    monthly: int = 0
    month_begins: int = 1  # day of the month; a shorter month begins with its last day
    reserve: float = 0.1

    def covers(self, interface: str) -> bool:
        """Does this interface belong to the plan?"""
        return fnmatchcase(interface, self.interface)

    def month_of(self, day: date) -> date:
        """First day of the plan's month that holds `day`."""
        first = _clipped(day.year, day.month, self.month_begins)
        if first <= day:
            return first
        before = day.replace(day=1) - timedelta(days=1)
        return _clipped(before.year, before.month, self.month_begins)

    def month_after(self, first: date) -> date:
        """The next one."""
        following = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
        return _clipped(following.year, following.month, self.month_begins)


@dataclass(frozen=True, slots=True)
class Limit:
    """One of a plan's limits as it stands."""

    name: str  # "daily" or "monthly"
    used: int
    limit: int
    reserve: float
    renews: date | None  # None: the date is not known

    @property
    def bulk_left(self) -> int:
        """What readings may still use."""
        return max(0, int(self.limit * (1 - self.reserve)) - self.used)

    @property
    def left(self) -> int:
        """What alarms may still use."""
        return max(0, self.limit - self.used)


class Account:
    """The counts of one plan."""

    def __init__(self, plan: Plan, kept: bytes | None = None) -> None:
        """`kept`: what `record` gave once. Bytes that are none of it begin anew."""
        self.plan = plan
        self._day: date | None = None
        self._month: date | None = None
        self._day_bytes = self._month_bytes = 0
        limits = [limit for limit in (plan.daily, plan.monthly) if limit]
        self.ahead = int(min(AHEAD_BYTES_MAX, max(AHEAD_BYTES_MIN, AHEAD_SHARE * min(limits, default=0))))
        self._unwritten = self.ahead  # what is kept covers no more than is counted here
        if kept is not None:
            self._restore(kept)

    def turn(self, today: date | None) -> None:
        """A new day or month begins when the trusted date says so; an earlier date takes the count back with it."""
        if today is None:
            return
        month = self.plan.month_of(today)
        if self._day is not None and today > self._day:
            self._day_bytes = 0
        if self._month is not None and month > self._month:
            self._month_bytes = 0
        if (self._day, self._month) != (today, month):
            self._unwritten = self.ahead
        self._day, self._month = today, month

    def spend(self, count: int) -> None:
        """So many bytes went over the interface."""
        self._day_bytes += count
        self._month_bytes += count
        self._unwritten += count

    @property
    def due(self) -> bool:
        """Should `record` be kept now?"""
        return self._unwritten >= self.ahead / 2

    def record(self, *, exact: bool = False) -> bytes:
        """What to keep; `exact` at a clean end."""
        extra = 0 if exact else self.ahead
        self._unwritten = 0
        return json.dumps(
            {
                "day": self._day and self._day.isoformat(),
                "day_bytes": self._day_bytes + extra,
                "month": self._month and self._month.isoformat(),
                "month_bytes": self._month_bytes + extra,
            }
        ).encode()

    def limits(self) -> list[Limit]:
        """The plan's limits, the day's first."""
        plan = self.plan
        tomorrow = None if self._day is None else self._day + timedelta(days=1)
        following = None if self._month is None else plan.month_after(self._month)
        rows = (
            ("daily", self._day_bytes, plan.daily, tomorrow),
            ("monthly", self._month_bytes, plan.monthly, following),
        )
        return [Limit(name, used, limit, plan.reserve, renews) for name, used, limit, renews in rows if limit]

    def _restore(self, kept: bytes) -> None:
        try:
            said = json.loads(kept)
            days = [None if said[name] is None else date.fromisoformat(said[name]) for name in ("day", "month")]
            counts = [max(0, int(said[name])) for name in ("day_bytes", "month_bytes")]
        except (ValueError, TypeError, KeyError):
            return
        self._day, self._month = days
        self._day_bytes, self._month_bytes = counts


def midnight(day: date, zone: tzinfo) -> datetime:
    """When a local date begins, in UTC."""
    return datetime.combine(day, time(0), zone).astimezone(UTC)


def _clipped(year: int, month: int, day: int) -> date:
    following = (date(year, month, 1) + timedelta(days=32)).replace(day=1)
    last = (following - timedelta(days=1)).day
    return date(year, month, min(day, last))
