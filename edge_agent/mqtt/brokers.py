"""All brokers of a gateway, one thread each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edge_agent.config.model import Config
from edge_agent.config.mqtt import MqttSection, broker_of
from edge_agent.errors import CredentialsRejected
from edge_agent.mqtt.client import Client, password_of, tls_context
from edge_agent.mqtt.link import Link, Take
from edge_agent.mqtt.publisher import Publisher
from edge_agent.sources.sensor import Sensor
from wire.alarm import Alarm
from wire.clock import NS_PER_S, Clock


class _Post:
    """A link and its thread."""

    def __init__(self, link: Link, stop: threading.Event) -> None:
        self.link = link
        self.error: BaseException | None = None
        self._stop = stop
        self.thread = threading.Thread(target=self._run, name=f"mqtt {link.name}", daemon=True)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self.link.step()
            self.link.close()
        except BaseException as error:  # our own mistake: the agent ends on it
            self.error = error


class Brokers:
    """Starts and stops the links. Made only where there is an [mqtt] table: it brings paho."""

    def __init__(
        self, config: Config, polled: Sequence[Sensor], take: Take, room: Callable[[], bool], clock: Clock
    ) -> None:
        """`polled`: the sensors on buses, whose readings may be told too. Raises CredentialsRejected."""
        self.links: list[Link] = []
        self._publishers: list[Publisher] = []
        self._clock = clock
        self._stop = threading.Event()
        told: list[tuple[Link, Publisher]] = []
        for name, section in config.brokers.items():
            check_files(name, section)
            plans = [plan for plan in config.sensors if plan.is_mqtt and broker_of(plan, config.brokers) == name]
            publisher = None
            if section.publish is not None:
                publisher = Publisher(config.agent.name, section.publish, clock)
            link = Link(
                name,
                section,
                plans,
                publisher,
                client_id=section.client_id or f"{config.agent.name}-{name}",
                take=take,
                room=room,
                clock=clock,
                make_client=Client,
            )
            self.links.append(link)
            if publisher is not None:
                told.append((link, publisher))
        everyone = [*polled, *(inlet.sensor for link in self.links for inlet in link.inlets)]
        for link, publisher in told:
            publisher.show(everyone)
            publisher.wake = link.wake
            self._publishers.append(publisher)
        self._posts = [_Post(link, self._stop) for link in self.links]

    @property
    def sensors(self) -> list[Sensor]:
        """Those whose values the brokers bring."""
        return [inlet.sensor for link in self.links for inlet in link.inlets]

    def start(self) -> None:
        """Begin."""
        for post in self._posts:
            post.thread.start()

    def alarm(self, alarm: Alarm) -> None:
        """Tell every broker that is to be told. For any thread."""
        for publisher in self._publishers:
            publisher.alarm(alarm)

    def failure(self) -> BaseException | None:
        """A mistake of ours that ended a thread; the agent stops on it."""
        return next((post.error for post in self._posts if post.error), None)

    def stop(self, timeout_s: float) -> list[str]:
        """End; the names of brokers that did not let go in time. Waits only once."""
        timeout_s = 0.0 if self._stop.is_set() else timeout_s
        self._stop.set()
        deadline_ns = self._clock.boottime_ns() + round(timeout_s * NS_PER_S)
        for post in self._posts:
            if post.thread.is_alive():
                post.link.wake()
                post.thread.join(max(0.0, (deadline_ns - self._clock.boottime_ns()) / NS_PER_S))
        return [post.link.name for post in self._posts if post.thread.is_alive()]


def check_files(name: str, section: MqttSection) -> None:
    """Raises CredentialsRejected when a file of the table cannot be used."""
    try:
        password_of(section)
        if section.tls:
            tls_context(section)
    except (OSError, ValueError) as error:
        files = [each for each in (section.ca, section.cert, section.key, section.password_file) if each]
        raise CredentialsRejected(f"[mqtt.{name}]: {', '.join(files)}: {error}") from error
