"""The agent and a real broker: nothing acknowledged is lost, whoever dies; what the broker is told about us."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway
from edge_agent.asking import RequestRefused, ask
from edge_agent.errors import NotRunning
from edge_agent.outbox.recorder import Recorder
from simulator.mqtt_broker import BrokerTls, MqttBroker, mosquitto
from simulator.mqtt_sensor import MqttSensor, payload_of
from tests.unit.edge_agent.outbox.parts import values, waiting
from wire.clock import SystemClock, boot_id, machine_id

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed. Try: apt-get install mosquitto"),
]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 20.0
CONFIG = """
[agent]
name = "gw"
state_dir = "state"
runtime_dir = "run"
[buffer]
commit_interval = "200ms"
[mqtt.site]
url = "{url}"
{more}
[[sensor]]
id = "boiler"
driver = "mqtt"
topic = "plant/+/state"
channels = [{{ name = "n", unit = "count", path = "n", resolution = 1 }}]
"""
PUBLISH = '[mqtt.site.publish]\nreadings = "200ms"\ndiscovery = true\n'


class Agent:
    """edge-agent as a process."""

    def __init__(self, folder: Path, url: str, more: str = PUBLISH) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.config = folder / "edge-agent.toml"
        self.config.write_text(CONFIG.format(url=url, more=more))
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "edge_agent.cli", "run", "-c", str(self.config)]
            self.process = subprocess.Popen(command, cwd=ROOT, stderr=log, stdout=log)
        if wait:
            until(lambda: self.broker().get("state") == "ok", "the agent to reach its broker", self.log)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(TIMEOUT_S)
            self.process = None

    def status(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = ask(self.folder / "run", {"op": "status"})
        except (NotRunning, RequestRefused, OSError):
            return {"brokers": [{}], "sensors": []}
        return found

    def broker(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["brokers"][0]
        return found

    def said(self) -> str:
        return self.log.read_text()

    def stored(self) -> Counter[int]:
        """Values in the outbox and how often. Only while the agent does not run."""
        recorder = Recorder.open(self.folder / "state", self.folder / "run", SystemClock(), boot_id(), machine_id())
        try:
            recorder.commit()  # what a killed agent left in the journal
            return Counter(int(value) for value in values(waiting(recorder.view())))
        finally:
            recorder.close()


class Listener:
    """Somebody else at the broker; `heard` has the last payload of each topic, `told` all that came."""

    def __init__(self, port: int) -> None:
        self.told: list[tuple[str, bytes, bool]] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, "listener")
        self.client.on_message = lambda _c, _d, m: self.told.append((m.topic, m.payload, bool(m.retain)))
        self.client.on_connect = lambda client, *_: client.subscribe([("edge/#", 1), ("homeassistant/#", 1)])
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    @property
    def heard(self) -> dict[str, bytes]:
        return {topic: payload for topic, payload, _ in self.told}

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def until(condition: Callable[[], object], what: str, log: Path | None = None) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end, f"waited for {what}\n{log.read_text() if log else ''}"
        time.sleep(0.02)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MqttBroker]:
    broker = MqttBroker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.stop()


@contextmanager
def agent_at(folder: Path, url: str, more: str = PUBLISH) -> Iterator[Agent]:
    agent = Agent(folder, url, more)
    agent.start()
    try:
        yield agent
    finally:
        agent.end(signal.SIGKILL)


@contextmanager
def listening(broker: MqttBroker) -> Iterator[Listener]:
    listener = Listener(broker.port)
    try:
        yield listener
    finally:
        listener.stop()


@contextmanager
def sensor_at(broker: MqttBroker, folder: Path, interval_s: float = 0.002) -> Iterator[MqttSensor]:
    sensor = MqttSensor(broker.port, "plant/boiler/state", folder / "given-out", interval_s)
    sensor.start()
    try:
        yield sensor
    finally:
        sensor.stop()


@pytest.mark.timeout(90)
def test_nothing_is_lost_when_the_agent_is_killed(broker: MqttBroker, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    kills = 6
    redelivered = 0
    with agent_at(tmp_path / "gw", broker.url) as agent:
        with sensor_at(broker, tmp_path) as sensor:
            for kill in range(kills):
                time.sleep(rng.uniform(0.05, 0.4))
                redelivered += agent.broker().get("redelivered", 0)
                agent.end(signal.SIGKILL)
                time.sleep(0.1 * (kill % 3))  # what comes meanwhile waits in the broker
                agent.start()
        last = max(sensor.given_out)
        until(lambda: value_of(agent) == last, f"the last value {last}", agent.log)
        redelivered += agent.broker()["redelivered"]
        agent.end()
    stored = agent.stored()
    assert set(stored) == sensor.given_out
    doubled = sum(stored.values()) - len(stored)
    print(f"{len(stored)} values, {doubled} doubled, {redelivered} seen as redelivered")
    assert doubled <= 32 * kills, "more than the messages in flight at each kill came twice"


@pytest.mark.timeout(90)
def test_a_message_that_was_not_journalled_comes_again(broker: MqttBroker, tmp_path: Path) -> None:
    with agent_at(tmp_path / "gw", broker.url) as agent:
        agent.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
        sensor = MqttSensor(broker.port, "plant/boiler/state", tmp_path / "given-out")
        sensor.connect()
        sensor.publish(100)
        assert sensor.wait(TIMEOUT_S)  # the broker has them; 20 to 32 of them lie in the agent's socket
        agent.end(signal.SIGKILL)
        agent.start()
        until(lambda: value_of(agent) == 99, "the last value", agent.log)
        assert agent.broker()["redelivered"] > 0
        agent.end()
        sensor.stop()
    assert agent.stored() == Counter(range(100))


@pytest.mark.timeout(90)
def test_a_broker_that_dies_is_one_gap_and_is_found_again(broker: MqttBroker, tmp_path: Path) -> None:
    with agent_at(tmp_path / "gw", broker.url) as agent, sensor_at(broker, tmp_path, 0.01) as sensor:
        until(lambda: sensor.given_out, "values")
        broker.kill()
        until(lambda: agent.broker()["state"] == "down", "the loss")
        document = agent.status()
        assert document["sensors"][0]["channels"][0]["gap"] == "bus_down"
        assert document["sensors"][0]["channels"][0]["gaps"] == 1
        assert any(reason.startswith("broker site: mqtt://127.0.0.1") for reason in document["reasons"])
        time.sleep(1.5)  # several tries
        assert agent.status()["sensors"][0]["channels"][0]["gaps"] == 1
        broker.start()
        until(lambda: agent.broker()["state"] == "ok", "the broker", agent.log)
        before = max(sensor.given_out)
        until(lambda: (value_of(agent) or 0) > before, "a value after it", agent.log)
        agent.end()
    assert agent.said().count('broker \\"site\\" is lost') == 1
    assert agent.said().count('broker \\"site\\" is back after') == 1


@pytest.mark.timeout(90)
def test_the_broker_tells_when_we_are_gone_and_when_we_go(broker: MqttBroker, tmp_path: Path) -> None:
    with listening(broker) as listener, agent_at(tmp_path / "gw", broker.url) as agent:
        until(lambda: listener.heard.get("edge/gw") == b"online", "online")
        agent.end(signal.SIGKILL)
        until(lambda: listener.heard.get("edge/gw") == b"offline", "the will")
        agent.start()
        until(lambda: listener.heard.get("edge/gw") == b"online", "online again")
        agent.end()
        until(lambda: listener.heard.get("edge/gw") == b"offline", "the farewell")
    with listening(broker) as late:
        until(lambda: ("edge/gw", b"offline", True) in late.told, "the retained state")


@pytest.mark.timeout(90)
def test_readings_and_discovery_are_told(broker: MqttBroker, tmp_path: Path) -> None:
    with listening(broker) as listener, agent_at(tmp_path / "gw", broker.url) as agent:
        topic = "homeassistant/device/edge-gw/config"
        until(lambda: listener.heard.get(topic), "the announcement")
        announced = json.loads(listener.heard[topic])
        assert announced["components"]["boiler-n"]["state_topic"] == "edge/gw/boiler"
        listener.client.publish("plant/x/state", payload_of(17), 1)
        until(lambda: "edge/gw/boiler" in listener.heard, "readings")
        assert json.loads(listener.heard["edge/gw/boiler"])["values"] == {"n": 17}
        listener.told.clear()
        listener.client.publish("edge/gw/boiler/get")
        until(lambda: "edge/gw/boiler" in listener.heard, "the answer")
        listener.told.clear()
        listener.client.publish("homeassistant/status", b"online")
        until(lambda: {topic, "edge/gw", "edge/gw/boiler"} <= set(listener.heard), "everything again")
        old = announced["components"] | {"cellar-t": {"platform": "sensor", "unique_id": "edge-gw-cellar-t"}}
        agent.end()
        listener.client.publish(topic, json.dumps(announced | {"components": old}), 1, retain=True).wait_for_publish(5)
        until(lambda: b"unique_id" in listener.told[-1][1], "its echo")
        listener.told.clear()
        agent.start()
        until(lambda: retired(listener, topic) == [{"platform": "sensor"}], "the entity that is gone to be taken back")
        until(lambda: set(json.loads(listener.heard[topic])["components"]) == {"boiler-n"}, "what is left")
        agent.end()
        agent.config.write_text(agent.config.read_text().replace(PUBLISH, "[mqtt.site.publish]\n"))
        agent.start()
        until(lambda: listener.heard.get(topic) == b"", "the removal")


@pytest.mark.timeout(90)
def test_garbage_is_a_gap_and_the_others_go_on(broker: MqttBroker, tmp_path: Path) -> None:
    with listening(broker) as listener, agent_at(tmp_path / "gw", broker.url) as agent:
        for payload in (b"\x00\xff", b"{", b"[" * 60_000, b'{"n": "x"}', b'{"n": 1e99999999}', b"", b"x" * 200_000):
            listener.client.publish("plant/bad/state", payload, 1)
        listener.client.publish("plant/good/state", payload_of(5), 1)
        until(lambda: value_of(agent) == 5, "the good value", agent.log)
        assert agent.status()["sensors"][0]["channels"][0]["gaps"] == 7
        agent.end()
    assert agent.stored() == Counter([5])


@pytest.mark.timeout(90)
def test_a_broker_with_certificates(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    files = PkiFiles(tmp_path / "pki")
    create_ca(files, [])
    made = issue_gateway(files, "gw", datetime.now(UTC), 2)
    (tmp_path / "cert.pem").write_bytes(made.issued.pem)
    (tmp_path / "key.pem").write_bytes(made.pem)
    broker = MqttBroker(tmp_path / "broker", tls=BrokerTls(files.ca, files.server, files.server_key))
    broker.start()
    keys = f'ca = "{files.ca}"\ncert = "{tmp_path}/cert.pem"\nkey = "{tmp_path}/key.pem"\n'
    try:
        with agent_at(tmp_path / "gw", broker.url, keys) as agent:
            agent.end()
            assert "as gw-site" in broker.log.read_text()
        agent = Agent(tmp_path / "stranger", broker.url, f'ca = "{files.ca}"\n')
        agent.start(wait=False)
        until(lambda: agent.broker().get("error", "not yet").startswith("mqtts://"), "the refusal")
        assert agent.process is not None
        assert agent.process.poll() is None
        agent.end()
    finally:
        broker.stop()


@pytest.mark.timeout(90)
def test_a_broker_that_knows_only_the_older_mqtt(tmp_path: Path) -> None:
    broker = MqttBroker(tmp_path / "broker", pure_python=True)
    broker.start()
    try:
        with agent_at(tmp_path / "gw", broker.url, "") as agent:
            sensor = MqttSensor(broker.port, "plant/boiler/state", tmp_path / "given-out")
            sensor.connect()
            sensor.publish(50)
            assert sensor.wait(TIMEOUT_S)
            until(lambda: value_of(agent) == 49, "the last value", agent.log)
            agent.end()
            sensor.stop()
        assert "MQTT 3.1.1" in agent.said()
        assert agent.stored() == Counter(range(50))
    finally:
        broker.stop()


def test_a_missing_file_stops_the_agent(tmp_path: Path) -> None:
    agent = Agent(tmp_path, "mqtt://127.0.0.1:1", 'username = "x"\npassword_file = "none"\n')
    command = [sys.executable, "-m", "edge_agent.cli", "run", "-c", str(agent.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
    assert done.returncode == os.EX_CONFIG
    assert "[mqtt.site]" in done.stderr
    assert "No such file" in done.stderr


def test_no_table_no_paho(tmp_path: Path) -> None:
    code = "import sys, edge_agent.app, edge_agent.config.load; print([m for m in sys.modules if 'mqtt' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def retired(listener: Listener, topic: str) -> list[dict[str, str]]:
    """What was told of the entity that is no longer there."""
    told = [json.loads(payload)["components"] for name, payload, _ in listener.told if name == topic and payload]
    return [components["cellar-t"] for components in told if "cellar-t" in components]


def value_of(agent: Agent) -> float | None:
    sensors = agent.status()["sensors"]
    value: float | None = sensors[0]["channels"][0]["value"] if sensors else None
    return value
