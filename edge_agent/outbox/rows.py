"""What the outbox' tables hold, as values."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.outbox.keys import ROLLUP_SLOT
from wire.ranges import Range, RangeSet
from wire.reading import Priority


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One boot of this outbox, in the table's column order. `low`: all Seq below are settled. `rate`: cells per s.

    `atoms`, `cells` and `bytes` count what is owed to the cloud, `rollup_bytes` the part of it that is roll-ups (they
    have no cells: their readings are lost), the `kept_` ones what is history.
    """

    number: int
    epoch: int
    predecessor: int
    predecessor_next_seq: int | None
    next_seq: int
    low: int
    journal_lsn: int
    atoms: int
    cells: int
    bytes: int
    rate: float
    anchor: str | None
    kept_atoms: int = 0
    kept_bytes: int = 0
    rollup_bytes: int = 0


@dataclass(frozen=True, slots=True)
class NewAtom:
    """An atom that is to be stored; `span` is its first and last stamp in microseconds. `thinned`: it is a roll-up."""

    priority: Priority
    first: int
    count: int
    span: Range
    data: bytes
    thinned: bool = False

    @property
    def slot(self) -> int:
        """Where its key puts it."""
        return ROLLUP_SLOT if self.thinned else self.priority

    @property
    def end(self) -> int:
        """One past its last Seq."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Removed:
    """What is settled now."""

    ranges: RangeSet
    atoms: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Over all epochs: what is owed to the cloud, and what is kept as history."""

    atoms: int
    cells: int
    bytes: int
    kept_atoms: int
    kept_bytes: int
    rollup_bytes: int
