"""An MQTT sensor: it publishes values that are all different, and notes which of them the broker has taken over."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

CENTIDEGREES = 10_000  # the temperature runs through so many steps of 0.01


class MqttSensor:
    """Publishes `{"n": 17, "env": {"temperature": 20.17}}` at QoS 1; `n` never comes twice.

    A line of the log is written once the broker has acknowledged the message: from then on it may not get lost.
    """

    def __init__(self, port: int, topic: str, log: Path, interval_s: float = 0.1, first: int = 0) -> None:
        self.topic = topic
        self.given_out: set[int] = set()
        self._port = port
        self._log = log
        self._interval_s = interval_s
        self._next = first
        self._waiting: deque[tuple[int, int]] = deque()  # n and its message id
        self._acknowledged: set[int] = set()  # message ids
        self._stop = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, f"sensor-{topic.replace('/', '-')}")
        self._client.max_inflight_messages_set(20)
        self._client.reconnect_delay_set(1, 2)
        self._client.on_publish = lambda _client, _data, mid, *_: self._acknowledged.add(mid)
        self._thread = threading.Thread(target=self._run, name=f"mqtt sensor {topic}", daemon=True)

    def start(self) -> None:
        """Connect and begin to publish, one value per interval."""
        self.connect()
        self._thread.start()

    def connect(self) -> None:
        """Connect only; `publish` gives single values."""
        self._client.connect_async("127.0.0.1", self._port)
        self._client.loop_start()

    def publish(self, count: int = 1) -> None:
        """Give out so many further values at once. By one thread at a time."""
        for _ in range(count):
            number, self._next = self._next, self._next + 1
            self._waiting.append((number, self._client.publish(self.topic, payload_of(number), 1).mid))
        self._note()

    def wait(self, timeout_s: float) -> bool:
        """Until the broker has all that was published. False when the time is over."""
        end = time.monotonic() + timeout_s
        while self._waiting and time.monotonic() < end:
            time.sleep(0.01)
            self._note()
        return not self._waiting

    def stop(self, timeout_s: float = 10.0) -> None:
        """End, after the broker has what was published."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.wait(timeout_s)
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.publish()

    def _note(self) -> None:
        """Write down what the broker has acknowledged since the last look."""
        with self._log.open("a", encoding="utf-8") as file:
            while self._waiting and self._waiting[0][1] in self._acknowledged:
                number, mid = self._waiting.popleft()
                self._acknowledged.remove(mid)
                self.given_out.add(number)
                file.write(f'{{"n": {number}}}\n')


def payload_of(number: int) -> bytes:
    """The message with this number."""
    temperature = (2000 + number % CENTIDEGREES) / 100
    return json.dumps({"n": number, "env": {"temperature": temperature}}).encode()
