"""Rows in, scores and events out: causal, alike alone and together, gaps and failures without harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, helper

from edge_agent.detect import saving
from edge_agent.detect.contract import Fit, load_model
from edge_agent.detect.errors import ModelRefused
from edge_agent.detect.lane import FAILURES_MAX, Lane
from edge_agent.detect.library import find_model
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Session
from edge_agent.detect.state import SavedState
from edge_agent.detect.verdict import Event
from tests.unit.edge_agent.detect import toys
from wire.alarm import Phase

F64 = NDArray[np.float64]
S = 1_000_000


@pytest.fixture(scope="module")
def novelty() -> Session:
    return Session(load_model(find_model("value-novelty")))


def fits(count: int, resolution: float = 0.0) -> list[Fit]:
    return [Fit(f"s/{place}", "Cel", "", resolution) for place in range(count)]


def signal(rows: int, columns: int, seed: int = 7) -> F64:
    random = np.random.default_rng(seed)
    values = 20 + np.sin(np.arange(rows)[:, None] / 9 + np.arange(columns)) + random.normal(0, 0.05, (rows, columns))
    values[rows * 2 // 3 :: 97] += 4.0
    values[random.random((rows, columns)) < 0.05] = np.nan
    return values


def run(lane: Lane, values: F64, first: int = 0) -> tuple[F64, list[Event]]:
    scores, events = [], []
    for row, line in enumerate(values, first):
        verdict = lane.step(row * S, line)
        scores.append(verdict.scores)
        events += verdict.events
    return np.array(scores), events


def test_a_spike_is_an_alarm_with_channel_value_and_range(novelty: Session) -> None:
    values = signal(900, 3)[:600]
    values = np.vstack([values[:300], values[:300]])
    values[450, 1] = 31.0
    lane = Runner(novelty, calibration_rows=208).add(fits(3))
    scores, events = run(lane, values)
    raised = [event for event in events if event.phase is Phase.RAISED]
    assert [(event.column, event.value) for event in raised] == [(1, 31.0)]
    low, high, near = raised[0].low, raised[0].high, raised[0].expected
    assert low is not None
    assert high is not None
    assert near is not None
    assert 18.5 < low < 19.2
    assert 20.8 < high < 21.5
    assert near == pytest.approx(high, abs=0.3)
    assert np.isnan(scores[:207]).all()
    assert scores[450:452, 1].max() > lane.runner.threshold > np.nanmax(scores[:, [0, 2]])


@given(cut=st.integers(1, 399), seed=st.integers(0, 9), calibration=st.sampled_from([20, 104, 208, 350]))
@settings(max_examples=12, deadline=None)
def test_scores_of_a_prefix_are_the_prefix_of_the_scores(
    novelty: Session, cut: int, seed: int, calibration: int
) -> None:
    values = signal(400, 2, seed)
    whole, _ = run(Runner(novelty, calibration_rows=calibration).add(fits(2)), values)
    other = values.copy()
    other[cut:] = 1e6
    part, _ = run(Runner(novelty, calibration_rows=calibration).add(fits(2)), other)
    assert whole[:cut].tobytes() == part[:cut].tobytes()


def test_together_equals_alone(novelty: Session) -> None:
    values = signal(700, 5)
    together, _ = run(Runner(novelty, calibration_rows=208).add(fits(5)), values)
    for column in range(5):
        alone, _ = run(Runner(novelty, calibration_rows=208).add(fits(1)), values[:, column : column + 1])
        np.testing.assert_allclose(together[:, column], alone[:, 0], rtol=1e-5)


def test_offset_and_scale_are_removed_in_float64(novelty: Session) -> None:
    """Counts of 1e12 with steps of 1 are nothing in float32; their scores must be those of the small numbers."""
    values = np.round(signal(700, 1) * 50)
    plain, _ = run(Runner(novelty, calibration_rows=208).add(fits(1)), values)
    far, _ = run(Runner(novelty, calibration_rows=208).add(fits(1)), values + 1e12)
    np.testing.assert_allclose(far, plain, rtol=1e-4)


def test_a_known_resolution_keeps_a_flat_channel_quiet(novelty: Session) -> None:
    values = np.full((600, 1), 21.0)
    values[400, 0] = 21.01
    _, loud = run(Runner(novelty, calibration_rows=104).add(fits(1)), values)
    _, quiet = run(Runner(novelty, calibration_rows=104).add(fits(1, 0.01)), values)
    assert [event.phase for event in loud][:1] == [Phase.RAISED]
    assert quiet == []


def test_after_a_score_only_a_larger_one_speaks(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path)).add(fits(1))
    values = np.zeros((40, 1))
    values[10], values[12], values[20], values[30] = 8, 20, 5, 7  # jumps: 8 8 20 20 5 5 7 7
    scores, events = run(lane, values)
    assert [(row, score) for row, score in enumerate(scores[:, 0]) if score > 0] == [
        (10, 8.0),
        (12, 20.0),
        (20, 5.0),
        (30, 7.0),
    ]
    assert [(event.phase, event.score) for event in events] == [
        (Phase.RAISED, 8.0),
        (Phase.GREW, 20.0),
        (Phase.CLEARED, 0.0),
        (Phase.RAISED, 5.0),
        (Phase.CLEARED, 0.0),
        (Phase.RAISED, 7.0),
        (Phase.CLEARED, 0.0),
    ]
    assert {event.onset_us // S for event in events[:3]} == {10}


def test_an_alarm_does_not_end_while_its_channel_brings_nothing(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path)).add(fits(2))  # an alarm ends after 3 quiet runs
    values = np.ones((40, 2))
    values[10:, 0] = 9.0
    values[11:20, 0] = np.nan
    _, events = run(lane, values[:20])
    assert [event.phase for event in events] == [Phase.RAISED]
    _, events = run(lane, values[20:], first=20)
    assert [event.phase for event in events] == [Phase.CLEARED]


def test_a_channel_away_too_long_calibrates_anew_and_the_other_does_not(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path)).add(fits(2))  # max_gap_s 100, calibration 4 rows
    values = np.ones((400, 2))
    values[100:150, 0] = np.nan  # 50 s: kept
    values[200:320, 0] = np.nan  # 120 s: dropped
    scores, _ = run(lane, values)
    assert np.isnan(scores[:4]).all()
    assert not np.isnan(scores[150:200, 0]).any()
    assert np.isnan(scores[320:324, 0]).all()
    assert scores[324, 0] == 0.0
    assert not np.isnan(scores[4:, 1]).any()


def test_a_gap_of_the_whole_set_drops_everything(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path)).add(fits(1))
    run(lane, np.full((10, 1), 3.0))
    assert not lane.runner.calibrating(lane).any()
    scores, events = run(lane, np.full((5, 1), 90.0), first=200)
    assert np.isnan(scores[:4]).all()
    assert events == []


def test_infinite_and_missing_values_are_no_values(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path)).add(fits(1))
    run(lane, np.full((10, 1), 3.0))
    before = lane.runner.memory.state["state_last"].copy()
    for number in (np.nan, np.inf, -np.inf):
        verdict = lane.step(10 * S, np.array([number]))
        assert verdict.events == []
    assert lane.runner.memory.state["state_last"].tobytes() == before.tobytes()
    assert lane.failures == 0


def poisoned(proto: ModelProto) -> None:
    """score = sqrt(1000 - x) of what it was: NaN once x is over 1000."""
    limit = helper.make_tensor("limit", 1, [], [1000.0])
    proto.graph.initializer.append(limit)
    nodes = [
        helper.make_node("Sub", ["limit", "values"], ["room"]),
        helper.make_node("Sqrt", ["room"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["healthy", "nothing"], ["score"]),
    ]
    for node in proto.graph.node:
        if node.output[0] == "score":
            node.output[0] = "healthy"
    proto.graph.node.extend(nodes)


def raised_by(number: float) -> Callable[[ModelProto], None]:
    """score = what it was + number, whether there is a value or not."""

    def edit(proto: ModelProto) -> None:
        proto.graph.initializer.append(helper.make_tensor("number", 1, [], [number]))
        for node in proto.graph.node:
            if node.output[0] == "score":
                node.output[0] = "healthy"
        proto.graph.node.append(helper.make_node("Add", ["healthy", "number"], ["score"]))

    return edit


def test_what_a_model_says_of_a_missing_value_is_not_heard(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path, model=raised_by(3.0))).add(fits(2))
    values = np.ones((20, 2))
    values[10:15, 0] = np.nan  # longer than the hold-off of 3 runs
    scores, _ = run(lane, values)
    assert np.argwhere(scores > 0).tolist() == [[4, 0], [4, 1], [15, 0]]
    assert lane.failures == 0


def test_a_score_below_zero_is_none(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path, model=raised_by(-1.0))).add(fits(1))
    scores, _ = run(lane, np.zeros((8, 1)))
    assert (np.isnan(scores).all(), lane.failures) == (True, 8)


def test_a_run_without_a_usable_channel_counts_towards_being_left_alone(tmp_path: Path) -> None:
    """One has no value, the other no score."""
    lane = Runner(toys.session(tmp_path, model=poisoned)).add(fits(2))
    run(lane, np.tile([np.nan, 2000.0], (FAILURES_MAX, 1)))
    assert lane.stopped


def test_a_window_with_a_hole_at_its_beginning(tmp_path: Path) -> None:
    def wide(told: Any) -> None:
        told["window"] = {"rows": 3, "stride": 3, "channels": 1}
        told["calibration"] = {"rows": 6}

    lane = Runner(toys.session(tmp_path, declared=wide, base=toys.graph(3))).add(fits(2))
    values = np.ones((30, 2))
    values[21, 0] = np.nan
    scores, _ = run(lane, values)
    assert (scores[23].tolist(), lane.failures) == ([0.0, 0.0], 0)


def test_state_that_comes_back_into_a_running_lane_is_calibrated_further(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path)).add(fits(2))  # calibration 4 rows
    run(lane, np.ones((2, 2)))
    arrays = {name: array.copy() for name, array in saving.state_of(lane).items()}
    saved = SavedState(saving.identity(lane), 7, saving.group_names(lane), arrays)
    scores, _ = run(lane, np.ones((8, 2)), first=2)
    assert not np.isnan(scores[2:]).any()
    saving.restore(lane, saved, 8 * S)
    scores, _ = run(lane, np.ones((3, 2)), first=10)
    assert np.isnan(scores).tolist() == [[True, True], [True, True], [False, False]]


def test_nan_costs_that_score_and_nothing_else(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path, model=poisoned)).add(fits(2))
    run(lane, np.ones((10, 2)))
    scores, events = run(lane, np.array([[2000.0, 1.0], [1.0, 1.0]]), first=10)
    assert np.isnan(scores[0, 0])
    assert scores[0, 1] == 0.0
    assert scores[1].tolist() == [0.0, 0.0]  # the state did not take the poisoned value
    assert (events, lane.failures, lane.problem) == ([], 1, "")


def test_a_model_that_never_works_is_left_alone(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path, model=poisoned)).add(fits(1))
    scores, _ = run(lane, np.full((3 * FAILURES_MAX, 1), 2000.0))
    assert np.isnan(scores).all()
    assert lane.failures == FAILURES_MAX
    assert "toy/1: output is not finite for s/0; 10 runs in a row, it is not asked again" in lane.problem


def test_one_broken_channel_does_not_silence_the_others(tmp_path: Path) -> None:
    lane = Runner(toys.session(tmp_path, model=poisoned)).add(fits(2))
    scores, _ = run(lane, np.tile([2000.0, 1.0], (5 * FAILURES_MAX, 1)))
    assert np.isnan(scores[:, 0]).all()
    assert (scores[5:, 1] == 0.0).all()
    assert lane.problem == "toy/1: output is not finite for s/0"


def test_a_value_beyond_float32_costs_its_score(novelty: Session) -> None:
    lane = Runner(novelty, calibration_rows=104).add(fits(2))
    values = signal(300, 2)
    values[200, 0] = 1e300
    scores, _ = run(lane, np.nan_to_num(values, nan=20.0))
    assert np.isnan(scores[200]).tolist() == [True, False]
    assert not np.isnan(scores[201:]).any()


def test_a_run_that_raises_costs_a_score(tmp_path: Path) -> None:
    def breaks_at_run(proto: ModelProto) -> None:
        wrong = helper.make_tensor("wrong", 7, [2], [3, 5])
        proto.graph.initializer.append(wrong)
        proto.graph.node.append(helper.make_node("Reshape", ["x", "wrong"], ["never"]))
        proto.graph.node.append(helper.make_node("ReduceSum", ["never"], ["unused"], keepdims=0))
        proto.graph.node.append(helper.make_node("Mul", ["unused", "zero"], ["nothing"]))
        for node in proto.graph.node:
            if node.output[0] == "score":
                node.output[0] = "healthy"
        proto.graph.node.append(helper.make_node("Add", ["healthy", "nothing"], ["score"]))

    lane = Runner(toys.session(tmp_path, model=breaks_at_run)).add(fits(1))
    scores, _ = run(lane, np.ones((3, 1)))
    assert np.isnan(scores).all()
    assert lane.failures == 3
    assert "toy/1" in lane.problem


def test_windows_and_groups(tmp_path: Path) -> None:
    """T rows of C channels per run; the loudest channel is the cause only where the model says so."""

    def wide(told: Any) -> None:
        told["window"] = {"rows": 3, "stride": 3, "channels": 2}
        told["calibration"] = {"rows": 6}

    session = toys.session(tmp_path, declared=wide, base=toys.graph(3, 2))
    with pytest.raises(ModelRefused, match="takes channels in groups of 2; 3 are given"):
        Runner(session).add(fits(3))
    lane = Runner(session).add(fits(4))
    values = np.ones((30, 4))
    values[20, 3] = 9.0
    scores, events = run(lane, values)
    assert [row for row, line in enumerate(scores) if line[2] > 0] == [20]  # back again is as far, not further
    assert scores[20].tolist() == [0.0, 0.0, 8.0, 8.0]
    assert [(event.row, event.phase) for event in events] == [(1, Phase.RAISED)]


def test_norm_by_calibration(tmp_path: Path) -> None:
    def normed(told: Any) -> None:
        told["norm"] = "calibration"
        told["calibration"] = {"rows": 100}

    random = np.random.default_rng(3)
    values = random.normal(500.0, 20.0, (150, 1))
    lane = Runner(toys.session(tmp_path, declared=normed)).add(fits(1))
    run(lane, values)
    assert lane.runner.memory.offset[0, 0] == pytest.approx(values[:100].mean())
    assert lane.runner.memory.scale[0, 0] == pytest.approx(values[:100].std(ddof=1))


def test_a_threshold_out_of_bounds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"threshold 0.5 is not in 1 to 50"):
        Runner(toys.session(tmp_path), threshold=0.5).add(fits(1))
