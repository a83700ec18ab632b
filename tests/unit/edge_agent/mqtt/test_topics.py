from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mqtt.topics import filter_problem, level, matches, overlap

LEVELS = ("a", "b", "", "$x")
NAMES = ["/".join(levels) for size in (1, 2, 3, 4) for levels in product(LEVELS, repeat=size)]
LEVEL = st.sampled_from([*LEVELS, "+"])
FILTERS = st.builds(
    lambda levels, tail: "/".join([*levels, *tail]),
    st.lists(LEVEL, min_size=1, max_size=3),
    st.sampled_from([[], ["#"]]),
) | st.just("#")


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [  # MQTT 5 sections 4.7.1.2, 4.7.1.3 and 4.7.2
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/broker", False),
        ("+/monitor", "$SYS/monitor", False),
        ("$SYS/#", "$SYS/monitor", True),
        ("a", "A", False),
    ],
)
def test_examples_of_the_standard(pattern: str, topic: str, expected: bool) -> None:
    assert matches(pattern, topic) is expected


@given(FILTERS, FILTERS)
def test_two_filters_overlap_exactly_when_a_topic_belongs_to_both(one: str, other: str) -> None:
    common = any(matches(one, name) and matches(other, name) for name in NAMES)
    assert overlap(one, other) is common
    assert overlap(other, one) is common


@given(st.lists(st.sampled_from(LEVELS), min_size=1, max_size=5))
def test_a_name_is_its_own_filter(levels: list[str]) -> None:
    name = "/".join(levels)
    if name:
        assert matches(name, name)
        assert filter_problem(name) == ""


@pytest.mark.parametrize("text", ["", "a/#/b", "a#", "a/b+", "+a/b", "$share/group/a", "a\0b", "x" * 65_536])
def test_a_filter_that_no_broker_takes_is_refused(text: str) -> None:
    assert filter_problem(text)


@given(st.text(max_size=8))
def test_any_text_becomes_one_level(text: str) -> None:
    assert filter_problem(f"a/{level(text)}/b") == ""
    assert level(text).count("/") == 0
