"""High, low, rate and stale, each with its end; alarm ids that a replay finds again."""

from __future__ import annotations

import numpy as np

from edge_agent.detect.rules import Rule, RuleKind, RuleSet
from wire.alarm import Alarm, Phase

S = 1_000_000
NAN = float("nan")


def rule(kind: RuleKind, bound: float, hysteresis: float = 0.0, for_s: float = 0.0) -> Rule:
    return Rule(0, "oven/heat", "Cel", kind, bound, hysteresis, for_s)


def run(rules: RuleSet, *values: float) -> list[Alarm]:
    return [alarm for second, value in enumerate(values) for alarm in rules.step(second * S, np.array([value]))]


def told(alarms: list[Alarm]) -> list[tuple[Phase, int]]:
    return [(alarm.phase, alarm.stamp_us // S) for alarm in alarms]


def test_high_with_hysteresis() -> None:
    alarms = run(RuleSet(1, [rule(RuleKind.HIGH, 80, 5)]), 79, 81, 90, 77, 76, 75, 60, 81)
    assert told(alarms) == [(Phase.RAISED, 1), (Phase.CLEARED, 5), (Phase.RAISED, 7)]
    assert alarms[0].id == alarms[1].id != alarms[2].id
    assert alarms[0].cause == "oven/heat: 81 Cel, expected at most 80 Cel (high 80, 1)"


def test_low() -> None:
    alarms = run(RuleSet(1, [rule(RuleKind.LOW, 3)]), 4, 2, 2, NAN, 4)
    assert told(alarms) == [(Phase.RAISED, 1), (Phase.CLEARED, 4)]
    assert (alarms[0].low, alarms[0].high, alarms[0].value) == (3.0, None, 2.0)


def test_rate_counts_over_a_gap() -> None:
    rules = RuleSet(1, [rule(RuleKind.RATE, 2.0)])
    assert told(run(rules, 0, 1, 2, NAN, NAN, 7, 10)) == [(Phase.RAISED, 6)]  # 5 in 3 s, then 3 in 1 s


def test_a_bound_must_be_passed_for_a_while() -> None:
    rules = RuleSet(1, [rule(RuleKind.HIGH, 80, for_s=3)])
    alarms = run(rules, 81, 81, 79, 81, 81, 81, 81, 81)
    assert told(alarms) == [(Phase.RAISED, 6)]
    assert alarms[0].onset_us == 3 * S


def test_stale_is_found_without_a_tick_and_ends_with_a_value() -> None:
    rules = RuleSet(1, [rule(RuleKind.STALE, 10)])
    run(rules, 20, NAN)
    assert rules.check(10 * S) == []
    raised = rules.check(11 * S)
    assert told(raised) == [(Phase.RAISED, 11)]
    assert rules.check(12 * S) == []
    ended = rules.step(13 * S, np.array([21.0]))
    assert told(ended) == [(Phase.CLEARED, 13)]
    assert raised[0].id == ended[0].id


def test_a_channel_that_never_came_is_stale_too() -> None:
    rules = RuleSet(1, [rule(RuleKind.STALE, 10)])
    assert rules.check(100 * S) == []
    assert told(rules.check(111 * S)) == [(Phase.RAISED, 111)]


def test_the_same_onset_has_the_same_id_and_another_boot_has_not() -> None:
    first, again, other = (run(RuleSet(boot, [rule(RuleKind.HIGH, 80)]), 81)[0].id for boot in (1, 1, 2))
    assert first == again != other
