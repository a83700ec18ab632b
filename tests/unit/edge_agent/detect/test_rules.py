"""High, low, rate and stale, each with its end; alarm ids that a replay finds again."""

from __future__ import annotations

import numpy as np

from edge_agent.detect.rules import Rule, RuleKind, RuleSet
from edge_agent.detect.state import StateLog, read_state
from wire.alarm import NEVER, Alarm, Phase

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


def test_a_bound_that_is_not_passed_has_nothing_to_save() -> None:
    """A commit writes a page for each state that changed."""
    rules = RuleSet(1, [rule(RuleKind.HIGH, 80, for_s=3), rule(RuleKind.LOW, 3), rule(RuleKind.RATE, 1e9)])
    log = StateLog("k", rules.identity, 1, rules.names)
    run(rules, 20, 21)
    quiet = rules.state()
    assert log.changes(quiet) is not None
    rules.step(2 * S, np.array([22.0]))
    assert {name: array[:2].tobytes() for name, array in rules.state().items()} == {
        name: array[:2].tobytes() for name, array in quiet.items()
    }
    assert rules.state()["value"][2] == 22.0  # the next rate needs it
    rules.step(3 * S, np.array([81.0]))
    assert rules.state()["value_us"].tolist() == [3 * S, NEVER, 3 * S]  # by it an onset is moved to another boot


def test_a_rule_goes_on_where_it_was_saved() -> None:
    rules = [rule(RuleKind.HIGH, 80, for_s=3), rule(RuleKind.LOW, 3), rule(RuleKind.RATE, 2)]
    values = [20.0, 81.0, 82, 83, 84, 85, 79, 2, 2, 4, 60, 61]
    whole = run(RuleSet(1, rules), *values)
    for cut in range(1, len(values)):
        first, second = RuleSet(1, rules), RuleSet(1, rules)
        before = [alarm for at in range(cut) for alarm in first.step(at * S, np.array([values[at]]))]
        image = StateLog("k", first.identity, 1, first.names).changes(first.state())
        assert image is not None
        second.restore(read_state(image.put), 0)
        after = [alarm for at in range(cut, len(values)) for alarm in second.step(at * S, np.array([values[at]]))]
        assert before + after == whole
