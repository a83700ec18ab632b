"""One agent that is fed badly in every way in turn: a gap or a refusal with its reason, told once; all else goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_agent.asking import RequestRefused, ask
from edge_agent.errors import NotRunning
from simulator.lab.processes import Process
from simulator.mqtt_broker import MqttBroker
from simulator.mqtt_sensor import MqttSensor
from simulator.serial.gps import SimulatedGps
from simulator.serial.modbus import ModbusLine, Unit, UnitFault
from simulator.serial.port import SerialPort
from tests.unit.edge_agent.detect import toys
from tests.unit.edge_agent.detect.test_runner import poisoned
from wire.clock import SystemClock

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

WAIT_S = 40.0
VALUES_MORE = 3  # of every other sensor, while one fails
CONFIG = """
[agent]
name = "gw"
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"
interval = "100ms"
[buffer]
commit_interval = "200ms"
[bus.rs485]
kind = "serial"
port = "{folder}/rs485"
[bus.gnss]
kind = "serial"
port = "{folder}/gnss"
[mqtt.site]
url = "{url}"

[[sensor]]
id = "pump"
driver = "modbus"
bus = "rs485"
unit_id = 1
answer_timeout = "2s"
timeout = "10s"
register = [{{ name = "speed", address = 0, unit = "1/min" }}]
[[sensor]]
id = "meter"
driver = "modbus"
bus = "rs485"
unit_id = 2
answer_timeout = "2s"
timeout = "10s"
register = [{{ name = "heat", address = 0, type = "float32", unit = "Cel", low = -40, high = 85 }}]
[[sensor]]
id = "gps"
driver = "nmea-gps"
bus = "gnss"
interval = "1s"
wait = "5s"
timeout = "10s"
[[sensor]]
id = "boiler"
driver = "mqtt"
topic = "plant/boiler/state"
channels = [{{ name = "n", unit = "count", path = "n", resolution = 1 }}]
[[sensor]]
id = "steady"
driver = "csv-replay"
path = "{folder}/steady.csv"
loop = true
columns = [{{ name = "level", unit = "m" }}]

[[model]]
id = "good"
name = "value-novelty"
inputs = ["steady.level"]
[[model]]
id = "nan"
name = "toy"
folder = "{folder}/nan"
inputs = ["steady.level"]
[[model]]
id = "newer"
name = "toy"
folder = "{folder}/newer"
inputs = ["steady.level"]
"""


class Site:
    """The agent as a process, and what hangs on it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        clock = SystemClock()
        self.pump = Unit(holding={0: 2950})
        self.meter = Unit(holding={0: 0x41A4, 1: 0x0000})  # 20.5 as float32, high word first
        self.gps = SimulatedGps(clock)
        self.rs485 = SerialPort(folder / "rs485", ModbusLine({1: self.pump, 2: self.meter}), clock)
        stack.callback(self.rs485.close)
        stack.callback(SerialPort(folder / "gnss", self.gps, clock).close)
        self.broker = MqttBroker(folder / "broker")
        self.broker.start()
        stack.callback(self.broker.stop)
        (folder / "steady.csv").write_text("level\n" + "\n".join(str(2000 + row % 7) for row in range(100)) + "\n")
        toys.write(folder / "nan", model=poisoned)  # NaN from 1000 on
        toys.write(folder / "newer", opset=18)
        config = folder / "agent.toml"
        config.write_text(CONFIG.format(folder=folder, url=self.broker.url))
        self.log = folder / "agent.log"
        command = [sys.executable, "-m", "edge_agent.cli", "run", "-c", str(config)]
        self.process = Process("edge-agent", command, self.log)
        stack.callback(self.process.kill)
        sensor = MqttSensor(self.broker.port, "plant/boiler/state", folder / "given-out", 0.05)
        sensor.start()
        stack.callback(sensor.stop)

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = ask(self.folder / "run", {"op": "status"})
        except (NotRunning, RequestRefused, OSError):
            return {"sensors": [], "models": []}
        return found

    def channels(self) -> dict[str, dict[str, Any]]:
        """The first channel of each sensor."""
        return {sensor["id"]: sensor["channels"][0] for sensor in self.status()["sensors"]}

    def until(self, condition: Callable[[dict[str, dict[str, Any]]], object], what: str) -> dict[str, dict[str, Any]]:
        end = time.monotonic() + WAIT_S
        while not condition(found := self.channels()):
            assert time.monotonic() < end, f"waited for {what}: {found}\n{self.log.read_text()}"
            time.sleep(0.05)
        return found

    def said(self, *words: str) -> int:
        """Lines of the log with all of these words."""
        return sum(all(word in line for word in words) for line in self.log.read_text().splitlines())

    @contextmanager
    def failing(self, *sensors: str, gap: str) -> Iterator[None]:
        """What is done inside makes these sensors fail: they have this gap, and every other goes on without one."""
        yield
        before = self.until(lambda found: all(found[each]["gap"] == gap for each in sensors), f"{sensors}: {gap}")
        others = [each for each in before if each not in sensors]

        def gone_on(found: Mapping[str, Any]) -> bool:
            return all(found[each]["values"] >= before[each]["values"] + VALUES_MORE for each in others)

        after = self.until(gone_on, f"{others} to go on")
        assert {each: after[each]["gaps"] for each in others} == {each: before[each]["gaps"] for each in others}
        assert [after[each]["gap"] for each in sensors] == [gap] * len(sensors)

    def well(self) -> None:
        self.until(lambda found: all(channel["state"] == "ok" for channel in found.values()), "everything to be well")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        made = Site(tmp_path, stack)
        made.until(lambda found: len(found) == 5, "the agent")
        made.well()
        yield made


def test_whatever_is_fed_badly_costs_itself_alone_and_is_told_once(site: Site) -> None:
    with site.failing("pump", "meter", gap="bus_down"):
        site.rs485.unplug()
    site.rs485.plug()
    site.well()
    assert site.said('bus \\"rs485\\" is down') == site.said('bus \\"rs485\\" is back') == 1

    faults = {UnitFault.FAILURE: "bad_data", UnitFault.SILENT: "no_answer", UnitFault.BAD_CRC: "bad_data"}
    for fault, gap in faults.items():
        with site.failing("pump", gap=gap):
            site.pump.fault = fault
        site.pump.fault = UnitFault.NONE
        site.well()
    assert site.said("pump", "is lost (bad_data)", "exception 4 (SERVER DEVICE FAILURE)") == 1
    assert site.said("pump", "is lost (no_answer)") == 1
    assert site.said("pump", "is lost (bad_data)", "checksum") == 1
    assert site.said("pump", "is back") == 3

    with site.failing("gps", gap="bad_data"):
        site.gps.bad_checksums = True
    site.gps.bad_checksums = False
    site.well()
    assert site.said("gps", "is lost (bad_data)") == site.said("gps", "is back") == 1

    with site.failing("boiler", gap="bus_down"):
        site.broker.kill()
    site.broker.start()
    site.well()
    assert site.said('broker \\"site\\" is lost') == site.said('broker \\"site\\" is back') == 1
    assert site.said("boiler", "is lost") == site.said("boiler", "is back") == 0

    with site.failing(gap=""):
        site.meter.holding = {0: 0x0000, 1: 0x41A4}  # the low word first
    assert site.said("with its words swapped it would be 20.5", 'word_order = \\"little\\"') == 1

    models = {model["id"]: model for model in site.status()["models"]}
    assert (models["good"]["state"], models["good"]["reason"]) == ("calibrating", "")
    assert "output is not finite for steady/level; 10 runs in a row, it is not asked again" in models["nan"]["reason"]
    assert "opset default 18; default 17 alone is the contract's" in models["newer"]["reason"]
    assert site.said("output is not finite") == site.said("opset default 18") == 1
