"""From the configuration to one detector."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.detect import assembly
from edge_agent.detect.assembly import Grid, assemble
from edge_agent.detect.contract import Model
from edge_agent.detect.session import Session
from wire.series import SeriesDef, SeriesSet

SETS = [SeriesSet((SeriesDef(sensor, "heat", "Cel"),)) for sensor in ("oven", "mill")]
SENSOR = """
[[sensor]]
id = "{0}"
driver = "csv-replay"
path = "{0}.csv"
columns = [{{ name = "heat", unit = "Cel" }}]
"""
MODEL = """
[[model]]
id = "{0}-1"
name = "value-novelty"
inputs = ["{0}"]
threshold = {1}
"""


def test_tables_of_one_model_share_its_session_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Told(Session):
        def __init__(self, model: Model) -> None:
            made.append(model.title)
            super().__init__(model)

    monkeypatch.setattr(assembly, "Session", Told)
    file = tmp_path / "a.toml"
    tables = [SENSOR.format("oven"), SENSOR.format("mill"), MODEL.format("oven", 1.5), MODEL.format("mill", 3)]
    file.write_text("".join(tables))
    found = assemble(load(file), [Grid(each, 1.0) for each in SETS], 7)
    assert (found.refused, made) == ({}, ["value-novelty/1"])
    reports = found.detector.reports()
    assert [(one.label, one.threshold, *one.scores) for one in reports] == [
        ("oven-1", 1.5, "oven/heat"),
        ("mill-1", 3.0, "mill/heat"),
    ]
