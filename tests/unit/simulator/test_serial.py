"""`edge-sim serial` with the agent's own `read --once`, and the parts' descriptions."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.serial.pump import UNIT_ID, SimulatedPump
from simulator.serial.serve import parse_port, parse_span
from tests.unit.simulator.rig import StepClock

SIM = [sys.executable, "-c", "from simulator.cli import main; main()", "serial"]

CONFIG = """
[agent]
interval = "1s"
[bus.rs485]
kind = "serial"
port = "{0}/rs485"
[bus.gps]
kind = "serial"
port = "{0}/gps"
[[sensor]]
id = "pump"
driver = "modbus"
bus = "rs485"
unit_id = 1
answer_timeout = "1s"
[[sensor.register]]
name = "vibration"
address = 100
type = "float32"
unit = "mm/s"
[[sensor.register]]
name = "temperature"
function = "input"
address = 0
type = "int16"
scale = 0.1
unit = "Cel"
[[sensor]]
id = "here"
driver = "nmea-gps"
bus = "gps"
"""


def test_the_agent_reads_a_pump_and_a_receiver(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(CONFIG.format(tmp_path))
    ports = [f"{tmp_path}/rs485=pump", f"{tmp_path}/gps=gps"]
    with subprocess.Popen([*SIM, *ports], stdout=subprocess.PIPE, text=True) as sim:
        try:
            assert sim.stdout is not None
            assert [sim.stdout.readline().strip().partition(": ")[2] for _ in ports] == ["pump", "gps"]
            agent = [sys.executable, "-m", "edge_agent.cli", "read", "--once", "--json", "-c", str(tmp_path / "a.toml")]
            done = subprocess.run(agent, capture_output=True, text=True, timeout=60, check=True)
        finally:
            sim.send_signal(signal.SIGTERM)
            assert sim.wait(20) == 0
    found = {
        f"{sensor['id']}/{channel['name']}": channel["value"]
        for sensor in json.loads(done.stdout)["sensors"]
        for channel in sensor["channels"]
    }
    assert 1 < found["pump/vibration"] < 3
    assert 45 < found["pump/temperature"] < 60
    assert found["here/latitude"] == pytest.approx(59.914, abs=0.02)
    assert found["here/satellites"] == 9
    assert not (tmp_path / "gps").exists()


def test_a_worn_bearing_shakes() -> None:
    pump = SimulatedPump(StepClock())
    before = [pump._measure(second) or pump.units[UNIT_ID].holding[100] for second in range(20)]  # type: ignore[func-returns-value]
    pump.wear = 0.8
    after = [pump._measure(second) or pump.units[UNIT_ID].holding[100] for second in range(20)]  # type: ignore[func-returns-value]
    assert max(before) < min(after)  # high words of positive floats stand in the order of the floats


@pytest.mark.parametrize("text", ["x", "=gps", "/tmp/x=lidar", "/tmp/x=pump:log"])
def test_ports_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="LINK=PART"):
        parse_port(text)


def test_ports_and_spans() -> None:
    assert parse_port("/tmp/x=gps:a.gz") == (Path("/tmp/x"), "gps", Path("a.gz"))
    assert (parse_span(None), parse_span("10-20.5")) == (None, (10.0, 20.5))
    with pytest.raises(ValueError, match="START-END"):
        parse_span("20-10")
