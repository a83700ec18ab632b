"""What the gateway's half of the protocol needs of whoever installs updates: a port, as `OutboxView` is one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Report:
    """A step of an update. `id` is random; `at_us` is the gateway's wall clock; `release` is `family/counter`.

    `reason` is a stable code, empty where the step succeeded; `text` is for people.
    """

    id: int
    at_us: int
    family: str
    release: str
    stage: str
    reason: str = ""
    text: str = ""


class Updates(Protocol):
    """All calls return at once."""

    def nonce(self) -> bytes:
        """A new random one for a new stream; empty: no assignments are taken."""
        ...

    def running(self) -> tuple[tuple[str, str], ...]:
        """Family and release of what was installed and runs."""
        ...

    def reports(self) -> list[Report]:
        """Those that are not acknowledged yet, oldest first."""
        ...

    def reports_acked(self, ids: Iterable[int]) -> None:
        """The cloud has recorded them."""
        ...

    def assigned(self, document: bytes, nonce: bytes) -> None:
        """The cloud has sent a document on the stream that began with this nonce. Nothing of it was checked."""
        ...


class NoUpdates:
    """Nobody installs updates here."""

    def nonce(self) -> bytes:
        """See `Updates`."""
        return b""

    def running(self) -> tuple[tuple[str, str], ...]:
        """See `Updates`."""
        return ()

    def reports(self) -> list[Report]:
        """See `Updates`."""
        return []

    def reports_acked(self, ids: Iterable[int]) -> None:
        """See `Updates`."""

    def assigned(self, document: bytes, nonce: bytes) -> None:
        """See `Updates`."""
