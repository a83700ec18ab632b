"""What goes over the port between a link and its broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


class BrokerRefused(Exception):
    """The broker cannot be reached, or does not want us. The message says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a broker delivered. `dup`: it may have been here before."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    dup: bool
    retain: bool


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What we tell. QoS 1 is sent until the broker has it."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 1


@dataclass(frozen=True, slots=True)
class Subscription:
    """One filter. `retained`: whether the broker sends what it kept; MQTT 3.1.1 always does."""

    topic: str
    qos: int
    retained: Literal["never", "new", "always"]  # new: when it did not know the subscription


class Handler(Protocol):
    """What the client tells, on the thread that calls `connect` or `work`."""

    def connected(self, resumed: bool, version: str) -> None:
        """The broker took us in; `resumed`: it remembers the session."""
        ...

    def lost(self, why: str) -> None:
        """The connection, or the try for one, is over."""
        ...

    def message(self, message: Message) -> None:
        """A message; one of QoS 1 is delivered again and again until `ack`."""
        ...

    def refused(self, topic: str, why: str) -> None:
        """The broker does not give us this topic."""
        ...
