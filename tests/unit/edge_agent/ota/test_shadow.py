"""A release in the shadow of the active one, over readings that a journal holds: only as good a one takes over."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from onnx import ModelProto, helper

from edge_agent.config.load import load
from edge_agent.ota.live import ROWS_MAX, Live, live_of, rows_of
from edge_agent.ota.records import Stage
from edge_agent.ota.shadow import ROWS_MIN, Side, judged, shadow_run
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.record import Layout
from tests.unit.edge_agent.ota.releases import nan_between, replace_score, write_model
from tests.unit.edge_agent.ota.test_assigned import Bench, reasons
from wire.clock import Anchor
from wire.reading import CellState, Tick
from wire.release import Needs
from wire.series import SeriesDef, SeriesSet, StampUnit

NEEDS = Needs(("*",), "0.1.0", "1.22", 17, 50.0, 64.0)
ROOM = SeriesSet(
    (
        SeriesDef("room", "humidity", "%RH", num=1, den=4),
        SeriesDef("room", "temperature", "Cel", num=1, den=100, off=5),
    ),
    StampUnit.MS,
)
CONFIG = """
[agent]
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"
[[sensor]]
id = "room"
driver = "csv-replay"
path = "x.csv"
columns = [{{ name = "temperature", unit = "Cel" }}]
[[model]]
id = "one"
name = "toy"
inputs = ["room.temperature"]
calibration = 40
"""


@pytest.fixture
def live(tmp_path: Path) -> Live:
    file = tmp_path / "edge-agent.toml"
    file.write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "run").mkdir()
    return live_of(load(file), [(ROOM, 1.0)])


def take(live: Live, temperatures: Sequence[float]) -> None:
    """These readings, a second apart, of which the journal holds all; NaN is a gap."""
    journal = Journal(Path(live.ring), 5, 6, 1 << 20, 0)
    for row, value in enumerate(temperatures):
        gap = math.isnan(value)
        states = bytes([CellState.VALUE, CellState.NO_ANSWER if gap else CellState.VALUE]) if gap else None
        raw = 0 if gap else round(value * 100 - 5)
        journal.append(Layout(ROOM), Tick(ROOM.id, 1000 * row, (8, raw), states), Anchor(0, 0, True, 0))
    journal.close()


def waves(count: int) -> list[float]:
    """A quarter of a degree up and down: the score of each reading is 0.25."""
    return [20 + 0.25 * (row % 2) for row in range(count)]


def compare(live: Live, folder: Path, edit: Callable[[ModelProto], None] | None = None) -> tuple[str, str]:
    active, candidate = write_model(folder / "a", 1), write_model(folder / "b", 2, edit=edit)
    verdict = shadow_run(live, "toy", active, candidate, NEEDS)
    assert verdict is not None
    return verdict.reason, verdict.text


def test_the_readings_are_those_of_the_model_s_channels(live: Live) -> None:
    (view,) = live.views
    assert (view.family, view.set_id, view.interval_s, view.calibration_rows) == ("toy", ROOM.id, 1.0, 40)
    assert [(one.column, one.name, one.unit, one.resolution) for one in view.inputs] == [
        (1, "room/temperature", "Cel", 0.01)
    ]
    take(live, [20.0, math.nan, 21.5])
    stamps, values = rows_of(view, Path(live.ring))
    assert stamps == [0, 1_000_000, 2_000_000]
    assert values[:, 0].tolist()[::2] == pytest.approx([20.0, 21.5])
    assert math.isnan(values[1, 0])


def test_only_the_newest_rows_are_compared(live: Live) -> None:
    take(live, waves(ROWS_MAX + 50))
    stamps, values = rows_of(live.views[0], Path(live.ring))
    assert (len(stamps), values.shape, stamps[0]) == (ROWS_MAX, (ROWS_MAX, 1), 50_000_000)


def test_as_good_a_model_passes(live: Live, tmp_path: Path) -> None:
    take(live, waves(200))
    reason, text = compare(live, tmp_path)
    assert reason == ""
    assert text.startswith("160 live readings, 0 alarms, 0 by the active model")


def test_nan_on_live_readings_alone_is_found(live: Live, tmp_path: Path) -> None:
    """Its own vectors do not cover the region; the gateway's readings do (row 21)."""
    take(live, waves(200))
    reason, text = compare(live, tmp_path, lambda model: nan_between(model, 0.2499, 0.2501))
    assert (reason, "gave no score" in text) == ("shadow", True)


def test_an_alarm_flood_is_found(live: Live, tmp_path: Path) -> None:
    take(live, [20 + math.sin(row / 3) for row in range(200)])
    ten = helper.make_tensor("ten", 1, [], [10.0])

    def loud(model: ModelProto) -> None:
        model.graph.initializer.append(ten)
        replace_score(model, helper.make_node("Add", ["raw", "ten"], ["score"]))

    reason, text = compare(live, tmp_path, loud)
    assert (reason, text.endswith("of the last 160 readings, the active model on 0")) == ("shadow", True)


def test_a_graph_that_never_ends_costs_a_process(live: Live, tmp_path: Path) -> None:
    """CPU time is limited; a model that died in the shadow is refused."""
    assert judged([(Side(100), Side(100, p95_ms=51.0))], NEEDS, True).reason == "shadow"
    take(live, waves(200))
    broken = write_model(tmp_path / "c", 3)
    (broken / "model.onnx").write_bytes(b"no graph")
    verdict = shadow_run(live, "toy", None, broken, NEEDS)
    assert verdict is not None
    assert verdict.reason == "few_rows", "it was tried before: what cannot be loaded now is a disk that fails"


def test_too_few_readings_are_waited_for(live: Live, tmp_path: Path) -> None:
    assert compare(live, tmp_path / "none") == ("few_rows", f"0 live readings; {2 * ROWS_MIN} are needed")
    take(live, waves(2 * ROWS_MIN - 1))
    assert compare(live, tmp_path / "few")[0] == "few_rows"


def test_without_a_model_of_the_family_there_is_no_shadow(live: Live, tmp_path: Path) -> None:
    assert shadow_run(live, "other", None, write_model(tmp_path / "a", 1), NEEDS) is None


def test_a_first_release_is_judged_by_itself(live: Live, tmp_path: Path) -> None:
    take(live, waves(200))
    verdict = shadow_run(live, "toy", None, write_model(tmp_path / "a", 1), NEEDS)
    assert verdict is not None
    assert (verdict.reason, "active" in verdict.text) == ("", False)


def test_an_assigned_release_passes_the_shadow_before_it_runs(live: Live, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.live = live
    release = bench.assigned(bench.made(1))
    assert reasons(bench.told_of(release)) == ["few_rows"]
    assert bench.slots.record("toy").events[-1].stage is Stage.DELAYED
    assert bench.active() == "factory"
    take(live, waves(200))
    assert reasons(bench.told_of(release, counter=2)) == [""]
    assert [event.stage for event in bench.slots.record("toy").events[-3:]] == [
        Stage.SHADOW,
        Stage.STAGED,
        Stage.PROBATION,
    ]
    bad = bench.publish(write_model(tmp_path / "m2", 2, edit=lambda model: nan_between(model, 0.2499, 0.2501)))
    assert reasons(bench.told_of(bench.assigned(bad), counter=3)) == ["shadow"]
    assert bench.active() == "1"
    assert reasons(bench.told_of(bench.assigned(bad), counter=3)) == ["quarantined"]
