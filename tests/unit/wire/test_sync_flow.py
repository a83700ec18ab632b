from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest

from wire.sync.flow import (
    PATIENCE_MAX,
    QUEUE_S,
    WINDOW_BYTES_MIN,
    WINDOW_BYTES_START,
    Backoff,
    Flow,
    Sent,
)
from wire.sync.frames import MESSAGES_IN_FLIGHT_MAX


def flow(credit: int = 1 << 20) -> Flow:
    made = Flow(stall_s=20.0)
    made.open()
    made.grant(credit)
    return made


def drive(
    link: Flow,
    *,
    rate: float,
    delay_s: float,
    seconds: float,
    commit_s: Callable[[], float] = lambda: 0.0,
    tells: bool = True,
) -> tuple[float, float]:
    """A link of `rate` bytes per second and a backlog without end. Returns bytes per second, largest queue in s.

    `commit_s`: how long the cloud has each message before it answers, in their order; `tells`: and says so.
    """
    now = free = 0.0
    arrived = 0
    queue_s = 0.0
    answered = 0.0
    flights: list[tuple[float, Sent, float]] = []
    while now < seconds:
        while link.admits(link.message_bytes, bulk=True):
            size = link.message_bytes
            free = max(free, now) + size / rate
            answered = max(answered, free + commit_s())
            flights.append((answered + delay_s, link.sent(size, now, bulk=True), answered - free))
            if now > seconds / 2:
                queue_s = max(queue_s, free - now)
        now, sent, held_s = flights.pop(0)
        link.settled(sent, now, held_s if tells else 0.0)
        arrived += sent.size if now > seconds / 2 else 0
    return arrived / (seconds / 2), queue_s


@pytest.mark.parametrize("rate", [2_000.0, 125_000.0, 10_000_000.0])
@pytest.mark.parametrize("delay_s", [0.002, 0.1, 1.5])
def test_a_link_is_filled_and_an_alarm_waits_about_a_second(rate: float, delay_s: float) -> None:
    link = flow(credit=1 << 30)
    reached, queue_s = drive(link, rate=rate, delay_s=delay_s, seconds=400.0)
    assert reached >= 0.9 * rate
    assert queue_s <= max(QUEUE_S, WINDOW_BYTES_MIN / rate) * 1.25


@pytest.mark.parametrize("rate", [12_500.0, 125_000.0, 1_000_000.0])
def test_slow_commits_leave_the_link_filled(rate: float) -> None:
    """As of an object store under load. Where the cloud does not tell, the window shrinks to nothing."""
    reached = {}
    for tells in (True, False):
        commit_s = partial(random.Random(1).uniform, 0.1, 2.0)
        reached[tells], queue_s = drive(flow(), rate=rate, delay_s=0.1, seconds=400.0, commit_s=commit_s, tells=tells)
        assert queue_s <= 2.5 * QUEUE_S, "an alarm waits behind it"
    assert reached[True] >= 0.6 * min(rate, 800_000.0)  # what credit lets through at such commits
    assert reached[False] < 0.3 * rate


def test_a_cloud_that_tells_nonsense_opens_no_window() -> None:
    """No more than the whole round trip, and a minute."""
    link = flow()
    link.settled(link.sent(10_000, 0.0, bulk=True), 0.5, 1e9)
    assert link.window_bytes <= link.rate * (QUEUE_S + 0.5)
    for number in range(100):
        link.settled(link.sent(10_000, number * 1e6, bulk=True), (number + 1) * 1e6, 1e9)
    assert link.window_bytes <= max(WINDOW_BYTES_MIN, link.rate * (QUEUE_S + 0.5 + 60.0))


def test_before_the_first_ack_little_is_risked() -> None:
    link = flow()
    assert link.window_bytes == WINDOW_BYTES_START
    assert link.message_bytes == WINDOW_BYTES_START // 4
    link.sent(WINDOW_BYTES_START, 0.0, bulk=True)
    assert not link.admits(1, bulk=True)
    assert link.admits(1, bulk=False), "alarms do not keep to the window"


def test_the_cap_counts_what_the_socket_carries() -> None:
    link = Flow(stall_s=20.0, rate_max=1000.0)
    link.open()
    link.sent(10_000, 50.0, bulk=True)
    assert link.ready_at == pytest.approx(50.0 + 10.6 + 0.12), "headers, TLS and the ack are bytes too"


def test_one_message_may_always_go() -> None:
    link = flow(credit=10)
    assert link.admits(100_000, bulk=True)
    link.sent(100_000, 0.0, bulk=True)
    assert not link.admits(1, bulk=False), "credit holds for alarms too"


def test_the_number_of_messages_is_bounded() -> None:
    link = flow(credit=1 << 30)
    for _ in range(MESSAGES_IN_FLIGHT_MAX):
        assert link.admits(1, bulk=False)
        link.sent(1, 0.0, bulk=False)
    assert not link.admits(1, bulk=False)


def test_little_data_does_not_make_a_fast_link_slow() -> None:
    link = flow()
    drive(link, rate=1e6, delay_s=0.05, seconds=20.0)
    fast = link.rate
    sent = link.sent(100, 100.0, bulk=True)
    sent.limited = False  # nothing else was there to be sent
    link.settled(sent, 100.2)
    assert link.rate == fast


def test_silence_counts_only_while_an_answer_is_awaited() -> None:
    link = flow()
    assert link.stall_at is None
    first = link.sent(1000, 5.0, bulk=True)
    assert link.stall_at == 25.0
    link.sent(1000, 20.0, bulk=True)
    assert link.stall_at == 25.0, "more bytes do not excuse the silence"
    link.settled(first, 24.0)
    assert link.stall_at is not None
    assert link.stall_at >= 44.0


def test_many_bytes_on_a_slow_link_are_given_time() -> None:
    link = flow()
    drive(link, rate=3000.0, delay_s=0.1, seconds=60.0)
    link.open()
    link.sent(200_000, 100.0, bulk=True)
    assert link.stall_at is not None
    assert link.stall_at - 100.0 == pytest.approx(4 * 200_000 / link.rate)


def test_after_a_stall_less_is_tried_and_longer() -> None:
    link = flow()
    drive(link, rate=1e6, delay_s=0.05, seconds=20.0)
    waits = []
    for _ in range(8):
        link.stalled()
        link.open()
        assert link.window_bytes == WINDOW_BYTES_START
        link.sent(link.message_bytes, 0.0, bulk=True)
        assert link.stall_at is not None
        waits.append(link.stall_at)
    assert waits == sorted(waits)
    assert waits[-1] == PATIENCE_MAX * 20.0
    link.settled(link.sent(10, 0.0, bulk=False), 1.0)
    link.open()
    link.sent(10, 0.0, bulk=True)
    assert link.stall_at == 20.0


def test_backoff_doubles_to_its_cap_and_spreads() -> None:
    for seed in range(20):
        backoff = Backoff(0.5, 60.0, random.Random(seed))
        waits = [backoff.next_s() for _ in range(200)]
        assert all(0 <= wait <= min(60.0, 0.5 * 2.0**n) for n, wait in enumerate(waits))
        assert max(waits) > 50.0
        assert min(waits[20:]) < 10.0, "full jitter: also short ones"
        backoff.reset()
        assert backoff.next_s() <= 0.5
