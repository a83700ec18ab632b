"""A broker, and a sensor that publishes to it from this process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import dropwhile
from pathlib import Path

from simulator.lab.count import Cycle
from simulator.mqtt_broker import MqttBroker
from simulator.mqtt_sensor import CENTIDEGREES, MqttSensor

SENSOR, TOPIC = "boiler", "plant/boiler/state"
CHANNELS = {"number": 1, "temperature": 100}  # den of each
INTERVAL_S = 0.1


class MqttSensors:
    """What it gave out are the messages that the broker has taken over. See `LabSensors`."""

    channels: Mapping[str, Mapping[str, float]] = {SENSOR: CHANNELS}

    def __init__(self, folder: Path, seed: int) -> None:
        self._broker = MqttBroker(folder / "broker")
        self._sensor = MqttSensor(self._broker.port, TOPIC, folder / "given-out", INTERVAL_S)

    @property
    def broker(self) -> str:
        """Which one it is, and why."""
        return self._broker.kind

    @property
    def kinds(self) -> str:
        """For the screen."""
        return "MQTT"

    def configuration(self) -> str:
        """Tables of edge-agent.toml."""
        return _CONFIG.format(url=self._broker.url, sensor=SENSOR, topic=TOPIC)

    def open(self) -> None:
        """Start the broker. Raises LabFailed."""
        self._broker.start()

    def begin(self) -> None:
        """Publish."""
        self._sensor.start()

    def given_out(self) -> dict[str, list[Cycle]]:
        """By sensor, in order."""
        numbers = sorted(self._sensor.given_out)
        return {SENSOR: [(number, 2000 + number % CENTIDEGREES) for number in numbers]}

    def counted(self, sensor: str, given: Sequence[Cycle], journalled: Collection[Cycle]) -> list[Cycle]:
        """From the first one that arrived: a broker drops what comes before the agent's subscription."""
        return list(dropwhile(lambda cycle: cycle not in journalled, given))

    def close(self) -> None:
        """Sensor first."""
        self._sensor.stop(1.0)
        self._broker.stop()


_CONFIG = """\
[mqtt.hall]
url = "{url}"

[[sensor]]
id = "{sensor}"
driver = "mqtt"
topic = "{topic}"
channels = [
  {{ name = "number", unit = "count", path = "n", resolution = 1 }},
  {{ name = "temperature", unit = "Cel", path = "env.temperature", resolution = 0.01 }},
]

"""
