"""Finding parts: by their ids, without a write, around what is configured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from edge_agent.commands.detect import Found, scan, toml_of
from edge_agent.config.drivers import Drivers
from edge_agent.config.load import load
from hardware.errors import BusDown, DeviceTimeout
from simulator.chips.chip import Fault
from simulator.i2c_line import I2cLine, Message
from simulator.parts import CHIPS
from simulator.world import Air
from tests.unit.simulator.rig import LineBus, StepClock

AT = {0x40: "ina219", 0x44: "sht3x", 0x45: "ina219", 0x48: "ads1115", 0x4A: "ina219", 0x76: "bme280", 0x77: "bme280"}
DRIVERS = {name: Drivers().load(name) for name in sorted(set(AT.values()))}


class Recorded(I2cLine):
    """A line that keeps what was written to its parts."""

    def __init__(self) -> None:
        clock = StepClock()
        chips = {
            address: CHIPS[name](lambda: Air(21.0, 101_325.0, 50.0), clock, address) for address, name in AT.items()
        }
        super().__init__(1, chips)
        self.written: list[tuple[int, bytes]] = []
        clock.sleep(0.1)

    def transact(self, messages: list[Message]) -> list[bytes]:  # type: ignore[override]
        self.written += [(message.address, message.data) for message in messages if message.data is not None]
        return super().transact(messages)


def test_every_part_is_found_by_the_driver_that_knows_it() -> None:
    line = Recorded()
    assert scan(LineBus(line), DRIVERS, {}) == [Found(address, name) for address, name in sorted(AT.items())]


def test_nothing_is_written_but_register_numbers_and_a_command_to_what_has_no_registers() -> None:
    line = Recorded()
    scan(LineBus(line), DRIVERS, {})
    assert {address for address, data in line.written if len(data) > 1} == {0x44}
    assert {data for address, data in line.written if len(data) > 1} == {b"\xf3\x2d"}


def test_what_is_configured_is_not_touched_and_what_is_strange_is_told() -> None:
    line = Recorded()
    line.chips[0x76].fault = Fault.WRONG_ID
    line.chips[0x48].fault = Fault.GARBLED
    line.chips[0x40].fault = Fault.NAK
    found = scan(LineBus(line), DRIVERS, {0x44: "climate", 0x20: "relay"})
    told = {each.address: (each.driver, each.sensor) for each in found}
    assert (told[0x44], told[0x20], told[0x76], told[0x48]) == (("", "climate"), ("", "relay"), ("", ""), ("", ""))
    assert 0x40 not in told
    assert not [address for address, _ in line.written if address in (0x44, 0x20)]


def test_a_bus_that_hangs_is_left_alone_soon() -> None:
    line = Recorded()
    for chip in line.chips.values():
        chip.fault = Fault.HANG
    with pytest.raises(DeviceTimeout):
        scan(LineBus(line), DRIVERS, {})
    assert line.transactions < 20


def test_a_bus_that_is_gone_says_so() -> None:
    class Gone(LineBus):
        def transfer(self, address: int, data: bytes, length: int) -> bytes:
            raise BusDown("i2c-1 is gone")

    with pytest.raises(BusDown):
        scan(Gone(Recorded()), DRIVERS, {})
    answer = CliRunner().invoke(main, ["detect", "--bus", "i2c-99", "-c", "/none.toml"])
    assert (answer.exit_code, answer.stdout) == (1, "")
    assert "Try:" in answer.stderr


def test_the_configuration_to_add_is_good(tmp_path: Path) -> None:
    text = toml_of("i2c-1", "/dev/i2c-1", [Found(address, name) for address, name in AT.items()])
    (tmp_path / "a.toml").write_text(text)
    config = load(tmp_path / "a.toml")
    assert [(sensor.driver_name, sensor.config.address) for sensor in config.sensors] == [
        (name, address) for address, name in AT.items()
    ]
    (tmp_path / "b.toml").write_text(
        toml_of("i2c-1", "unix:/run/i2c-1", []) + toml_of("i2c-1", "", [Found(0x76, "bme280")])
    )
    assert load(tmp_path / "b.toml").sensors[0].id == "bme280-1-76"


def test_the_command_on_a_simulated_bus(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(
        f'[bus.i2c-1]\nkind = "i2c"\ndevice = "unix:{tmp_path}/i2c-1"\n'
        '[[sensor]]\nid = "climate"\ndriver = "bme280"\nbus = "i2c-1"\n'
    )
    parts = "1=bme280@0x76,bme280@0x77,sht3x@0x44,ina219@0x40"
    bench = [sys.executable, "-c", "from simulator.cli import main; main()", "bus", "--i2c", parts]
    bench += [
        "--transport",
        "unix",
        "--socket-dir",
        str(tmp_path),
        "--",
        sys.executable,
        "-m",
        "edge_agent.cli",
        "detect",
    ]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*bench, *options], capture_output=True, text=True, timeout=60, check=True)

    found = run("-c", str(tmp_path / "a.toml"))
    assert "[bus." not in found.stdout
    assert [line for line in found.stdout.splitlines() if line.startswith("id")] == [
        'id = "ina219-1-40"',
        'id = "sht3x-1-44"',
        'id = "bme280-1-77"',
    ]
    assert '0x76  sensor "climate" has it' in found.stderr
    found = run("-c", str(tmp_path / "none.toml"), "--bus", f"unix:{tmp_path}/i2c-1", "--json")
    (bus,) = json.loads(found.stdout)["buses"]
    assert (bus["bus"], [part["driver"] for part in bus["parts"]]) == ("i2c-1", ["ina219", "sht3x", "bme280", "bme280"])
