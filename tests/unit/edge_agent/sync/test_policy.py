"""Pauses, windows and plans in virtual time, over restarts, and with a clock that is not to be believed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from edge_agent.sync.data_plan import Plan
from edge_agent.sync.policy import PolicyOptions, SyncPolicy
from edge_agent.sync.window import parse_window
from wire.clock import NS_PER_S, SyncState

OSLO = ZoneInfo("Europe/Oslo")
NIGHT = parse_window("0 22 * * *", 8 * 3600)
MB = 1_000_000
DAY_S = 86400.0


class Box:
    """A machine with a clock, and a card that keeps what it is given. `trusted`: the network has set the clock."""

    def __init__(self, options: PolicyOptions, start: datetime, *, trusted: bool = True) -> None:
        self.options = options
        self.wall_s = start.timestamp()
        self.boottime_s = 100.0
        self.trusted = trusted
        self.boots = 1
        self.card: dict[str, bytes] = {}
        self.start()

    def start(self) -> None:
        """A process begins."""
        self.policy = SyncPolicy(self.options, self, OSLO, f"boot{self.boots}", self.card.__setitem__, self.kept)

    def reboot(self) -> None:
        self.boots += 1
        self.boottime_s = 10.0
        self.start()

    def kept(self, prefix: str) -> dict[str, bytes]:
        return {name: value for name, value in self.card.items() if name.startswith(prefix)}

    def wall_ns(self) -> int:
        return round(self.wall_s * NS_PER_S)

    def boottime_ns(self) -> int:
        return round(self.boottime_s * NS_PER_S)

    def sync_state(self) -> SyncState:
        return SyncState(self.trusted, 0)

    def sleep(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boottime_s += seconds

    def may(self) -> str:
        """`bulk`, `alarms` or nothing, as the machine is told."""
        leave = self.policy.leave(self.boottime_s)
        assert leave.until is None or leave.until > self.boottime_s
        return "bulk" if leave.bulk else "alarms" if leave.alarms else "nothing"

    def codes(self) -> list[str]:
        return [hold.code for hold in self.policy.holds()]


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=OSLO)  # type: ignore[misc,arg-type]


def test_without_rules_everything_goes_and_nothing_wakes() -> None:
    box = Box(PolicyOptions(), at(2026, 11, 28, 12))
    leave = box.policy.leave(box.boottime_s)
    assert (leave.bulk, leave.alarms, leave.why, leave.until) == (True, True, "", None)


def test_a_window_opens_and_shuts_at_its_minute() -> None:
    box = Box(PolicyOptions((NIGHT,)), at(2026, 11, 28, 21, 59, 30))
    assert box.may() == "alarms"
    assert box.policy.leave(box.boottime_s).until == box.boottime_s + 30
    assert "22:00" in box.policy.holds()[0].text
    box.sleep(30)
    assert box.may() == "bulk"
    box.sleep(8 * 3600 - 1)
    assert box.may() == "bulk"
    box.sleep(1)
    assert box.may() == "alarms"


def test_alarms_wait_for_a_window_where_that_is_asked() -> None:
    box = Box(PolicyOptions((NIGHT,), alarms_wait=True), at(2026, 11, 28, 12))
    assert box.may() == "nothing"


def test_now_opens_the_windows_until_all_is_sent() -> None:
    box = Box(PolicyOptions((NIGHT,)), at(2026, 11, 28, 12))
    box.policy.open_now()
    assert box.may() == "bulk"
    box.policy.sent_all()
    assert box.may() == "alarms"
    box.policy.open_now()
    box.sleep(3601)
    assert box.may() == "alarms", "an hour at most"


def test_an_unsure_clock_keeps_windows_shut_and_asks_the_cloud() -> None:
    box = Box(PolicyOptions((NIGHT,)), at(1970, 1, 1, 23), trusted=False)
    leave = box.policy.leave(box.boottime_s)
    assert (leave.bulk, leave.alarms, leave.ask_time) == (False, True, True)
    assert box.codes() == ["time"]
    box.policy.told_time(round(at(2026, 11, 28, 21, 59).timestamp() * 1e6), box.boottime_s)
    assert box.codes() == ["window"]
    assert not box.policy.leave(box.boottime_s).ask_time
    box.sleep(60)
    assert box.may() == "bulk", "the cloud's time goes on with boottime"


def test_a_wall_clock_that_steps_is_seen() -> None:
    box = Box(PolicyOptions((NIGHT,)), at(2026, 11, 28, 12))
    assert box.may() == "alarms"
    box.wall_s = at(2026, 11, 28, 23).timestamp()
    box.boottime_s += 1
    assert box.may() == "bulk"
    box.wall_s = at(2026, 11, 27, 12).timestamp()
    box.boottime_s += 1
    assert box.may() == "alarms"


def test_a_pause_lasts_until_resume_over_restarts_and_boots() -> None:
    box = Box(PolicyOptions(), at(2026, 11, 28, 12))
    box.policy.pause(None, alarms=False)
    assert box.may() == "alarms"
    for restart in (box.start, box.reboot):
        restart()
        box.sleep(365 * DAY_S)
        assert box.may() == "alarms"
        assert box.codes() == ["paused"]
    assert box.policy.resume()
    assert box.may() == "bulk"
    box.start()
    assert box.may() == "bulk"
    assert not box.policy.resume()


def test_a_pause_for_a_time_ends_by_itself() -> None:
    box = Box(PolicyOptions(), at(2026, 11, 28, 12))
    box.policy.pause(7200, alarms=True)
    assert box.may() == "nothing"
    box.start()
    box.sleep(7199)
    assert box.may() == "nothing"
    box.sleep(1)
    assert box.may() == "bulk"
    box.start()
    assert box.may() == "bulk"


def test_a_pause_for_a_time_in_another_boot_goes_by_the_trusted_clock() -> None:
    box = Box(PolicyOptions(), at(2026, 11, 28, 12))
    box.policy.pause(7200, alarms=False)
    box.sleep(6000)
    box.reboot()
    box.sleep(1199)
    assert box.may() == "alarms"
    box.sleep(1)
    assert box.may() == "bulk"


def test_without_a_clock_a_pause_begins_anew_with_the_boot() -> None:
    box = Box(PolicyOptions(), at(1970, 1, 1), trusted=False)
    box.policy.pause(7200, alarms=False)
    box.sleep(7100)
    box.reboot()
    box.sleep(7180)
    assert box.may() == "alarms"
    box.sleep(20)
    assert box.may() == "bulk"


def test_a_plan_holds_readings_then_alarms_and_begins_anew_at_midnight() -> None:
    plan = Plan("wwan*", daily=MB, reserve=0.1)
    box = Box(PolicyOptions(plans=(plan,)), at(2026, 11, 28, 12))
    box.policy.route("wwan0")
    box.policy.spend("wwan0", 899_000)
    assert box.may() == "bulk"
    box.policy.spend("wwan0", 1000)
    assert box.may() == "alarms"
    hold = box.policy.holds()[0]
    assert "alarms go on from the reserve" in hold.text
    assert "2026-11-29" in hold.text
    assert hold.until_s == 12 * 3600
    box.policy.spend("wwan0", 100_000)
    assert box.may() == "nothing"
    box.sleep(12 * 3600 - 1)
    assert box.may() == "nothing"
    box.sleep(1)
    assert box.may() == "bulk"


def test_now_opens_windows_and_no_plan() -> None:
    box = Box(PolicyOptions((NIGHT,), plans=(Plan("*", daily=MB),)), at(2026, 11, 28, 12))
    box.policy.open_now()
    assert box.may() == "bulk"
    box.policy.spend("eth0", MB)
    assert box.may() == "nothing"


def test_another_route_is_free_of_the_plan() -> None:
    box = Box(PolicyOptions(plans=(Plan("wwan0", daily=MB),)), at(2026, 11, 28, 12))
    box.policy.route("wwan0")
    box.policy.spend("wwan0", MB)
    assert box.may() == "nothing"
    box.policy.route("eth0")
    assert box.may() == "bulk"
    box.policy.spend("eth0", 5 * MB)
    assert box.policy.limits()[0][1].used == MB


def test_a_plan_is_counted_over_restarts() -> None:
    box = Box(PolicyOptions(plans=(Plan("*", monthly=MB),)), at(2026, 11, 28, 12))
    box.policy.spend("eth0", 500_000)
    box.reboot()
    assert 500_000 <= box.policy.limits()[0][1].used <= 520_000, "after a crash rather too much"
    box.policy.close()
    used = box.policy.limits()[0][1].used
    box.start()
    assert box.policy.limits()[0][1].used == used, "a clean end is exact"


def test_a_clock_that_is_not_to_be_believed_renews_no_plan() -> None:
    box = Box(PolicyOptions(plans=(Plan("*", daily=MB),)), at(2026, 11, 28, 12))
    box.policy.spend("", 950_000)
    box.trusted = False
    box.wall_s += 40 * DAY_S
    box.boottime_s += 40 * DAY_S
    assert box.may() == "alarms"
    assert "when the local date is known" in box.policy.holds()[0].text
    box.policy.told_time(round(at(2026, 11, 29, 0, 1).timestamp() * 1e6), box.boottime_s)
    assert box.may() == "bulk"


def test_the_local_day_is_the_owners() -> None:
    """23:30 UTC is the next day in Oslo."""
    box = Box(PolicyOptions(plans=(Plan("*", daily=MB),)), datetime(2026, 11, 28, 22, 59, tzinfo=UTC))
    box.policy.spend("", 950_000)
    assert box.may() == "alarms"
    box.sleep(61)
    assert box.may() == "bulk"
