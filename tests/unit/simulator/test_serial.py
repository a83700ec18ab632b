"""`edge-sim serial` with the agent's own `read --once`, and the parts' descriptions."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.i2c_seccomp import probe
from simulator.serial.framing import Framing
from simulator.serial.port import SerialPort
from simulator.serial.pump import UNIT_ID, SimulatedPump
from simulator.serial.serve import PortSpec, parse_port, parse_span
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


@pytest.mark.skipif(bool(probe()), reason=probe() or "seccomp")
@pytest.mark.parametrize(
    ("line", "settings", "answers"),
    [
        ("8E1", 'parity = "even"', True),
        ("8O1", 'parity = "odd"', True),
        ("8N2", "stop = 2", True),
        ("8E1", "", False),
        ("8E1", 'parity = "odd"', False),
    ],
)
def test_the_agent_reads_a_pump_with_parity(tmp_path: Path, line: str, settings: str, answers: bool) -> None:
    """The whole agent, pyserial and pymodbus as they are; the kernel's pty alone refuses parity."""
    pump, _, _ = CONFIG.partition('[[sensor]]\nid = "here"')
    port = f'port = "{tmp_path}/rs485"'
    (tmp_path / "a.toml").write_text(pump.format(tmp_path).replace(port, f"{port}\n{settings}"))
    agent = [sys.executable, "-m", "edge_agent.cli", "read", "--once", "--json", "-c", str(tmp_path / "a.toml")]
    bus = [*SIM[:-1], "bus", "--serial", f"{tmp_path}/rs485=pump@{line}", "--transport", "seccomp", "--", *agent]
    done = subprocess.run(bus, capture_output=True, text=True, timeout=60, check=False)
    (sensor,) = json.loads(done.stdout)["sensors"]
    values = [channel["value"] for channel in sensor["channels"]]
    if answers:
        assert 1 < values[0] < 3, done.stderr
        assert 45 < values[1] < 60
    else:
        assert values == [None, None]
        assert "no answer" in done.stdout
    assert not (tmp_path / "rs485").exists()


def test_parity_needs_a_command_and_seccomp(tmp_path: Path) -> None:
    port = f"{tmp_path}/rs485=pump@8E1"
    alone = subprocess.run([*SIM, port], capture_output=True, text=True, timeout=30, check=False)
    assert (alone.returncode, f"edge-sim bus --serial {port} -- COMMAND" in alone.stderr) == (1, True)
    other = [*SIM[:-1], "bus", "--serial", port, "--transport", "unix", "--", "/bin/true"]
    done = subprocess.run(other, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, "8E1 needs --transport seccomp" in done.stderr) == (1, True)
    nothing = subprocess.run([*SIM[:-1], "bus", "--", "true"], capture_output=True, text=True, timeout=30, check=False)
    assert (nothing.returncode, "--i2c, --serial or both" in nothing.stderr) == (2, True)


def test_seven_bits_reach_a_part_of_seven(tmp_path: Path) -> None:
    """Modbus RTU has eight; another part may have seven, and then the eighth does not arrive."""

    class Echo:
        def feed(self, data: bytes) -> bytes:
            return data

        def emit(self, now_ns: int) -> bytes:
            return b""

    port = SerialPort(tmp_path / "tty", Echo(), StepClock(), Framing.parse("7E1"))
    try:
        terminal = os.open(tmp_path / "tty", os.O_RDWR | os.O_NOCTTY)
        os.write(terminal, b"a")
        assert not select.select([terminal], [], [], 0.2)[0], "8N1 is not understood"
        port.cflag = Framing.parse("7E1").cflag
        os.write(terminal, bytes([0x80 | ord("a")]))
        assert select.select([terminal], [], [], 20)[0]
        assert os.read(terminal, 9) == b"a"
        os.close(terminal)
    finally:
        port.close()


@pytest.mark.parametrize("text", ["", "8E", "9N1", "8E3", "8e1"])
def test_framings_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="as in 8E1"):
        Framing.parse(text)


def test_a_worn_bearing_shakes() -> None:
    pump = SimulatedPump(StepClock())
    before = [pump._measure(second) or pump.units[UNIT_ID].holding[100] for second in range(20)]  # type: ignore[func-returns-value]
    pump.wear = 0.8
    after = [pump._measure(second) or pump.units[UNIT_ID].holding[100] for second in range(20)]  # type: ignore[func-returns-value]
    assert max(before) < min(after)  # high words of positive floats stand in the order of the floats


@pytest.mark.parametrize("text", ["x", "=gps", "/tmp/x=lidar", "/tmp/x=pump:log", "/tmp/x=gps:"])
def test_ports_that_cannot_be(text: str) -> None:
    with pytest.raises(ValueError, match="LINK=PART"):
        parse_port(text)


def test_ports_and_spans() -> None:
    assert parse_port("/tmp/x=gps:a.gz") == PortSpec(Path("/tmp/x"), "gps", Path("a.gz"))
    assert parse_port("/tmp/x=pump@8E1") == PortSpec(Path("/tmp/x"), "pump", None, Framing(8, "E", 1))
    assert (parse_span(None), parse_span("10-20.5")) == (None, (10.0, 20.5))
    with pytest.raises(ValueError, match="START-END"):
        parse_span("20-10")
