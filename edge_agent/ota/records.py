"""What is remembered of a family's releases on this gateway, as it lies in `state_dir/ota/slots/FAMILY.json`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Stage(StrEnum):
    """How far a release is; in the order of its way."""

    ASSIGNED = "assigned"  # the cloud wants it, and what it needs is here
    DOWNLOADED = "downloaded"
    TESTED = "tested"
    SHADOW = "shadow"  # compared with the active model on live readings
    STAGED = "staged"  # about to be swapped in
    PROBATION = "probation"
    COMMITTED = "committed"
    DELAYED = "delayed"  # something that heals by itself; tried again
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"


class Ref(msgspec.Struct, frozen=True):
    """A release that lies here. `sha256` is its document's: the name of the whole set."""

    family: str
    counter: int
    version: int
    sha256: str

    @property
    def name(self) -> str:
        """`family/counter`."""
        return f"{self.family}/{self.counter}"


class Event(msgspec.Struct, frozen=True):
    """Something that happened: when (ISO 8601, by the gateway's clock), to which release, and why.

    `id` is random, 0 in records of before there were reports; `told`: the cloud has it.
    """

    at: str
    release: str
    stage: Stage
    reason: str = ""
    text: str = ""
    id: int = 0
    told: bool = False


class Record(msgspec.Struct):
    """A family's slots. `counter` is the highest release that was ever committed: none below it comes back."""

    active: Ref | None = None
    previous: Ref | None = None
    candidate: Ref | None = None
    stage: Stage | None = None
    attempts: int = 0
    counter: int = 0
    quarantine: dict[str, str] = {}
    events: list[Event] = []
