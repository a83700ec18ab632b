"""[mqtt.NAME]: a broker that sensors listen to and that may be told; and what must agree between the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from edge_agent.config.check import Place, Problems
from edge_agent.config.model import PATH, Interval, Section, SensorPlan, duration
from edge_agent.config.values import nearest
from edge_agent.mqtt.driver import MqttConfig
from edge_agent.mqtt.topics import overlap

PORTS = {"mqtt": 1883, "mqtts": 8883}
URL = Meta(
    pattern=r"^mqtts?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$",
    extra={"rule": "mqtt://HOST:PORT or mqtts://HOST:PORT"},
)
PREFIX = Meta(
    pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$",
    extra={"rule": "levels of letters, digits, '.', '_' or '-' with '/' between"},
)


class PublishSection(Section, frozen=True):
    """[mqtt.NAME.publish]: what this gateway tells the broker."""

    prefix: Annotated[str, PREFIX] = "edge"
    alarms: bool = True
    readings: Interval | None = None  # at most this often, and only what is new; none: only when asked
    discovery: bool = False  # Home Assistant finds the channels by itself
    discovery_prefix: Annotated[str, PREFIX] = "homeassistant"

    def __post_init__(self) -> None:
        if self.discovery and self.readings is None:
            raise ValueError('discovery needs values to show: write readings = "10s"')

    def base(self, gateway: str) -> str:
        """The topic of the gateway's availability, and above all others of it."""
        return f"{self.prefix}/{gateway}"


class MqttSection(Section, frozen=True):
    """[mqtt.NAME]: one broker."""

    url: Annotated[str, URL]
    ca: Annotated[str, PATH] = ""  # empty: the system's
    cert: Annotated[str, PATH] = ""
    key: Annotated[str, PATH] = ""
    username: str = ""
    password_file: Annotated[str, PATH] = ""
    client_id: Annotated[str, Meta(max_length=128)] = ""  # empty: AGENT-NAME; two clients may not share one
    keepalive: Annotated[float, duration(5, 3600)] = 30.0
    session: Annotated[float, duration(0, 86400 * 365)] = 86400.0 * 7  # how long the broker keeps what we miss (MQTT 5)
    publish: PublishSection | None = None

    def __post_init__(self) -> None:
        if not self.tls and (self.ca or self.cert or self.key):
            raise ValueError("ca, cert and key are for mqtts://")
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key belong together")
        if self.password_file and not self.username:
            raise ValueError("password_file needs username")
        if not 0 < self.port < 65536:
            raise ValueError(f"port {self.port} of the url is not 1 to 65535")

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted and the broker's certificate checked."""
        return self.url.startswith("mqtts:")

    @property
    def host(self) -> str:
        """Name or address."""
        return self._split[0].strip("[]")

    @property
    def port(self) -> int:
        """1883, or 8883 with TLS, where the url names none."""
        return int(self._split[1] or PORTS["mqtts" if self.tls else "mqtt"])

    @property
    def _split(self) -> tuple[str, str]:
        rest = self.url.partition("://")[2]
        host, colon, port = rest.rpartition(":")
        return (host, port) if colon and port.isdigit() and not rest.endswith("]") else (rest, "")


def broker_of(plan: SensorPlan, brokers: Mapping[str, object]) -> str:
    """The broker's name; "" when the sensor names none and there is not exactly one."""
    assert isinstance(plan.config, MqttConfig)
    return plan.config.broker or (next(iter(brokers)) if len(brokers) == 1 else "")


def check_brokers(
    plans: Sequence[tuple[SensorPlan, Place]],
    brokers: Mapping[str, MqttSection | None],
    gateway: str,
    problems: Problems,
) -> None:
    """Each sensor has a broker; no two filters take the same messages twice; nobody reads what we tell."""
    filters: dict[str, dict[str, str]] = {}
    for plan, place in plans:
        where = f'sensor "{plan.id}"'
        name = broker_of(plan, brokers)
        if name not in brokers:
            hint = nearest(name, brokers) if name else ""
            known = f'broker "{name}" unknown{hint}' if name else '"broker" is missing: there is not exactly one'
            problems.add(place, where, known if brokers else f"{known} (add [mqtt.NAME])")
            continue
        topic = plan.config.topic
        for other, owner in filters.setdefault(name, {}).items():
            if other != topic and overlap(other, topic):
                text = f'topic = "{topic}" has messages in common with "{other}" of sensor "{owner}"'
                problems.add(place.at("topic"), where, f"{text}, which may come twice; write both alike, or apart")
        filters[name].setdefault(topic, plan.id)
        section = brokers[name]
        if section is not None and section.publish is not None:
            for own in own_filters(section.publish, gateway):
                if overlap(own, topic):
                    text = f'topic = "{topic}" takes in "{own}", what this gateway itself tells or is told'
                    problems.add(place.at("topic"), where, text)


def own_filters(publish: PublishSection, gateway: str) -> list[str]:
    """Topics of [mqtt.NAME.publish] that no sensor may take in."""
    found = [f"{publish.base(gateway)}/#"]
    if publish.discovery:
        found.append(f"{publish.discovery_prefix}/#")
    return found
