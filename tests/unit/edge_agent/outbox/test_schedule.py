"""When a commit is due."""

from __future__ import annotations

from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.schedule import Schedule
from wire.clock import NS_PER_S

S = NS_PER_S


def schedule() -> Schedule:
    return Schedule(OutboxOptions(commit_interval_s=5, alarm_interval_s=1), 0)


def test_each_interval_and_only_if_something_waits() -> None:
    plan = schedule()
    assert plan.due_in_ns(4 * S, 0.1, waiting=True) == S
    assert plan.due_in_ns(9 * S, 0.0, waiting=False) == 5 * S
    assert plan.due_in_ns(6 * S, 0.1, waiting=True) <= 0


def test_an_alarm_does_not_wait_but_keeps_a_second_apart() -> None:
    plan = schedule()
    plan.alarm = True
    assert plan.due_in_ns(2 * S, 0.0, waiting=True) <= 0
    plan.committed(2 * S)
    assert plan.due_in_ns(2 * S + S // 4, 0.0, waiting=True) == 3 * S // 4


def test_a_ring_that_fills_does_not_wait() -> None:
    assert schedule().due_in_ns(S, 0.51, waiting=True) <= 0
    assert schedule().due_in_ns(S, 0.49, waiting=True) == 4 * S


def test_a_failed_commit_is_not_tried_again_at_once() -> None:
    plan = schedule()
    plan.failed(6 * S)
    assert not plan.may_try(6 * S + S // 2)
    assert plan.may_try(7 * S)
    assert plan.due_in_ns(6 * S, 0.1, waiting=True) == S
    assert plan.due_in_ns(7 * S, 0.1, waiting=True) <= 0
