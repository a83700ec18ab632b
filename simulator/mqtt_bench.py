"""`edge-sim mqtt`: a broker and sensors that publish to it, until Ctrl-C."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from simulator.mqtt_broker import MqttBroker
from simulator.mqtt_sensor import MqttSensor

TABLES = """\
[mqtt.simulated]
url = "{url}"

[[sensor]]
id = "simulated"
driver = "mqtt"
topic = "{topic}"
channels = [
  {{ name = "number", unit = "count", path = "n", resolution = 1 }},
  {{ name = "temperature", unit = "Cel", path = "env.temperature", resolution = 0.01 }},
]
"""


def serve(topics: Sequence[str], interval_s: float, log: Path | None, say: Callable[[str], None]) -> None:
    """Start everything, say which broker it is and what to write into a configuration. Raises LabFailed."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="edge-sim-") as name:
        folder = Path(name)
        broker = MqttBroker(folder)
        say(f"broker: {broker.kind}")
        broker.start()
        sensors = [MqttSensor(broker.port, topic, log or folder / "given-out", interval_s) for topic in topics]
        try:
            for sensor in sensors:
                sensor.start()
            say(f"\n{TABLES.format(url=broker.url, topic=topics[0])}")
            stop.wait()
        finally:
            for sensor in sensors:
                sensor.stop(1.0)
            broker.stop()
        say(f"the broker took over {sum(len(sensor.given_out) for sensor in sensors)} messages")
