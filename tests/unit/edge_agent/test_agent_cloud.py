"""The agent as a process with a cloud-sync beside it, or none where it should be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.footprint import cloud
from tests.unit.edge_agent.test_agent import ROOT, call, end, running, status

pytestmark = pytest.mark.system

CONFIG = """
[agent]
interval = "50ms"
state_dir = "state"
runtime_dir = "run"
[cloud]
url = "https://{address}"
ca = "keys/ca.pem"
cert = "keys/cert.pem"
key = "keys/key.pem"
batch = "1h"
[buffer]
commit_interval = "{commit}"
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "{folder}/oven.csv"
loop = true
columns = [{{ name = "heat", unit = "Cel", resolution = 0.01 }}]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a running cloud, and a folder with `keys` of its gateway."""
    folder = tmp_path_factory.mktemp("cloud")
    with cloud(folder) as address:
        yield address, folder


@pytest.fixture
def make(tmp_path: Path, served: tuple[str, Path]) -> Callable[..., Path]:
    """Writes a configuration for a gateway of the running cloud."""
    address, folder = served
    (tmp_path / "oven.csv").write_text("heat\n20.01\n20.02\n20.03\n")
    shutil.copytree(folder / "keys", tmp_path / "keys")

    def write(commit: str = "200ms", address: str = address) -> Path:
        file = tmp_path / "agent.toml"
        file.write_text(CONFIG.format(address=address, commit=commit, folder=tmp_path))
        return file

    return write


def wait_for(config: Path, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while not condition(document := status(config)):
        assert time.monotonic() < deadline, document
        time.sleep(0.1)
    return document


def test_a_clean_stop_delivers_what_was_only_in_the_journal(make: Callable[..., Path]) -> None:
    config = make(commit="1h")
    with running(config) as agent:
        document = wait_for(config, lambda found: found["sync"]["connected"] and found["buffer"]["journal_ticks"] > 10)
        assert document["health"] == "healthy", document["reasons"]
        assert document["buffer"]["cells"] == 0
        said = end(agent)
    assert agent.returncode == 0, said
    without = config.with_name("without.toml")
    text = config.read_text()
    without.write_text(text[: text.index("[cloud]")] + text[text.index("[buffer]") :])
    with running(without) as agent:
        left = status(without)["buffer"]
        end(agent)
    assert left["next_seq"] > 10
    assert left["cells"] == 0


def test_an_unreachable_cloud_costs_no_reading_and_no_time_at_the_stop(make: Callable[..., Path]) -> None:
    config = make(address="127.0.0.1:9")
    with running(config) as agent:
        document = wait_for(config, lambda found: found["sync"]["last_error"] and found["buffer"]["cells"] > 5)
        assert document["health"] == "unhealthy"
        assert any("the cloud is not reached" in reason for reason in document["reasons"])
        human = call("status", "-c", str(config))
        assert human.returncode == 1
        assert "not connected" in human.stdout
        began = time.monotonic()
        said = end(agent)
        assert time.monotonic() - began < 4
    assert agent.returncode == 0, said
    assert said.count("not connected to") == 1
    assert said.count("Try: edge-agent sync explain") == 1


def test_another_clouds_certificate_is_one_clear_line_and_collecting_goes_on(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    config = make()
    command = [sys.executable, "-c", "from cloud_sync.cli import main; main()"]
    for arguments in (["init"], ["cert", "issue", "footprint", "--out", str(tmp_path / "other")]):
        subprocess.run([*command, *arguments, "--data", str(tmp_path / "c")], check=True, capture_output=True, cwd=ROOT)
    shutil.copy(tmp_path / "other" / "ca.pem", tmp_path / "keys" / "ca.pem")
    with running(config) as agent:
        document = wait_for(config, lambda found: found["sync"]["last_error"] and found["buffer"]["cells"] > 5)
        said = end(agent)
    assert "certificate" in document["sync"]["last_error"]
    assert agent.returncode == 0, said
    assert said.count("level=warning") == 1


def test_sync_is_paused_explained_and_resumed_over_a_restart(make: Callable[..., Path]) -> None:
    config = make()
    with running(config) as agent:
        wait_for(config, lambda found: found["sync"]["connected"])
        paused = call("sync", "pause", "-c", str(config))
        assert "paused: readings wait, alarms go" in paused.stdout
        assert "edge-agent sync resume" in paused.stdout
        document = wait_for(config, lambda found: not found["sync"]["connected"])
        assert document["health"] == "healthy", "it is what the owner wants"
        assert [hold["code"] for hold in document["sync"]["holds"]] == ["paused"]
        assert document["sync"]["socket_bytes"] > 3000
        assert call("sync", "now", "-c", str(config)).returncode == 1
        end(agent)
    with running(config) as agent:
        wait_for(config, lambda found: found["buffer"]["cells"] > 5)
        assert "paused" in call("status", "-c", str(config)).stdout
        explained = json.loads(call("sync", "explain", "--json", "-c", str(config)).stdout)
        assert explained["moving"] is False
        assert [finding["code"] for finding in explained["findings"]] == ["paused", "waiting"]
        assert call("sync", "resume", "-c", str(config)).returncode == 0
        assert call("sync", "now", "-c", str(config)).returncode == 0
        wait_for(config, lambda found: found["sync"]["last_ack_age_s"] is not None)
        end(agent)


def test_what_is_no_duration_is_refused_by_the_command(make: Callable[..., Path]) -> None:
    refused = call("sync", "pause", "--for", "2 moons", "-c", str(make()))
    assert refused.returncode == 2
    assert "is not a duration" in refused.stderr
