"""Detection as the agent holds it: a model that is missing is told, and everything else goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from edge_agent.config.load import load
from edge_agent.detection import Detection, is_wanted
from edge_agent.errors import AgentError, StateUnusable
from edge_agent.outbox import inspection
from tests.unit.edge_agent.outbox.parts import Gateway
from wire.alarm import Alarm
from wire.reading import Tick
from wire.series import SeriesDef, SeriesSet

ROOT = Path(__file__).parents[3]
SET = SeriesSet((SeriesDef("oven", "heat", "Cel"), SeriesDef("oven", "load", "%")))
SENSOR = """
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "oven.csv"
columns = [{ name = "heat", unit = "Cel" }, { name = "load", unit = "%" }]
"""
WATCHED = f"""{SENSOR}
[sensor.channel.heat]
alarm = {{ high = 60, severity = "info" }}
[[model]]
id = "odd"
name = "value-novelty"
inputs = ["oven.load"]
[[model]]
id = "gone"
name = "no-such-model"
inputs = ["oven"]
"""


def test_what_each_model_does_and_what_is_raised(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(WATCHED)
    recorder = Gateway(tmp_path).start(SET)
    told: list[Alarm] = []
    detection = Detection(load(file), [(SET, 1.0)], recorder, 7, told.append)
    assert [(model["id"], model["state"]) for model in detection.models()] == [("odd", "loading"), ("gone", "loading")]
    detection.load()
    recorder.take([Tick(SET.id, 1000, (61, 5))])
    recorder.look()
    gone, odd = detection.models()
    assert (gone["id"], gone["state"]) == ("gone", "stopped")
    assert "no-such-model" in gone["reason"]
    assert (odd["state"], odd["channels"], odd["calibration_rows"], odd["reason"]) == ("calibrating", 1, 1040, "")
    assert detection.scores() == {"oven/load": None}
    (alarm,) = detection.alarms(3_000_000)
    assert (alarm["series"], alarm["severity"], alarm["age_s"], alarm["value"]) == ("oven/heat", "info", 2.0, 61.0)
    assert alarm["cause"] == "oven/heat: 61 Cel, expected at most 60 Cel (high 60, 1)"
    assert [f"{each.id:016x}" for each in told] == [alarm["id"]]


@pytest.mark.parametrize("again", [False, True])
def test_a_mistake_in_detection_costs_scores_and_no_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, again: bool
) -> None:
    """At the first load, and at one that takes over a new release."""
    file = tmp_path / "a.toml"
    file.write_text(WATCHED)
    recorder = Gateway(tmp_path).start(SET)
    detection = Detection(load(file), [(SET, 1.0)], recorder, 7, lambda alarm: None)
    if again:
        detection.load()
    with monkeypatch.context() as patch:
        patch.setattr(inspection, "Desk", failing(LookupError("ours")))
        detection.load()
    recorder.take([Tick(SET.id, 1000, (61, 5))])
    recorder.look()
    report = recorder.commit()
    assert report is not None
    assert report.atoms == 1
    assert [(model["id"], model["state"]) for model in detection.models()] == [("odd", "stopped"), ("gone", "stopped")]
    assert detection.models()[0]["reason"] == "LookupError: ours"
    assert detection.scores() == {}


def test_an_outbox_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text(WATCHED)
    detection = Detection(load(file), [(SET, 1.0)], Gateway(tmp_path).start(SET), 7, lambda alarm: None)
    monkeypatch.setattr(inspection, "Desk", failing(StateUnusable("disk")))
    with pytest.raises(AgentError, match="disk"):
        detection.load()


def failing(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def test_who_asks_for_nothing_pays_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(SENSOR)
    assert not is_wanted(load(file))
    code = "import sys, edge_agent.app; print([m for m in sys.modules if m.startswith(('onnx', 'edge_agent.detect.'))])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
