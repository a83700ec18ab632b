"""The catalog's contract: one suite in `tests/conformance` holds every implementation to it.

All calls block and are short; asyncio code runs them on the catalog's own thread. Each is one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cloud_sync.catalog.actors import ACTOR_LOCAL
from wire.alarm import Alarm
from wire.clock import Anchor
from wire.reading import Tombstone
from wire.segment import Header
from wire.series import SeriesSet
from wire.sync.frames import Hello
from wire.sync.outcomes import CatalogOutcome, HelloAnswer


@dataclass(frozen=True, slots=True)
class PackTicket:
    """Leave to write one pack. The commit is refused after the deadline (database clock), so that a sweeper may
    delete an object that no row names."""

    pack_id: int
    key: str
    deadline_us: int


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One message inside a pack. Times are boot-relative microseconds."""

    gateway: str
    epoch: int
    next_seq: int
    header: Header
    offset: int
    length: int
    t_min_us: int
    t_max_us: int


@dataclass(frozen=True, slots=True)
class GatewayRow:
    """One line of the fleet list. Times are wall-clock microseconds by the database."""

    id: str
    first_seen_us: int
    last_seen_us: int
    agent_version: str
    config_version: str
    machine: bytes


@dataclass(frozen=True, slots=True)
class MachineRow:
    """A machine that has shown a gateway's certificate. `epoch`: what its latest Hello called current."""

    machine: bytes
    epoch: int
    first_seen_us: int
    last_seen_us: int
    retired: bool


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Seq that were given and are nowhere: the latest Hello neither offers them nor gives them up."""

    first: int
    end: int
    since_us: int  # when it was noticed, by the database

    @property
    def count(self) -> int:
        """How many readings."""
        return self.end - self.first


class EpochEnd(Enum):
    """What is known of an epoch's last Seq."""

    OPEN = "open"  # it goes on
    KNOWN = "known"  # its successor has told it
    UNKNOWN = "unknown"  # after `taken` more may have been given out, of which no record tells


@dataclass(frozen=True, slots=True)
class Account:
    """A gateway's ledger in sum. `gap` is a part of what is pending."""

    gateway: str
    epochs: int
    taken: int
    stored: int
    tombstoned: int
    losses_without_seq: int
    gap: int
    machines: int  # that are not retired

    @property
    def pending(self) -> int:
        """Not stored and not given up."""
        return self.taken - self.stored - self.tombstoned

    @property
    def lost(self) -> int:
        """Given up, lost before they had a number, or in a gap."""
        return self.tombstoned + self.losses_without_seq + self.gap

    @property
    def is_cloned(self) -> bool:
        """Two machines use its certificate."""
        return self.machines > 1


@dataclass(frozen=True, slots=True)
class EpochLedger:
    """taken = stored + tombstoned + pending, in Seq numbers (cells: values and gaps)."""

    epoch: int
    predecessor: int
    predecessor_next_seq: int | None  # None: unknown
    end: EpochEnd
    taken: int
    stored: int
    tombstoned: int
    pending: int
    losses_without_seq: int  # estimated counts of power cuts and full rings
    tombstones: tuple[Tombstone, ...]
    gaps: tuple[Gap, ...]  # of what is pending
    anchor: Anchor | None  # the offset in force
    offset_version: int

    @property
    def gap(self) -> int:
        """How many of the pending are in a gap."""
        return sum(each.count for each in self.gaps)


@dataclass(frozen=True, slots=True)
class MessageRow:
    """Where one message's bytes are, and how to date its stamps: wall = boot-relative + offset_us."""

    id: int
    gateway: str
    epoch: int
    pack_key: str
    offset: int
    length: int
    offset_us: int
    synchronised: bool
    t_min_us: int  # wall clock, by the offset in force
    t_max_us: int


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm: what it said when its score was largest, and when. Times are wall clock, by the offset in force."""

    gateway: str
    epoch: int
    alarm: Alarm
    onset_us: int
    changed_us: int
    cleared_us: int | None  # None: it still lasts
    synchronised: bool


class Catalog(Protocol):
    """See the module. Raises `CatalogDown` when the database cannot be reached or refuses."""

    def generation(self) -> int:
        """Id of this catalog and bucket; a restore from backup changes it."""
        ...

    def hello(self, gateway: str, hello: Hello) -> HelloAnswer:
        """Note the gateway and its epochs; answer with the coverage of each, in Hello's order.

        Raises `TooManyEpochs` when it would have more than a catalog keeps; nothing was noted then.
        """
        ...

    def open_pack(self) -> PackTicket:
        """Reserve an id and a key never used before."""
        ...

    def commit_pack(self, ticket: PackTicket, size: int, entries: Sequence[PackEntry]) -> list[CatalogOutcome]:
        """One transaction under the epochs' row locks: pack, messages, coverage, anchors, next_seq.

        Returns one outcome per entry, in order. Raises `PackExpired` past the deadline; nothing was stored then.
        """
        ...

    def record_tombstones(self, gateway: str, tombstones: Sequence[Tombstone]) -> None:
        """Idempotent; what is stored stays stored. Told again with another count, the larger one stays."""
        ...

    def record_alarms(self, gateway: str, alarms: Sequence[tuple[int, Alarm]]) -> None:
        """Changes of alarms, each with its epoch. Idempotent by (gateway, id, phase, stamp)."""
        ...

    def alarms(
        self, gateway: str | None, start_us: int, end_us: int, limit: int, active: bool = False
    ) -> list[AlarmRow]:
        """Alarms with their onset in the wall-clock range start..end, newest first; of one gateway or of all (None).

        Reads at most `limit` changes, of which one alarm may have several. `active`: only those that last, without
        reading the others.
        """
        ...

    def active_alarms(self) -> dict[str, int]:
        """How many alarms last, by gateway; those without any are left out."""
        ...

    def put_series_sets(self, gateway: str, sets: Sequence[SeriesSet]) -> None:
        """Idempotent."""
        ...

    def gateways(self) -> list[GatewayRow]:
        """By id."""
        ...

    def gateway(self, gateway: str) -> GatewayRow | None:
        """One, or None."""
        ...

    def series_sets(self, gateway: str) -> list[SeriesSet]:
        """Every set this gateway has ever named."""
        ...

    def definitions(self, set_ids: Sequence[int]) -> list[SeriesSet]:
        """Those of these sets that any gateway has defined."""
        ...

    def messages(
        self, gateway: str, set_ids: Sequence[int], start_us: int, end_us: int, after_id: int = 0
    ) -> list[MessageRow]:
        """Messages with any of the sets and any stamp in the wall-clock range start..end, by time.

        `after_id` leaves out messages up to that id (ids grow with each commit): a cursor for live views.
        """
        ...

    def ledger(self, gateway: str) -> list[EpochLedger]:
        """By epoch, oldest first."""
        ...

    def accounts(self, gateway: str | None = None) -> dict[str, Account]:
        """The ledger in sum, of each gateway that has connected or of one."""
        ...

    def machines(self, gateway: str) -> list[MachineRow]:
        """Those that have shown its certificate, by when they came first."""
        ...

    def is_cloned(self, gateway: str) -> bool:
        """Two machines that are not retired use its certificate."""
        ...

    def retire_machine(self, gateway: str, machine: bytes, actor: str = ACTOR_LOCAL) -> bool:
        """People say that this machine will not come back; False when it is not known, or was retired before.

        What it held is a gap from now on, unless others have it. A Hello of it undoes this. `actor`: for the audit.
        """
        ...

    def require_writable(self) -> None:
        """Raise `CatalogDown` when the last write was refused and one more is refused as well."""
        ...

    def close(self) -> None:
        """Release the database."""
        ...
