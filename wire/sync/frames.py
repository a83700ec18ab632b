"""The frames of the sync protocol as plain values. `wire.messages` turns them into protobuf and back.

Epochs appear by id here; on the wire they are named by their place in Hello.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wire.alarm import Alarm, AlarmKey
from wire.ranges import RangeSet
from wire.reading import Tombstone
from wire.series import SeriesSet
from wire.sync.updates import Report

PROTOCOL_VERSION = 1
EPOCHS_MAX = 4096  # named in one Hello; 65,536 held a catalog for 3.3 s
NONCE_BYTES_MAX = 32
MESSAGES_IN_FLIGHT_MAX = 256  # unanswered on one stream, besides the credit in bytes


@dataclass(frozen=True, slots=True)
class EpochOffer:
    """What a gateway says of one epoch: how far it has counted and what it still holds.

    `given_up`: the ranges whose tombstones are still to be sent, so that nobody takes them for a gap meanwhile.
    """

    epoch: int
    next_seq: int
    offered: RangeSet
    predecessor: int = 0  # 0: the outbox' first epoch
    predecessor_next_seq: int | None = None  # None: unknown
    given_up: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of a stream. The last epoch of the list is the current one.

    `models`: family and release of what was installed over the air and runs. `nonce`: what an assignment on this stream
    must name; empty: none is taken. `ca_bundle`: see `wire.trust`.
    """

    machine: bytes
    agent_version: str
    config_version: str
    generation_seen: int
    epochs: tuple[EpochOffer, ...]
    series_sets: tuple[int, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    protocol: int = PROTOCOL_VERSION
    nonce: bytes = b""
    ca_bundle: int = 0


@dataclass(frozen=True, slots=True)
class MessageFrame:
    """One encoded segment. `next_seq` is its epoch's, as of now, so that the cloud's ledger is always fresh."""

    id: int
    epoch: int
    next_seq: int
    segment: bytes


@dataclass(frozen=True, slots=True)
class TombstonesFrame:
    """Records of what was given up."""

    tombstones: tuple[Tombstone, ...]


@dataclass(frozen=True, slots=True)
class AlarmsFrame:
    """Changes of alarms, each with the epoch that its stamps count in."""

    alarms: tuple[tuple[int, Alarm], ...]


@dataclass(frozen=True, slots=True)
class SeriesSetsFrame:
    """Definitions, on demand."""

    sets: tuple[SeriesSet, ...]


@dataclass(frozen=True, slots=True)
class ReportsFrame:
    """Steps of updates. Only to a cloud whose Welcome said that it takes them."""

    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class EpochCoverage:
    """What the cloud has of one epoch. The two sets are disjoint: stored wins over tombstoned."""

    stored: RangeSet = field(default_factory=RangeSet)
    tombstoned: RangeSet = field(default_factory=RangeSet)


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answer to Hello: the cloud's generation and its coverage of each epoch that Hello named, in order.

    `ca_bundle`: whom to trust from now on, PEM; empty: as before. `renew`: the certificate is of a CA that goes.
    """

    generation: int
    coverage: tuple[EpochCoverage, ...]
    server_time_us: int
    credit_bytes: int
    need_series: tuple[int, ...] = ()
    takes_reports: bool = False
    ca_bundle: bytes = b""
    renew: bool = False


@dataclass(frozen=True, slots=True)
class Ack:
    """Durable now: Seq ranges by epoch, tombstones and alarms by key, reports by id.

    `held_ms`: from a message's arrival to this ack, for each of `message_ids`; empty: not told.
    """

    generation: int
    stored: tuple[tuple[int, RangeSet], ...] = ()
    tombstones: tuple[Tombstone, ...] = ()
    message_ids: tuple[int, ...] = ()
    credit_bytes: int = 0
    alarms: tuple[AlarmKey, ...] = ()
    reports: tuple[int, ...] = ()
    held_ms: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Overlap:
    """A message overlapped the coverage in part; nothing of it was stored."""

    message_id: int
    coverage: EpochCoverage


@dataclass(frozen=True, slots=True)
class NeedSeries:
    """A message used unknown series sets; nothing of it was stored. Send the sets, then the message again."""

    message_id: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that cannot be stored as it is. `code` is stable, `detail` is for people."""

    message_id: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class AssignmentFrame:
    """What this gateway shall run, signed (`wire.assignment`). Only to who gave a nonce."""

    document: bytes


GatewayFrame = Hello | MessageFrame | TombstonesFrame | SeriesSetsFrame | AlarmsFrame | ReportsFrame
Answer = (
    Welcome | Ack | Overlap | NeedSeries | Refused
)  # what a gateway asked for; what tells it to do something is none
CloudFrame = Answer | AssignmentFrame
