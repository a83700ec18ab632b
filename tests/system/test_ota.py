"""A running agent takes a release over without a restart, and goes back by itself from one that fails in the field."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cloud_sync.rollout.export import export
from edge_agent.cli import main
from tests.unit.edge_agent.ota.releases import Gateway, nan_between, slow, write_model
from tests.unit.edge_agent.test_agent import end, running, status
from wire.clock import SystemClock

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

CONFIG = """
[agent]
interval = "20ms"
state_dir = "state"
runtime_dir = "run"
[buffer]
commit_interval = "200ms"
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "oven.csv"
loop = true
columns = [{ name = "heat", unit = "Cel" }]
[[model]]
id = "odd"
name = "toy"
inputs = ["oven"]
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """Heat jumps by 100 in every row."""
    (tmp_path / "oven.csv").write_text("heat\n" + "0\n100\n" * 50)
    (tmp_path / "agent.toml").write_text(CONFIG)
    gateway = Gateway(tmp_path)
    gateway.clock.now = gateway.clock.now.fromtimestamp(time.time(), gateway.clock.now.tzinfo)
    return gateway


def stick(gateway: Gateway, model: Path) -> dict[str, Any]:
    """Publish, copy, and import it at the gateway. Returns the outcome."""
    release = gateway.publish(model)
    gateway.roles.tick()
    folder = gateway.folder / f"stick{release.counter}"
    export(gateway.repository, gateway.online, SystemClock(), folder, (), 30, lambda _: None)
    root = gateway.folder / "root.json"
    root.write_bytes(gateway.first_root)
    command = ["model", "import", str(folder), "--root", str(root), "--json", "-c", str(gateway.folder / "agent.toml")]
    result = CliRunner().invoke(main, command)
    outcome: dict[str, Any] = json.loads(result.stdout)["outcomes"][0]
    return outcome


def until(config: Path, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The model's document once it fits."""
    deadline = time.monotonic() + 60
    while True:
        models = status(config)["models"]
        if models and fits(models[0]):
            return dict(models[0])
        assert time.monotonic() < deadline, models
        time.sleep(0.1)


def test_good_runs_bad_goes_back(gateway: Gateway, tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    with running(config) as agent:
        until(config, lambda model: model["state"] == "stopped" and "is not in" in model["reason"])
        assert stick(gateway, write_model(tmp_path / "v1", 1))["reason"] == ""
        assert until(config, lambda model: model["state"] == "running")["model"] == "toy/1"

        outcome = stick(gateway, write_model(tmp_path / "v2", 2, edit=lambda model: slow(model, 2000)))
        assert outcome["reason"] in {"latency", "timeout"}
        assert until(config, lambda model: True)["model"] == "toy/1"

        fails = write_model(tmp_path / "v3", 3, edit=lambda model: nan_between(model, 50, 1000))
        assert stick(gateway, fails)["reason"] == ""  # no gate can know
        until(config, lambda model: gateway.active() == "1" and model["state"] == "running")
        record = gateway.slots.record("toy")
        assert record.active is not None
        assert (record.active.name, record.events[-1].reason) == ("toy/1", "stopped")
        assert "runs gave no score" in record.events[-1].text

        assert stick(gateway, write_model(tmp_path / "v4", 4))["reason"] == ""
        assert until(config, lambda model: model["state"] == "running" and model["model"] == "toy/4")
        document = status(config)
        assert document["losses"] == {}
        said = end(agent)
    assert "toy/3 went back to toy/1" in said
