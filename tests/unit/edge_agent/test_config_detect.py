"""[[model]] tables and the alarms of channels."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.detect import AlarmSection, ModelPlan
from edge_agent.config.load import load
from edge_agent.errors import ConfigInvalid
from wire.alarm import Severity

SENSORS = """\
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "oven.csv"
columns = [{ name = "heat", unit = "Cel", resolution = 0.01 }, { name = "load", unit = "%" }]
"""

GOOD = f"""\
{SENSORS}[sensor.channel.heat]
alarm = {{ high = 60, low = -20, rate = 0.5, stale = "1m", hysteresis = 1, for = "10s", severity = "critical" }}
[[sensor]]
id = "oven.heat"
driver = "csv-replay"
path = "oven.csv"
columns = [{{ name = "x", unit = "Cel" }}]
[[model]]
id = "odd"
name = "value-novelty"
inputs = ["oven"]
[[model]]
id = "odder"
name = "value-novelty/1"
inputs = ["oven.load", "oven.heat.x"]
threshold = 4
calibration = 500
severity = "info"
folder = "models"
"""

BAD = f"""\
{SENSORS}[[sensor]]
id = "kiln"
driver = "csv-replay"
path = "kiln.csv"
columns = [{{ name = "heat", unit = "Cel" }}, {{ name = "load", unit = "%" }}, {{ name = "age", unit = "s" }}]
[sensor.channel.heat]
alarm = {{ hgih = 60, stale = "soon", for = 3, severity = "urgent" }}
[sensor.channel.load]
alarm = {{ high = 5, low = 4, hysteresis = 1 }}
[sensor.channel.age]
alarm = {{ hysteresis = 1 }}
[[model]]
id = "odd"
name = "value novelty"
inputs = []
[[model]]
id = "odd"
name = "value-novelty"
inputs = ["ovn", "oven.haet", "kiln.heat", "kiln"]
[[model]]
id = "odd"
name = "value-novelty"
inputs = ["oven"]
treshold = 4
[[model]]
id = "rules"
name = "value-novelty"
inputs = ["oven"]
threshold = 0
severity = "high"
[[model]]
"""

SAID = """\
a.toml:12 sensor "kiln" channel "heat" alarm: unknown key "hgih" – did you mean "high"?
a.toml:12 sensor "kiln" channel "heat" alarm: stale = "soon" is not a duration: write a number and ms, s, m, h or d, \
as in "10s"
a.toml:12 sensor "kiln" channel "heat" alarm: for = 3 is not a duration: write a number and ms, s, m, h or d, as in \
"10s"
a.toml:12 sensor "kiln" channel "heat" alarm: severity = "urgent" is not one of "info", "warning", "critical" \
(known: critical, info, warning)
a.toml:14 sensor "kiln" channel "load" alarm: low = 4 and hysteresis = 1 leave no room below high = 5
a.toml:16 sensor "kiln" channel "age" alarm: needs a bound: high, low, rate or stale
a.toml:19 model "odd": name = "value novelty" must be NAME or NAME/VERSION, as in "value-novelty/1"; \
see: edge-agent model list
a.toml:20 model "odd": inputs = [] must be array of length >= 1
a.toml:24 model "odd": input "ovn" unknown – did you mean "oven"?
a.toml:24 model "odd": input "oven.haet" unknown – did you mean "oven.heat"?
a.toml:26 model "odd": the id is taken: a.toml:22 has it too
a.toml:29 model "odd": unknown key "treshold" – did you mean "threshold"?
a.toml:31 model "rules": "rules" is what the alarms of channels are called
a.toml:34 model "rules": threshold = 0 must be number > 0.0
a.toml:35 model "rules": severity = "high" is not one of "info", "warning", "critical" (known: critical, info, warning)
a.toml:36 [[model]]: "id" is missing
a.toml:36 [[model]]: "name" is missing
a.toml:36 [[model]]: "inputs" is missing
"""


def config(folder: Path, text: str) -> Path:
    (folder / "a.toml").write_text(text)
    return folder / "a.toml"


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(config(folder, text))
    return caught.value.problems


def test_models_and_alarms(tmp_path: Path) -> None:
    found = load(config(tmp_path, GOOD))
    heat, load_ = found.sensors[0].channels
    assert heat.alarm == AlarmSection(60, -20, 0.5, 60, 1, 10, "critical")
    assert load_.alarm is None
    oven = frozenset({("oven", "heat"), ("oven", "load")})
    mixed = frozenset({("oven", "load"), ("oven.heat", "x")})
    assert found.models == (
        ModelPlan("odd", "value-novelty", oven, 0.0, 0, Severity.WARNING, ""),
        ModelPlan("odder", "value-novelty/1", mixed, 4.0, 500, Severity.INFO, str(tmp_path / "models")),
    )


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    said = "\n".join(problems(tmp_path, BAD)) + "\n"
    assert said == SAID
