"""The agent as a process: how it starts, answers, refuses and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "edge_agent.cli"]

CONFIG = """
[agent]
name = "gw"
interval = "50ms"
state_dir = "state"
runtime_dir = "run"
[buffer]
max_size = "8 MB"
commit_interval = "300ms"
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "{folder}/oven.csv"
loop = true
columns = [
  {{ name = "heat", unit = "Cel", resolution = 0.01 }},
  {{ name = "load", unit = "%" }},
]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "oven.csv").write_text("heat,load\n20.01,7.25\n20.02,\n20.03,7.5\n")
    file = tmp_path / "agent.toml"
    file.write_text(CONFIG.format(folder=tmp_path))
    return file


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environment},
        cwd=ROOT,
    )


@contextmanager
def running(config: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """An agent whose control socket answers."""
    with subprocess.Popen(
        [*COMMAND, "run", "-c", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=ROOT,
    ) as agent:
        try:
            wait_for_socket(config.parent / "run" / "control.sock", agent)
            yield agent
        finally:
            agent.kill()


def wait_for_socket(path: Path, agent: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        assert agent.poll() is None, agent.communicate()
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                time.sleep(0.02)
            else:
                return
    raise AssertionError("the agent does not answer")


def status(config: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(call("status", "--json", "-c", str(config)).stdout)
    return document


def end(agent: subprocess.Popen[str], number: int = signal.SIGTERM) -> str:
    agent.send_signal(number)
    _, said = agent.communicate(timeout=20)
    return said


def test_it_collects_answers_and_ends_cleanly(config: Path) -> None:
    with running(config) as agent:
        deadline = time.monotonic() + 20
        while True:
            document = status(config)
            if document["buffer"]["cells"] and document["sensors"][0]["channels"][1]["gaps"]:
                break
            assert time.monotonic() < deadline, document
        assert document["agent"]["name"] == "gw"
        heat, load = document["sensors"][0]["channels"]
        assert heat["value"] in (20.01, 20.02, 20.03)
        assert heat["state"] == "ok"
        assert load["gaps"] > 0
        read = call("read", "oven", "-c", str(config))
        assert read.returncode in (0, 1)
        assert "oven/heat" in read.stdout
        assert "Cel" in read.stdout
        human = call("status", "-c", str(config))
        assert re.search(r"a power cut now costs at most \d+", human.stdout)  # more on a slow disk
        assert "\x1b" not in human.stdout
        said = end(agent)
    assert agent.returncode == 0, said
    assert 'msg="stopped"' in said
    assert not (config.parent / "run" / "control.sock").exists()
    assert call("status", "-c", str(config)).returncode == 3


def test_everything_taken_is_committed_at_a_clean_end(config: Path) -> None:
    config.write_text(config.read_text().replace('"300ms"', '"1h"'))
    with running(config) as agent:
        time.sleep(0.5)
        before = status(config)
        assert before["buffer"]["cells"] == 0
        assert before["buffer"]["journal_ticks"] > 0
        said = end(agent, signal.SIGINT)
    assert agent.returncode == 0, said
    (config.parent / "run" / "journal.ring").unlink()
    with running(config) as agent:
        after = status(config)
        end(agent)
    assert after["buffer"]["epoch"] != before["buffer"]["epoch"], "a boot whose ring is gone begins a new epoch"
    assert after["buffer"]["cells"] >= 2 * before["buffer"]["journal_ticks"], "the ring had nothing left to lose"
    assert after["losses"] == {}


def test_a_kill_loses_nothing_that_was_taken(config: Path) -> None:
    config.write_text(config.read_text().replace('"300ms"', '"1h"'))
    with running(config) as agent:
        time.sleep(0.5)
        taken = status(config)["buffer"]["journal_ticks"]
        assert taken > 0
        agent.kill()
    config.write_text(config.read_text().replace('"1h"', '"100ms"'))
    with running(config) as agent:
        time.sleep(0.4)
        document = status(config)
        end(agent)
    assert document["buffer"]["next_seq"] >= 2 * taken
    assert document["losses"] == {}


def test_a_second_agent_on_the_same_state_is_told_who_has_it(config: Path) -> None:
    with running(config) as agent:
        second = call("run", "-c", str(config))
        assert second.returncode == 75
        assert str(agent.pid) in second.stderr
        assert len(second.stderr.splitlines()) == 1
        end(agent)


def test_bad_configuration_is_78_and_every_problem(config: Path) -> None:
    config.write_text(config.read_text().replace("csv-replay", "csv-repaly").replace('"50ms"', '"5 ns"'))
    for command in (("run",), ("config", "check"), ("status",), ("read",)):
        result = call(*command, "-c", str(config))
        assert result.returncode == 78, command
        assert "agent.toml:4 [agent]: interval" in result.stderr
        assert 'did you mean "csv-replay"?' in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("folder", ["state_dir", "runtime_dir"])
def test_a_directory_that_cannot_be_made(config: Path, folder: str) -> None:
    blocker = config.parent / "file"
    blocker.write_text("")
    name = {"state_dir": "state", "runtime_dir": "run"}[folder]
    config.write_text(config.read_text().replace(f'{folder} = "{name}"', f'{folder} = "{blocker}/x"'))
    result = call("run", "-c", str(config))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "Try:" in result.stderr or "?" in result.stderr


def test_a_missing_certificate_is_one_line_with_the_fix(config: Path) -> None:
    config.write_text(config.read_text() + '[cloud]\nurl = "https://localhost:1"\nca = "ca"\ncert = "c"\nkey = "k"\n')
    result = call("run", "-c", str(config))
    assert result.returncode == 78
    assert len(result.stderr.splitlines()) == 1
    assert "edge-agent join" in result.stderr


def test_it_notifies_systemd_in_order(config: Path) -> None:
    path = config.parent / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        with running(config, NOTIFY_SOCKET=str(path), WATCHDOG_USEC="400000") as agent:
            said = [manager.recv(1000).decode() for _ in range(3)]
            end(agent)
            while not said[-1].startswith("STOPPING=1"):
                said.append(manager.recv(1000).decode())
    assert said[0].startswith("READY=1\nSTATUS=1 sensors, ")
    assert all("WATCHDOG=1" in text for text in said[1:-1])


def test_read_once_without_an_agent(config: Path) -> None:
    assert call("read", "-c", str(config)).returncode == 3
    result = call("read", "--once", "--json", "-c", str(config))
    assert result.returncode == 0
    (sensor,) = json.loads(result.stdout)["sensors"]
    assert [channel["value"] for channel in sensor["channels"]] == [20.01, 7.25]
    wrong = call("read", "ovn", "--once", "-c", str(config))
    assert wrong.returncode == 2
    assert 'did you mean "oven"?' in wrong.stderr


def test_read_once_of_a_bus_that_is_not_there(config: Path) -> None:
    config.write_text(
        '[bus.i2c-77]\nkind = "i2c"\n[[sensor]]\nid = "a"\ndriver = "bme280"\nbus = "i2c-77"\n'
        '[agent]\nruntime_dir = "run"\n'
    )
    result = call("read", "--once", "-c", str(config))
    assert result.returncode == 1
    assert "a/temperature  -  gap (bus_down)" in result.stdout
    assert "no such bus" in result.stderr


def test_config_init_writes_once(tmp_path: Path) -> None:
    target = tmp_path / "new.toml"
    assert call("config", "init", str(target)).returncode == 0
    assert call("config", "check", "-c", str(target)).returncode == 0
    assert call("config", "init", str(target)).returncode == 1
    shown = call("config", "show", "--json", "-c", str(target))
    assert json.loads(shown.stdout)["sensors"][0]["options"]["address"] == 0x76


def test_driver_list() -> None:
    result = call("driver", "list", "--json")
    drivers = {each["name"]: each for each in json.loads(result.stdout)["drivers"]}
    assert drivers["bme280"]["bus"] == "i2c"
    assert "address = 0x76" in drivers["bme280"]["options"]
    assert 'wait = "1.5s"' in drivers["nmea-gps"]["options"], "as the configuration takes it"


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = "numpy", "grpc", "sqlite_utils", "pcodec", "smbus2", "onnxruntime", "cryptography"
    code = "import sys, edge_agent.cli, edge_agent.commands.status, edge_agent.commands.config; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not set(heavy) & set(result.stdout.split())


def test_the_buffer_of_a_running_agent_is_read_exported_checked_and_pruned(config: Path) -> None:
    config.write_text(config.read_text().replace("[buffer]", '[buffer]\nhistory_size = "1 MB"'))
    with running(config) as agent:
        told: dict[str, Any] = {"waiting": {"cells": 0}}
        while told["waiting"]["cells"] < 6:
            told = json.loads(call("buffer", "stats", "-c", str(config), "--json").stdout)
            assert told["agent_running"]
        checked = call("buffer", "verify", "-c", str(config))
        assert checked.returncode == 0, checked.stderr
        assert "only while the agent is stopped" in checked.stdout
        exported = call("buffer", "export", "-c", str(config), "--series", "oven/heat")
        assert exported.stdout.startswith("time,series,value")
        assert len(exported.stdout.splitlines()) >= 4
        pruned = call("buffer", "prune", "-c", str(config), "--history", "--set-aside")
        assert pruned.stdout == "deleted: 0 atoms of history, 0 refused atoms, no copy of a damaged outbox\n"
        assert agent.poll() is None
    stopped = json.loads(call("buffer", "stats", "-c", str(config), "--json").stdout)
    assert not stopped["agent_running"]
    assert stopped["waiting"]["cells"] >= told["waiting"]["cells"]
