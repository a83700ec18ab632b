"""One broker: connected with back-off, its messages journalled and then acknowledged, its loss told once.

The core without a thread: `step` waits at most as long as it is told. A message goes from the socket to the journal
and only then back to the broker as an acknowledgement, on one thread and one at a time. There is no queue here: what
we do not read waits in the broker, under the broker's own limits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.config.model import SensorPlan
from edge_agent.config.mqtt import MqttSection
from edge_agent.config.values import show_duration
from edge_agent.mqtt.driver import MqttConfig
from edge_agent.mqtt.inlet import Inlet
from edge_agent.mqtt.message import BrokerRefused, Handler, Message, Outgoing, Subscription
from edge_agent.mqtt.publisher import Publisher
from edge_agent.sources.sensor import Backoff
from wire.clock import NS_PER_S, Clock
from wire.reading import CellState, Tick

log = logging.getLogger(__name__)

ANSWER_S_MAX = 5.0  # from CONNECT to CONNACK
STABLE_S = 10.0  # a connection that lasted so long forgets the back-off: two clients of one id throw each other out
WAIT_S_MAX = 2.0  # it looks up at least so often

Take = Callable[[Sequence[Tick]], None]


class Port(Protocol):
    """The other side of the port: see `edge_agent.mqtt.client.Client`."""

    def connect(self) -> None: ...
    def work(self, timeout_s: float) -> None: ...
    def wake(self) -> None: ...
    def subscribe(self, subscriptions: list[Subscription]) -> None: ...
    def publish(self, outgoing: Outgoing) -> None: ...
    def ack(self, message: Message) -> None: ...
    def unsent(self) -> bool: ...
    def drop(self) -> None: ...
    def close(self) -> None: ...


MakeClient = Callable[[MqttSection, str, Outgoing | None, Handler], Port]


class Link:
    """See the module. `room` says whether the journal can take a message now."""

    def __init__(
        self,
        name: str,
        section: MqttSection,
        plans: Sequence[SensorPlan],
        publisher: Publisher | None,
        *,
        client_id: str,
        take: Take,
        room: Callable[[], bool],
        clock: Clock,
        make_client: MakeClient,
    ) -> None:
        self.name = name
        self.inlets = [Inlet(plan) for plan in plans]
        self.publisher = publisher
        self.error = "not yet connected"  # empty: it works
        self.messages = 0  # taken and acknowledged
        self.redelivered = 0  # of these, may be here a second time
        self.skipped = 0  # for no sensor of ours, or kept by the broker from before
        self.losses = 0  # of the connection
        self._take = take
        self._room = room
        self._clock = clock
        self._backoff = Backoff()
        self._lost_ns: int | None = None  # since when it is away, once that was told
        self._since_ns = clock.boottime_ns()  # of the last change between connected, connecting and not
        self._connecting = False
        self._told: set[str] = set()
        will = publisher.will if publisher is not None else None
        self._client = make_client(section, client_id, will, self)

    @property
    def is_connected(self) -> bool:
        """Whether the broker took us in."""
        return not self.error

    def step(self, timeout_s: float = WAIT_S_MAX) -> None:
        """Do what is due, then wait for the broker, at most so long."""
        now_ns = self._clock.boottime_ns()
        if self._connecting and now_ns - self._since_ns > ANSWER_S_MAX * NS_PER_S:
            self._client.drop()
            timeout_s = 0.0
        elif not self.is_connected and not self._connecting:
            wait_s = (self._backoff.due_ns - now_ns) / NS_PER_S
            if wait_s > 0:
                timeout_s = min(timeout_s, wait_s)
            elif self._room():
                self._connect(now_ns)
            else:
                self.lost("the journal is full; messages wait in the broker")
        elif self.is_connected:
            if self._backoff.due_ns and now_ns - self._since_ns > STABLE_S * NS_PER_S:
                self._backoff.reset()
            if self.publisher is not None:
                self._send(self.publisher.due(now_ns))
                timeout_s = min(timeout_s, self.publisher.wait_s(now_ns))
        self._client.work(timeout_s)

    def wake(self) -> None:
        """End the wait of `step`. For any thread."""
        self._client.wake()

    def close(self) -> None:
        """Tell that we go, acknowledge what was journalled, and go."""
        if self.is_connected:
            if self.publisher is not None:
                self._send([self.publisher.farewell])
            for _ in range(100):
                if not self._client.unsent():
                    break
                self._client.work(0.01)
        self._client.close()

    def connected(self, resumed: bool, version: str) -> None:
        """See `Handler`."""
        now_ns = self._clock.boottime_ns()
        self.error = ""
        self._connecting = False
        self._since_ns = now_ns
        session = "session resumed" if resumed else "new session"
        away = "" if self._lost_ns is None else f" after {show_duration((now_ns - self._lost_ns) // NS_PER_S)}"
        log.info(
            'broker "%s" is %s%s (MQTT %s, %s)', self.name, "back" if away else "connected", away, version, session
        )
        self._lost_ns = None
        for inlet in self.inlets:
            if inlet.sensor.reason is CellState.BUS_DOWN:
                inlet.sensor.error = ""
        asked = self._wanted()
        if self.publisher is not None:
            asked += [Subscription(topic, 0, "always") for topic in self.publisher.filters]
        self._client.subscribe(asked)
        if self.publisher is not None:
            self._send(self.publisher.connected())

    def lost(self, why: str) -> None:
        """See `Handler`. Every sensor is told once, and its cells are one gap."""
        now_ns = self._clock.boottime_ns()
        self._connecting = False
        self._since_ns = now_ns
        self._backoff.fail(now_ns)
        self.error = why
        if self._lost_ns is not None:
            return
        self._lost_ns = now_ns
        self.losses += 1
        log.warning('broker "%s" is lost: %s', self.name, why)
        gaps = []
        for inlet in self.inlets:
            inlet.sensor.suspend(why, now_ns)
            gaps.append(inlet.gap(CellState.BUS_DOWN, now_ns))
        self._take([gap for gap in gaps if gap is not None])

    def message(self, message: Message) -> None:
        """See `Handler`. Journalled first, then acknowledged; what cannot be journalled stays with the broker."""
        if self.publisher is not None and self.publisher.listens_to(message.topic):
            self._send(self.publisher.message(message.topic, message.payload))
        elif not self._room():
            self._client.drop()  # unacknowledged, so the broker gives it again
            return
        else:
            self._deliver(message)
        if message.qos:
            self._client.ack(message)

    def refused(self, topic: str, why: str) -> None:
        """See `Handler`."""
        for inlet in self.inlets:
            if inlet.config.topic == topic:
                inlet.sensor.error = f"the broker refuses {topic}: {why}"
        self._tell(f"refused {topic}", 'broker "%s" refuses the topic %s: %s', topic, why)

    def _wanted(self) -> list[Subscription]:
        """Each filter once, with the most that its sensors ask."""
        together: dict[str, list[MqttConfig]] = {}
        for inlet in self.inlets:
            together.setdefault(inlet.config.topic, []).append(inlet.config)
        return [
            Subscription(
                topic, max(each.qos for each in asking), "new" if any(each.retained for each in asking) else "never"
            )
            for topic, asking in together.items()
        ]

    def _deliver(self, message: Message) -> None:
        takers = [inlet for inlet in self.inlets if inlet.matches(message.topic)]
        if not takers:
            self._tell("stray", 'broker "%s" still sends %s, which no sensor takes; it is dropped', message.topic)
        takers = [inlet for inlet in takers if inlet.config.retained or not message.retain]
        now_ns = self._clock.boottime_ns()
        found = [inlet.tick(message.topic, message.payload, now_ns) for inlet in takers]
        ticks = [tick for tick in found if tick is not None]
        if ticks:
            self._take(ticks)
            self.messages += 1
            self.redelivered += message.dup
        else:
            self.skipped += 1

    def _connect(self, now_ns: int) -> None:
        self._since_ns = now_ns
        self._connecting = True
        try:
            self._client.connect()
        except BrokerRefused as error:
            self.lost(str(error))

    def _send(self, outgoing: Sequence[Outgoing]) -> None:
        for each in outgoing:
            self._client.publish(each)

    def _tell(self, once: str, text: str, *values: object) -> None:
        """Say it once in the life of the agent."""
        if once not in self._told:
            self._told.add(once)
            log.warning(text, self.name, *values)
