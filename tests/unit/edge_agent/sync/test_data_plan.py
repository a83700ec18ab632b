"""Counts of a data plan: days, months, what is kept, and that no crash makes them too low."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest

from edge_agent.sync.data_plan import Account, Plan

MB = 1_000_000
TODAY = date(2026, 11, 28)


def used(account: Account) -> list[int]:
    return [limit.used for limit in account.limits()]


def test_a_day_and_a_month_turn() -> None:
    account = Account(Plan("wwan0", daily=2 * MB, monthly=30 * MB, month_begins=15))
    account.turn(TODAY)
    account.spend(MB)
    assert used(account) == [MB, MB]
    account.turn(TODAY + timedelta(days=1))
    assert used(account) == [0, MB]
    account.turn(date(2026, 12, 15))
    assert used(account) == [0, 0]
    assert [limit.renews for limit in account.limits()] == [date(2026, 12, 16), date(2027, 1, 15)]


def test_the_reserve_is_for_alarms() -> None:
    account = Account(Plan("*", daily=MB, reserve=0.2))
    account.spend(790_000)
    (limit,) = account.limits()
    assert (limit.bulk_left, limit.left) == (10_000, 210_000)
    account.spend(20_000)
    (limit,) = account.limits()
    assert (limit.bulk_left, limit.left) == (0, 190_000)
    account.spend(MB)
    assert account.limits()[0].left == 0


def test_without_a_date_nothing_begins_anew() -> None:
    account = Account(Plan("*", daily=MB))
    account.spend(500_000)
    account.turn(None)
    assert account.limits()[0].renews is None
    account.turn(TODAY)
    assert used(account) == [500_000], "what was spent before the date was known counts for this day"


def test_a_clock_that_goes_back_takes_the_count_with_it() -> None:
    account = Account(Plan("*", daily=MB, monthly=MB))
    account.turn(date(2036, 1, 1))
    account.spend(500_000)
    account.turn(TODAY)
    assert used(account) == [500_000, 500_000]
    account.turn(TODAY + timedelta(days=1))
    assert used(account) == [0, 500_000]


@pytest.mark.parametrize("seed", range(20))
def test_after_any_crash_the_count_is_never_too_low(seed: int) -> None:
    """A crash forgets what was kept last if its commit had not come: here, half of the times."""
    rng = random.Random(seed)
    plan = Plan("*", daily=50 * MB)
    account, durable, asked, spent, crashes = Account(plan), None, None, 0, 0
    account.turn(TODAY)
    for _ in range(2000):
        count = rng.randrange(1, 4000)
        spent += count
        account.spend(count)
        if account.due:
            asked = account.record()
        elif asked is not None and rng.random() < 0.5:
            durable, asked = asked, None  # the outbox committed
        if rng.random() < 0.005 and durable is not None:
            crashes += 1
            account, asked = Account(plan, durable), None
            account.turn(TODAY)
        assert used(account)[0] >= spent
    assert used(account)[0] <= spent + (crashes + 1) * (account.ahead + 4000)


def test_a_clean_end_keeps_the_exact_count() -> None:
    plan = Plan("*", daily=50 * MB, monthly=500 * MB)
    account = Account(plan)
    account.turn(TODAY)
    account.spend(123_456)
    again = Account(plan, account.record(exact=True))
    again.turn(TODAY)
    assert used(again) == [123_456, 123_456]


def test_flash_is_spared() -> None:
    account = Account(Plan("*", daily=100 * MB))
    written = 0
    for _ in range(100_000):
        account.spend(1000)
        if account.due:
            account.record()
            written += 1
    assert written <= 210


@pytest.mark.parametrize("kept", [b"", b"{}", b"[1]", b'{"day": 7}', b"\xff", b'{"day": "x", "month": null}'])
def test_what_is_no_record_begins_anew(kept: bytes) -> None:
    assert used(Account(Plan("*", daily=MB), kept)) == [0]


@pytest.mark.parametrize(
    ("begins", "day", "first", "following"),
    [
        (1, TODAY, date(2026, 11, 1), date(2026, 12, 1)),
        (28, TODAY, date(2026, 11, 28), date(2026, 12, 28)),
        (29, TODAY, date(2026, 10, 29), date(2026, 11, 29)),
        (31, date(2026, 3, 1), date(2026, 2, 28), date(2026, 3, 31)),
        (31, date(2026, 3, 30), date(2026, 2, 28), date(2026, 3, 31)),
        (30, date(2028, 2, 29), date(2028, 2, 29), date(2028, 3, 30)),
        (15, date(2027, 1, 3), date(2026, 12, 15), date(2027, 1, 15)),
    ],
)
def test_months_of_a_plan(begins: int, day: date, first: date, following: date) -> None:
    plan = Plan("*", monthly=MB, month_begins=begins)
    assert plan.month_of(day) == first
    assert plan.month_after(first) == following


def test_a_plan_covers_names_by_pattern() -> None:
    assert Plan("wwan*", MB).covers("wwan0")
    assert not Plan("wwan*", MB).covers("eth0")
    assert Plan("*", MB).covers("")
