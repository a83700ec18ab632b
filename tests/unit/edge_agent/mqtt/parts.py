"""A sensor plan from its table, and the broker's side of the port as a test wants it."""

from __future__ import annotations

from pathlib import Path

from edge_agent.config.load import load
from edge_agent.config.model import Config
from edge_agent.config.mqtt import MqttSection
from edge_agent.mqtt.message import BrokerRefused, Handler, Message, Outgoing, Subscription

BOILER = """
[agent]
name = "gw"
[mqtt.site]
url = "mqtt://127.0.0.1"
[mqtt.site.publish]
readings = "10s"
discovery = true
[[sensor]]
id = "boiler"
driver = "mqtt"
topic = "plant/+/state"
channels = [
  { name = "temperature", unit = "Cel", path = "env.t", resolution = 0.01, device_class = "temperature" },
  { name = "load", unit = "%", path = "load", type = "float32" },
]
"""


def config_of(folder: Path, text: str = BOILER) -> Config:
    (folder / "a.toml").write_text(text)
    return load(folder / "a.toml")


class FakeBroker:
    """The other side of a link's port: says what it was asked, and delivers what a test hands it."""

    def __init__(self) -> None:
        self.handler: Handler | None = None
        self.client_id = ""
        self.will: Outgoing | None = None
        self.is_there = True
        self.answers = True
        self.refusal = "refused"
        self.connects = 0
        self.dropped = 0
        self.acked: list[int] = []
        self.asked: list[Subscription] = []
        self.told: list[Outgoing] = []
        self.waits: list[float] = []

    def make(self, section: MqttSection, client_id: str, will: Outgoing | None, handler: Handler) -> FakeBroker:
        self.client_id, self.will, self.handler = client_id, will, handler
        return self

    @property
    def link(self) -> Handler:
        assert self.handler is not None
        return self.handler

    def connect(self) -> None:
        self.connects += 1
        if not self.is_there:
            raise BrokerRefused(self.refusal)
        if self.answers:
            self.link.connected(False, "5")

    def deliver(self, topic: str, payload: bytes, mid: int = 1, *, dup: bool = False, retain: bool = False) -> None:
        self.link.message(Message(topic, payload, mid, 1, dup, retain))

    def work(self, timeout_s: float) -> None:
        self.waits.append(timeout_s)

    def wake(self) -> None:
        self.waits.append(-1.0)

    def subscribe(self, subscriptions: list[Subscription]) -> None:
        self.asked = subscriptions

    def publish(self, outgoing: Outgoing) -> None:
        self.told.append(outgoing)

    def ack(self, message: Message) -> None:
        self.acked.append(message.mid)

    def unsent(self) -> bool:
        return False

    def drop(self) -> None:
        self.dropped += 1
        self.link.lost("dropped")

    def close(self) -> None:
        self.is_there = False
