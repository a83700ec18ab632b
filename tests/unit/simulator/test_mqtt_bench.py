from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from edge_agent.config.load import load
from simulator.lab.processes import command

ROOT = Path(__file__).parents[3]


@pytest.mark.system
def test_the_tables_it_prints_are_a_configuration(tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = command("edge-sim", "mqtt", "plant/x", "--interval", "0.05", "--log", str(log))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT) as bench:
        assert bench.stdout is not None
        first = bench.stdout.readline()
        assert re.match(r"broker: (mosquitto|amqtt, in pure Python)", first)
        tables = "".join(iter(bench.stdout.readline, "]\n")) + "]\n"
        while not log.exists() or not log.read_text():
            assert bench.poll() is None
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(20) == 0
        said = bench.stdout.read()
    (tmp_path / "a.toml").write_text(tables)
    assert [each.channel.name for each in load(tmp_path / "a.toml").sensors[0].channels] == ["number", "temperature"]
    numbers = [json.loads(line)["n"] for line in log.read_text().splitlines()]
    assert numbers == list(range(len(numbers)))
    assert f"took over {len(numbers)} messages" in said
