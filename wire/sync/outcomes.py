"""What the cloud decided. The catalog says it; `CloudSession` turns each into the frames of the answer."""

from __future__ import annotations

from dataclasses import dataclass

from wire.sync.frames import EpochCoverage


@dataclass(frozen=True, slots=True)
class HelloAnswer:
    """What Welcome says; coverage of each epoch in Hello's order."""

    generation: int
    coverage: tuple[EpochCoverage, ...]
    need_series: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """New rows: the message is durable."""


@dataclass(frozen=True, slots=True)
class AlreadyStored:
    """Every Seq of it was there: acknowledge, keep nothing."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Part of it was there: nothing kept. The sender merges again."""

    coverage: EpochCoverage


@dataclass(frozen=True, slots=True)
class UnknownSeries:
    """Nothing kept until these definitions are known."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Nothing kept, and nothing of it will be as it is. `code` is stable, `detail` is for people."""

    code: str
    detail: str


CatalogOutcome = Stored | AlreadyStored | Overlaps | UnknownSeries
Outcome = CatalogOutcome | Corrupt
