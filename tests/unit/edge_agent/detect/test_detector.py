"""Ticks in, codes and alarms out; a detector that was killed goes on as if it had not been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_agent.detect.contract import Model, load_model
from edge_agent.detect.detector import Detector, channels_of
from edge_agent.detect.errors import RunFailed
from edge_agent.detect.library import find_model
from edge_agent.detect.rules import Rule, RuleKind
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import F32, Binding, Session
from edge_agent.detect.watched import Found, Watch
from tests.unit.edge_agent.detect import toys
from wire.alarm import Phase, Severity
from wire.clock import Anchor
from wire.merge import segment_of
from wire.reading import CellState, Priority, Tick
from wire.scores import decode_scores
from wire.segment import SCORE_NONE
from wire.series import SeriesDef, SeriesSet

BOOT = 0xB007
SETS = SeriesSet(
    (
        SeriesDef("pump", "pressure", "Pa", num=1, den=4),
        SeriesDef("pump", "flow", "l/s"),
        SeriesDef("oven", "heat", "Cel"),
    )
)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(load_model(find_model("value-novelty")))


def detector(session: Session, series_set: SeriesSet = SETS, boot: int = BOOT, rules: bool = True) -> Detector:
    lane = Runner(session, calibration_rows=208).add(channels_of(series_set.series))
    rule = Rule(2, "oven/heat", "Cel", RuleKind.HIGH, 190.0, 10.0)
    columns = range(len(series_set.series))
    return Detector(boot, [Watch(series_set, [(lane, columns)], [rule] if rules else [])])


def ticks(count: int, series_set: SeriesSet = SETS, seed: int = 1) -> list[Tick]:
    random = np.random.default_rng(seed)
    rows = np.arange(count)[:, None]
    width = len(series_set.series)
    values = 100 * np.sin(rows / 20 + np.arange(width)) + random.normal(0, 3, (count, width))
    values[250 + seed :: 83] += 150
    found = []
    for row, line in enumerate(values.round().astype(int).tolist()):
        states = bytes(CellState.TIMEOUT if random.random() < 0.03 else 0 for _ in line)
        found.append(Tick(series_set.id, row * 1000, tuple(line), states if any(states) else None))
    return found


class Disk:
    """The outbox's slots: a transaction is all or nothing."""

    def __init__(self) -> None:
        self.slots: dict[str, bytes] = {}
        self.bytes = 0

    def commit(self, detector: Detector) -> None:
        change = detector.changes()
        if change is not None:
            for name in change.delete:
                self.slots.pop(name, None)
            self.slots |= change.put
            self.bytes += sum(map(len, change.put.values()))


@given(kill=st.integers(1, 599), every=st.sampled_from([1, 7, 50]), seed=st.integers(0, 5))
@settings(max_examples=6, deadline=None)
def test_a_kill_mid_stream_changes_nothing(session: Session, kill: int, every: int, seed: int) -> None:
    """State of the last commit, then the journal's ticks again: the same codes and alarms as an unbroken run."""
    stream = ticks(600, seed=seed)
    whole = [(found.codes, found.alarms) for found in map(detector(session).step, stream)]
    disk, running, committed = Disk(), detector(session), 0
    for place, tick in enumerate(stream[:kill], 1):
        running.step(tick)
        if place % every == 0:
            disk.commit(running)
            committed = place
    again = detector(session)
    again.restore(disk.slots, now_us=10**15)
    found = [again.step(tick) for tick in stream[committed:]]
    assert [(one.codes, one.alarms) for one in found] == whole[committed:]


def test_alarms_name_series_value_and_cause(session: Session) -> None:
    running = detector(session)
    alarms = [alarm for tick in ticks(700) for alarm in running.step(tick).alarms]
    raised = [alarm for alarm in alarms if alarm.phase is Phase.RAISED]
    assert {alarm.rule for alarm in raised} == {"value-novelty/1", "high 190"}
    model = next(alarm for alarm in raised if alarm.rule == "value-novelty/1")
    assert model.series in {"pump/pressure", "pump/flow", "oven/heat"}
    assert model.low is not None
    assert f"{model.series}: " in model.cause
    assert "expected" in model.cause


def test_codes_fit_a_segment(session: Session) -> None:
    running, stream = detector(session), ticks(300)
    codes = [running.step(tick).codes for tick in stream]
    assert codes[0] is None
    assert all(code is None or len(code) == 3 for code in codes)
    segment = segment_of(stream, {SETS.id: SETS}, 0, Priority.NORMAL, Anchor(0, 0, True, 0), scores=codes)
    scores = segment.blocks[0].scores
    assert scores is not None
    assert (scores[:, :200] == SCORE_NONE).all()
    loud = decode_scores(scores[:, 208:])
    assert np.nanmax(loud) > 0.6
    for place, tick in enumerate(stream):
        for column, state in enumerate(tick.states or b""):
            assert not state or scores[column, place] == SCORE_NONE


def test_raw_counts_are_taken_in_their_unit(session: Session) -> None:
    running = detector(session)
    for tick in ticks(300):
        running.step(tick)
    found = running.step(Tick(SETS.id, 300_000, (4000, 0, 0)))
    for second in range(301, 303):
        found = running.step(Tick(SETS.id, second * 1000, (4000, 0, 0)))
        if found.alarms:
            break
    assert ("pump/pressure", 1000.0, "Pa") in {(one.series, one.value, one.unit) for one in found.alarms}


def test_another_set_and_another_sensor(session: Session, tmp_path: Path) -> None:
    running, disk = detector(session), Disk()
    assert running.step(Tick(12345, 0, (1,))) == Found()
    for tick in ticks(400):
        running.step(tick)
    disk.commit(running)
    more = SeriesSet((SeriesDef("door", "open", "1"), *SETS.series))
    larger = detector(session, more)
    assert larger.restore(disk.slots, now_us=0) == []
    codes = larger.step(Tick(more.id, 400_000, (0, 0, 0, 0))).codes
    assert codes is not None
    assert [code == SCORE_NONE for code in codes] == [True, False, False, False]
    disk.commit(larger)
    assert {name.split("/")[1] for name in disk.slots} == {f"{more.id:016x}"}  # the old set's slots are gone
    unit = SeriesSet((replace(SETS.series[0], unit="bar"), *SETS.series[1:]))
    changed = detector(session, unit)
    assert changed.restore(disk.slots, now_us=0) == []
    codes = changed.step(Tick(unit.id, 401_000, (0, 0, 0))).codes
    assert codes is not None
    assert [code == SCORE_NONE for code in codes] == [True, False, False]


def test_state_of_another_model_or_damaged_is_told_and_left(session: Session, tmp_path: Path) -> None:
    running, disk = detector(session), Disk()
    for tick in ticks(300):
        running.step(tick)
    disk.commit(running)
    toy = Runner(toys.session(tmp_path)).add(channels_of(SETS.series))
    other = Detector(BOOT, [Watch(SETS, [(toy, range(3))])])
    assert len(other.restore(disk.slots, now_us=0)) == 2  # the model's, and the rules'
    name = next(name for name in disk.slots if "value-novelty" in name)
    disk.slots[name] = disk.slots[name][:-1]
    damaged = detector(session)
    assert ["damaged" in reason for reason in damaged.restore(disk.slots, now_us=0)] == [True]
    assert damaged.step(ticks(1)[0]).codes is None  # it calibrates again


def test_after_a_reboot_stamps_begin_anew_and_nothing_is_forgotten(session: Session) -> None:
    running, disk = detector(session), Disk()
    stream = ticks(400)
    for tick in stream:
        running.step(tick)
    active = running.step(Tick(SETS.id, 400_000, (0, 0, 500))).alarms
    disk.commit(running)
    booted = detector(session, boot=BOOT + 1)
    assert booted.restore(disk.slots, now_us=5_000_000, offsets_us={BOOT: 0, BOOT + 1: 396_000_000}) == []
    found = booted.step(Tick(SETS.id, 6_000, (0, 0, 0)))
    assert found.codes is not None
    assert SCORE_NONE not in found.codes
    cleared = {(one.rule, one.id) for one in found.alarms if one.phase is Phase.CLEARED}
    assert ("high 190", next(one.id for one in active if one.rule == "high 190")) in cleared


def test_a_gap_over_a_reboot_counts(tmp_path: Path) -> None:
    model = toys.session(tmp_path)  # max_gap_s 100
    one = SeriesSet(SETS.series[:1])

    def fresh(boot: int) -> Detector:
        return Detector(boot, [Watch(one, [(Runner(model).add(channels_of(one.series)), [0])])])

    running, disk = fresh(1), Disk()
    for row in range(10):
        running.step(Tick(one.id, row * 1000, (1,)))
    disk.commit(running)
    for gap_s, kept in ((50, True), (150, False)):
        booted = fresh(2)
        booted.restore(disk.slots, now_us=3_000_000, offsets_us={1: 0, 2: (9 + gap_s - 3) * 1_000_000})
        assert (booted.step(Tick(one.id, 3_000, (1,))).codes is not None) is kept


@pytest.mark.parametrize("offsets_us", [{}, {2: 0}, {1: 0, 2: -9_000_000}])
def test_a_gap_that_no_clock_knows_begins_anew(tmp_path: Path, offsets_us: dict[int, int]) -> None:
    """Also when the two clocks say that the state is of the future."""
    model = toys.session(tmp_path)
    one = SeriesSet(SETS.series[:1])
    rule = Rule(0, SETS.series[0].name, SETS.series[0].unit, RuleKind.HIGH, 0.0, 0.0, 0.0, Severity.WARNING)

    def fresh(boot: int) -> Detector:
        return Detector(boot, [Watch(one, [(Runner(model).add(channels_of(one.series)), [0])], [rule])])

    running, disk = fresh(1), Disk()
    raised = [alarm for row in range(10) for alarm in running.step(Tick(one.id, row * 1000, (1,))).alarms]
    disk.commit(running)
    booted = fresh(2)
    (reason,) = booted.restore(disk.slots, now_us=3_000_000, offsets_us=offsets_us)
    assert "no trusted clock" in reason
    found = booted.step(Tick(one.id, 3_000, (1,)))
    assert found.codes is None
    assert {alarm.id for alarm in raised} & booted.alarms(), "what a rule had raised is still raised"


def test_a_channel_that_was_gone_before_a_reboot_is_gone_since_then(tmp_path: Path) -> None:
    model = toys.session(tmp_path)  # max_gap_s 100
    two = SeriesSet(SETS.series[:2])

    def fresh(boot: int) -> Detector:
        return Detector(boot, [Watch(two, [(Runner(model).add(channels_of(two.series)), [0, 1])])])

    def row(second: int, *, whole: bool) -> Tick:
        return Tick(two.id, second * 1000, (1, 1), None if whole else bytes((CellState.TIMEOUT, CellState.VALUE)))

    for gone_s, kept in ((50, True), (90, False)):
        running, disk = fresh(1), Disk()
        for second in range(10_000, 10_020):
            running.step(row(second, whole=True))
        for second in range(10_020, 10_020 + gone_s):
            running.step(row(second, whole=False))
        disk.commit(running)
        booted = fresh(2)
        booted.restore(disk.slots, now_us=5_000_000, offsets_us={1: 0, 2: (10_019 + gone_s) * 1_000_000})
        for second in range(5, 20):
            booted.step(row(second, whole=False))
        codes = booted.step(row(20, whole=True)).codes
        assert codes is not None
        assert (codes[0] != SCORE_NONE) is kept
        assert codes[1] != SCORE_NONE


def test_a_commit_that_fails_loses_no_state(session: Session) -> None:
    running, disk, stream = detector(session), Disk(), ticks(500)
    for place, tick in enumerate(stream):
        running.step(tick)
        if place % 50 == 49:
            if place % 100 == 99:
                running.changes()  # the transaction failed
                running.rolled_back()
            else:
                disk.commit(running)
    disk.commit(running)
    again = detector(session)
    assert again.restore(disk.slots, now_us=0) == []
    tail = [Tick(SETS.id, (500 + row) * 1000, (row, -row, 3 * row)) for row in range(60)]
    assert [again.step(tick) for tick in tail] == [running.step(tick) for tick in tail]


def test_what_is_saved_per_commit_is_small(session: Session) -> None:
    """50 channels, a commit each 5 rows: a fifth of what the state weighs per bin would be too much for flash."""
    wide = SeriesSet(tuple(SeriesDef("rack", f"c{place}", "Cel") for place in range(50)))
    lane = Runner(session).add(channels_of(wide.series))
    running, disk = Detector(1, [Watch(wide, [(lane, range(50))])]), Disk()
    stream = ticks(1500, wide)
    for place, tick in enumerate(stream):
        running.step(tick)
        if place == 1000:
            disk.commit(running)
            disk.bytes = 0
        elif place > 1000 and place % 5 == 0:
            disk.commit(running)
    assert disk.bytes / (499 * 50) < 12  # bytes per reading


class Counted(Session):
    """Knows how often the model ran, and fails where it is told to."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.runs = 0
        self.rows_max = 1 << 30
        self.poison = float("inf")  # a value over it fails the run that holds it

    def run(self, feeds: Mapping[str, F32]) -> dict[str, F32]:
        self._count(feeds["x"])
        return super().run(feeds)

    def run_bound(self, binding: Binding) -> None:
        self._count(binding.inputs["x"])
        super().run_bound(binding)

    def _count(self, x: F32) -> None:
        self.runs += 1
        if len(x) > self.rows_max or (x > self.poison).any():
            raise RunFailed("this run is to fail")


SEVERAL = [SeriesSet((SeriesDef(f"s{each}", "t", "Cel"), SeriesDef(f"s{each}", "p", "Pa"))) for each in range(3)]


def several(session: Session, calibration_rows: int = 104) -> Detector:
    """A detector on sets of equal ticks: a runner for all, and one with its own calibration for two of them."""
    runner = Runner(session, calibration_rows=calibration_rows)
    slower = Runner(session, calibration_rows=156, label="slower")
    watches = []
    for place, one in enumerate(SEVERAL):
        lanes = [(runner.add(channels_of(one.series)), range(2))]
        if place:
            lanes.append((slower.add(channels_of(one.series[:1])), range(1)))
        watches.append(Watch(one, lanes))
    return Detector(BOOT, watches)


def interleaved(count: int) -> list[Tick]:
    streams = [ticks(count, one, seed) for seed, one in enumerate(SEVERAL, 1)]
    return [tick for together in zip(*streams) for tick in together]


@given(st.lists(st.integers(0, 40), max_size=30), st.integers(0, 1 << 16), st.sampled_from([104, 250]))
@settings(max_examples=6, deadline=None)
def test_ticks_seen_together_give_what_they_give_alone(sizes: list[int], seed: int, calibration_rows: int) -> None:
    """However the stream is cut, whatever the order of the sets, and when some miss a cycle: the same codes, alarms and
    state. Some lanes are in the middle of a bin while others complete theirs."""
    model, random = load_model(find_model("value-novelty")), Random(seed)
    stream = interleaved(350)
    for at in range(0, len(stream) - 3, 9):
        places = random.sample(range(at, at + 3), 3)
        stream[at : at + 3] = [stream[place] for place in places]
    stream = [tick for tick in stream if random.random() > 0.02]
    one, many = (several(Session(model), calibration_rows) for _ in range(2))
    expected = [one.step(tick) for tick in stream]
    found, at = [], 0
    for size in (*sizes, len(stream)):
        found += list(many.steps(stream[at : at + size]))
        at += size
    assert found == expected
    assert any(each.alarms for each in found)
    assert many.changes() == one.changes()


def test_sets_that_come_together_share_a_run() -> None:
    session = Counted(load_model(find_model("value-novelty")))
    list(several(session).steps(interleaved(10)))
    assert session.runs == 15, "ten rows, and ten in bins of two"


def test_a_model_goes_through_all_rows_before_the_next_one() -> None:
    """Its code and data are in the caches then."""
    order: list[str] = []

    class Named(Session):
        def run(self, feeds: Mapping[str, F32]) -> dict[str, F32]:
            order.append(str(id(self)))
            return super().run(feeds)

        def run_bound(self, binding: Binding) -> None:
            order.append(str(id(self)))
            super().run_bound(binding)

    one, two = (Named(load_model(find_model("value-novelty"))) for _ in range(2))
    series_set = SEVERAL[0]
    lanes = [Runner(each).add(channels_of(series_set.series)) for each in (one, two)]
    detector = Detector(BOOT, [Watch(series_set, [(lane, range(2)) for lane in lanes])])
    list(detector.steps(ticks(30, series_set, 1)))
    assert order == sorted(order, key=[str(id(one)), str(id(two))].index)
    assert len(order) == 6, "each asked for every bin of ten rows"


def test_a_shared_run_that_fails_costs_only_the_set_that_fails_alone() -> None:
    session = Counted(load_model(find_model("value-novelty")))
    detector = several(session)
    stream = interleaved(300)
    list(detector.steps(stream[:-3]))
    session.poison = 1e6
    last = [replace(stream[-3], raw=(10**9, 0)), *stream[-2:]]
    codes = [found.codes for found in detector.steps(last)]
    assert codes[0] is None
    assert all(codes[1:])
    assert [report.failures for report in detector.reports()] == [1, 0, 0, 0, 0]


def test_a_model_that_can_only_be_asked_alone_is_asked_alone() -> None:
    session = Counted(load_model(find_model("value-novelty")))
    session.rows_max = 2
    detector = several(session)
    list(detector.steps(interleaved(5)))
    assert [report.failures for report in detector.reports()] == [0, 0, 0, 0, 0]


class Recorded(Session):
    """Knows what each bound run was asked with."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.asked: list[dict[str, F32]] = []

    def run_bound(self, binding: Binding) -> None:
        self.asked.append({name: array.copy() for name, array in binding.inputs.items()})
        super().run_bound(binding)


def test_a_run_in_place_is_asked_with_the_time_since_the_last_and_with_todays_params(tmp_path: Path) -> None:
    """A channel that came late calibrates while the other one runs: its scale is another one from then on."""

    def declare(told: dict[str, object]) -> None:
        told |= {"norm": "calibration", "params": [{"name": "param_step", "source": "resolution", "scale": 1.0}]}

    graph = toys.graph()
    graph.input.append(helper.make_tensor_value_info("param_step", TensorProto.FLOAT, ["B", 1]))
    session = Recorded(toys.load(tmp_path, base=graph, declared=declare))
    runner = Runner(session)
    lane = runner.add(channels_of(SETS.series[:2]))
    found = Detector(BOOT, [Watch(SeriesSet(SETS.series[:2]), [(lane, range(2))])])
    random = np.random.default_rng(6)
    stamps_ms = np.cumsum(random.integers(500, 1500, 60)).tolist()
    for row, stamp_ms in enumerate(stamps_ms):
        states = bytes([CellState.VALUE, CellState.TIMEOUT if row < 20 else CellState.VALUE])
        raw = tuple(random.integers(0, 1000, 2).tolist())
        found.step(Tick(SeriesSet(SETS.series[:2]).id, stamp_ms, raw, states))
    apart_s = np.diff(stamps_ms)[-len(session.asked) + 1 :] / 1000
    np.testing.assert_allclose([asked["dt"][0, 0] for asked in session.asked[1:]], apart_s, rtol=1e-5)
    assert [len(session.asked) > 30, session.asked[0]["param_step"][1, 0]] == [True, 1.0]
    steps = np.array([0.25, 1.0]) / runner.memory.scale[:, 0]
    np.testing.assert_allclose(session.asked[-1]["param_step"][:, 0], steps, rtol=1e-5)
    assert steps[1] < 0.1
