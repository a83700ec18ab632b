"""What the owner lets leave: pauses, windows, data plans. The machine's `Governor`; no thread and no socket in it.

Where the local time matters and nothing tells it, bulk waits: the gateway connects to be told it by the cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from edge_agent.sync.data_plan import Account, Limit, Plan, midnight
from edge_agent.sync.pause import Pause, new_pause, pause_of
from edge_agent.sync.trusted_time import TrustedTime
from edge_agent.sync.window import Window, look
from wire.clock import NS_PER_S, Clock
from wire.sync.leave import Leave

PREFIX = "sync/"  # of what is kept in the outbox
PAUSE = PREFIX + "pause"
PLAN = PREFIX + "plan/"
LOOK_S = 1.0  # between two looks at the clock while nothing else changes
LOOK_S_MAX = 60.0  # a clock that steps, a route that changes
NOW_S = 3600.0  # how long `sync now` opens the windows


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """`alarms_wait`: alarms keep to the windows too."""

    windows: tuple[Window, ...] = ()
    alarms_wait: bool = False
    plans: tuple[Plan, ...] = ()


@dataclass(frozen=True, slots=True)
class Hold:
    """One reason why something waits. `bulk`, `alarms`: what it holds back. `until_s`: seconds from now, if known."""

    code: str  # paused, window, plan, time; stable
    text: str
    advice: str
    bulk: bool = True
    alarms: bool = False
    until_s: float | None = None


class SyncPolicy:
    """See the module. On one thread."""

    def __init__(
        self,
        options: PolicyOptions,
        clock: Clock,
        zone: tzinfo,
        boot: str,
        keep: Callable[[str, bytes], None],
        kept: Callable[[str], dict[str, bytes]],
    ) -> None:
        """`keep` and `kept` are the outbox': bytes under a name, durable with its next commit."""
        self._options = options
        self._clock = clock
        self._zone = zone
        self._boot = boot
        self._keep = keep
        self._time = TrustedTime(clock)
        found = kept(PREFIX)
        self._pause: Pause | None = pause_of(found.get(PAUSE))
        self._accounts = [Account(plan, found.get(PLAN + plan.interface)) for plan in options.plans]
        self._interface = ""
        self._open_until_ns = 0  # `sync now`
        self._window: tuple[datetime, bool, datetime] | None = None  # looked at, open, until
        self._leave: Leave | None = None
        self._looked_at = 0.0

    def utc(self) -> datetime | None:
        """The time, as the network or the cloud told it; None while nothing has."""
        return self._time.utc()

    # The machine's questions

    def leave(self, now: float) -> Leave:
        """See `Governor`."""
        if self._leave is None or not 0 <= now - self._looked_at < LOOK_S:
            self._looked_at = now
            self._leave = self._look(now)
        return self._leave

    def told_time(self, server_time_us: int, now: float) -> None:
        """See `Governor`."""
        self._time.told(server_time_us)
        self._leave = None

    # What the owner says

    def pause(self, lasts_s: float | None, *, alarms: bool) -> None:
        """Until `resume`, or for so long."""
        now_ns = self._clock.boottime_ns()
        self._pause = new_pause(self._boot, now_ns, self._time.utc(), lasts_s, alarms=alarms)
        self._open_until_ns = 0
        self._keep(PAUSE, self._pause.record())
        self._leave = None

    def resume(self) -> bool:
        """End the pause; was there one?"""
        was = self._pause is not None
        if was:
            self._pause = None
            self._keep(PAUSE, b"")
        self._leave = None
        return was

    def open_now(self) -> None:
        """Windows do not matter until everything is sent, an hour at most. Pauses and plans do."""
        self._open_until_ns = self._clock.boottime_ns() + round(NOW_S * NS_PER_S)
        self._leave = None

    @property
    def is_open_now(self) -> bool:
        """Is what `open_now` was for still being sent?"""
        return self._clock.boottime_ns() < self._open_until_ns

    def sent_all(self) -> None:
        """What `open_now` was for is done."""
        self._open_until_ns = 0
        self._leave = None

    # What the socket says

    def route(self, interface: str) -> None:
        """Traffic leaves by this interface now; empty: not known."""
        if interface != self._interface:
            self._interface = interface
            self._leave = None

    @property
    def meters(self) -> bool:
        """Is there a plan to be kept to?"""
        return bool(self._accounts)

    def spend(self, interface: str, count: int) -> None:
        """So many bytes of IP went over an interface, both ways together."""
        account = self._account(interface)
        if account is None or not count:
            return
        self._turn()
        account.spend(count)
        if account.due:
            self._keep(PLAN + account.plan.interface, account.record())
        self._leave = None

    def close(self) -> None:
        """A clean end: what is kept is exact. The outbox commits after this."""
        for account in self._accounts:
            self._keep(PLAN + account.plan.interface, account.record(exact=True))

    # What is asked for people

    @property
    def interface(self) -> str:
        """By which traffic leaves, as last told."""
        return self._interface

    def limits(self) -> list[tuple[str, Limit]]:
        """Every plan's limits, with its interface."""
        self._turn()
        return [(account.plan.interface, limit) for account in self._accounts for limit in account.limits()]

    def holds(self) -> list[Hold]:
        """Every reason why something waits, the widest first."""
        utc = self._time.utc()
        found = [*self._pause_holds(utc), *self._plan_holds(utc), *self._window_holds(utc)]
        return sorted(found, key=lambda hold: not hold.alarms)

    def _look(self, now: float) -> Leave:
        holds = self.holds()
        restrained = bool(holds or self._options.windows or self._accounts or self._pause)
        times = [hold.until_s for hold in holds if hold.until_s is not None]
        if self._window is not None and not holds:
            times.append((self._window[2] - self._window[0]).total_seconds())
        until = now + min([LOOK_S_MAX, *(max(0.1, seconds) for seconds in times)]) if restrained else None
        codes = {hold.code for hold in holds}
        return Leave(
            bulk=not any(hold.bulk for hold in holds),
            alarms=not any(hold.alarms for hold in holds),
            ask_time="time" in codes and codes <= {"time"},
            why="; ".join(hold.text for hold in holds),
            until=until,
        )

    def _pause_holds(self, utc: datetime | None) -> list[Hold]:
        if self._pause is None:
            return []
        left_s = self._pause.left_s(self._boot, self._clock.boottime_ns(), utc)
        if left_s is not None and left_s <= 0:
            self._pause = None
            self._keep(PAUSE, b"")
            return []
        what = "readings and alarms wait" if self._pause.alarms else "readings wait, alarms go"
        return [Hold("paused", f"paused: {what}", "edge-agent sync resume", alarms=self._pause.alarms, until_s=left_s)]

    def _window_holds(self, utc: datetime | None) -> list[Hold]:
        windows = self._options.windows
        if not windows or self.is_open_now:
            self._window = None
            return []
        wait = self._options.alarms_wait
        if utc is None:
            self._window = None
            text = "the local time is not known, so neither is whether a sync window is open"
            return [Hold("time", text, "it is asked of the cloud; or see: timedatectl", alarms=wait)]
        if self._window is None or not self._window[0] <= utc < self._window[2]:
            self._window = (utc, *look(windows, utc, self._zone))
        _, is_open, until = self._window
        self._window = (utc, is_open, until)
        if is_open:
            return []
        begins = until.astimezone(self._zone)
        text = f"outside the sync windows: the next begins {begins:%a %Y-%m-%d %H:%M}"
        advice = "edge-agent sync now sends what waits all the same; windows: [[cloud.window]]"
        return [Hold("window", text, advice, alarms=wait, until_s=(until - utc).total_seconds())]

    def _plan_holds(self, utc: datetime | None) -> list[Hold]:
        account = self._account(self._interface)
        if account is None:
            return []
        self._turn()
        holds = []
        for limit in account.limits():
            if limit.bulk_left:
                continue
            reserve = "alarms go on from the reserve" if limit.left else "its reserve for alarms too"
            said = f"the {limit.name} data plan of {account.plan.interface} is used up ({limit.used:,} of "
            said += f"{limit.limit:,} bytes; {reserve})"
            until_s = None
            if limit.renews is not None and utc is not None:
                until_s = (midnight(limit.renews, self._zone) - utc).total_seconds()
                said += f"; it begins anew on {limit.renews}"
            else:
                said += "; it begins anew when the local date is known and another"
            advice = "raise [[cloud.plan]], or take another route (ip route)"
            holds.append(Hold("plan", said, advice, alarms=not limit.left, until_s=until_s))
        return holds

    def _account(self, interface: str) -> Account | None:
        return next((account for account in self._accounts if account.plan.covers(interface)), None)

    def _turn(self) -> None:
        utc = self._time.utc()
        today = None if utc is None else utc.astimezone(self._zone).date()
        for account in self._accounts:
            account.turn(today)


def limits_document(limits: Sequence[tuple[str, Limit]]) -> list[dict[str, object]]:
    """For `status --json` and `sync explain --json`."""
    return [
        {
            "interface": interface,
            "limit": limit.name,
            "used_bytes": limit.used,
            "limit_bytes": limit.limit,
            "left_for_readings": limit.bulk_left,
            "left_for_alarms": limit.left,
            "renews": limit.renews and limit.renews.isoformat(),
        }
        for interface, limit in limits
    ]
