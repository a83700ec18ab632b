"""The cloud's half of one stream, sans-IO: frames in, effects out; what became of an effect in, frames out.

The session holds what is per stream (was Hello said, what is on its way); all lasting state is the catalog's. The
caller carries out the effects: `AskHello` first and alone; `StoreSeriesSets` before it hands in the next frame, because
a message that follows may need them; `Ingest`, `StoreTombstones`, `StoreAlarms` and `StoreReports` may run side by side
and end in any order. `assign` may be called at any time after Welcome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from wire.alarm import Alarm
from wire.clock import MS_PER_S
from wire.errors import ProtocolViolation
from wire.ranges import RangeSet
from wire.reading import Tombstone
from wire.series import SeriesSet
from wire.sync.frames import (
    MESSAGES_IN_FLIGHT_MAX,
    Ack,
    AlarmsFrame,
    Answer,
    AssignmentFrame,
    GatewayFrame,
    Hello,
    MessageFrame,
    NeedSeries,
    Overlap,
    Refused,
    ReportsFrame,
    SeriesSetsFrame,
    TombstonesFrame,
    Welcome,
)
from wire.sync.outcomes import AlreadyStored, Corrupt, HelloAnswer, Outcome, Overlaps, Stored, UnknownSeries
from wire.sync.updates import Report

CREDIT_BYTES = 1024 * 1024  # at an ack after 250 ms: 4 MB/s, about 4 M readings/s, from one gateway
LOAD_FREE = 0.25  # of the cloud's memory for messages; up to here nobody is held back
HELD_MS_MAX = (1 << 32) - 1  # of the field
CREDIT_STEPS = 8  # a grant moves in steps, so that not every ack carries one


def credit_at(load: float, most: int = CREDIT_BYTES) -> int:
    """What a gateway may have unacknowledged when so much of the cloud's memory is taken (0 to 1): `most` up to
    LOAD_FREE, then less in equal steps, and 1 byte at the end: one message at a time."""
    share = min(1.0, max(0.0, (1.0 - load) / (1.0 - LOAD_FREE)))
    return max(1, most * math.floor(share * CREDIT_STEPS) // CREDIT_STEPS)


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """credit_bytes: how many bytes of messages a gateway may have unacknowledged, at most."""

    credit_bytes: int = CREDIT_BYTES


@dataclass(frozen=True, slots=True)
class AskHello:
    """Ask the catalog (`hello`) and hand the answer to `welcome`."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class StoreTombstones:
    """Record them; durable, call `recorded`."""

    tombstones: tuple[Tombstone, ...]


@dataclass(frozen=True, slots=True)
class StoreAlarms:
    """Record them, each with its epoch; durable, call `recorded`."""

    alarms: tuple[tuple[int, Alarm], ...]


@dataclass(frozen=True, slots=True)
class StoreReports:
    """Record steps of updates; durable, call `recorded`."""

    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class StoreSeriesSets:
    """Make them known before the next frame is taken; nothing is answered."""

    sets: tuple[SeriesSet, ...]


@dataclass(frozen=True, slots=True)
class Ingest:
    """Check and store a message; hand the outcome to `resolved`."""

    message: MessageFrame


Effect = AskHello | StoreTombstones | StoreAlarms | StoreReports | StoreSeriesSets | Ingest


class _State(Enum):
    NEW = "new"
    ASKED = "asked"  # Hello came, Welcome has not gone
    OPEN = "open"


class CloudSession:
    """One stream of one gateway; `gateway_id` is what its certificate says."""

    def __init__(self, gateway_id: str, options: SessionOptions | None = None) -> None:
        self.gateway_id = gateway_id
        self.options = options or SessionOptions()
        self.unacked_bytes = 0
        self._granted = 0  # as last told
        self._generation = 0
        self._state = _State.NEW
        self._epochs: frozenset[int] = frozenset()
        self.nonce = b""  # of Hello; empty: this gateway takes no assignments
        self._in_flight: dict[int, int] = {}  # message id to bytes

    def received(self, frame: GatewayFrame) -> Effect:
        """What is to be done for this frame. Raises `ProtocolViolation`: drop the stream."""
        if isinstance(frame, Hello):
            if self._state is not _State.NEW:
                raise ProtocolViolation("a second Hello")
            self._state = _State.ASKED
            self._epochs = frozenset(offer.epoch for offer in frame.epochs)
            self.nonce = frame.nonce
            return AskHello(frame)
        if self._state is not _State.OPEN:
            raise ProtocolViolation(f"{type(frame).__name__} before Welcome")
        match frame:
            case MessageFrame():
                return self._message(frame)
            case TombstonesFrame():
                return StoreTombstones(frame.tombstones)
            case AlarmsFrame():
                return StoreAlarms(frame.alarms)
            case ReportsFrame():
                return StoreReports(frame.reports)
            case SeriesSetsFrame():
                return StoreSeriesSets(frame.sets)

    def _message(self, frame: MessageFrame) -> Ingest:
        size, credit = len(frame.segment), self.options.credit_bytes
        if frame.epoch not in self._epochs:
            raise ProtocolViolation(f"epoch {frame.epoch:016x} was not in Hello")
        if frame.id in self._in_flight:
            raise ProtocolViolation(f"message id {frame.id} is still unanswered")
        if len(self._in_flight) >= MESSAGES_IN_FLIGHT_MAX:
            raise ProtocolViolation(f"more than {MESSAGES_IN_FLIGHT_MAX} messages unanswered")
        if self._in_flight and self.unacked_bytes + size > credit:
            raise ProtocolViolation(f"{self.unacked_bytes} + {size} bytes unanswered, credit is {credit}")
        self._in_flight[frame.id] = size
        self.unacked_bytes += size
        return Ingest(frame)

    def grant(self, load: float) -> int:
        """What the next ack should say of credit under this load (0 to 1): 0 when it is as told before.

        A gateway learns of less only with the ack, so what it had sent before is taken: the bound that ends a stream
        is the most that is ever granted.
        """
        credit = credit_at(load, self.options.credit_bytes)
        if credit == self._granted:
            return 0
        self._granted = credit
        return credit

    def welcome(
        self, answer: HelloAnswer, now_us: int, load: float = 0.0, *, ca_bundle: bytes = b"", renew: bool = False
    ) -> Welcome:
        """The answer to `AskHello`. From here on messages are taken."""
        assert self._state is _State.ASKED
        self._state = _State.OPEN
        self._generation = answer.generation
        credit, need = self.grant(load), answer.need_series
        return Welcome(answer.generation, answer.coverage, now_us, credit, need, True, ca_bundle, renew)

    def assign(self, document: bytes) -> AssignmentFrame:
        """What this gateway shall run, signed with the nonce of this stream."""
        assert self._state is _State.OPEN
        assert self.nonce
        return AssignmentFrame(document)

    def recorded(self, effect: StoreTombstones | StoreAlarms | StoreReports) -> Ack:
        """They are durable."""
        if isinstance(effect, StoreReports):
            return Ack(self._generation, reports=tuple(report.id for report in effect.reports))
        if isinstance(effect, StoreAlarms):
            return Ack(self._generation, alarms=tuple(alarm.key for _, alarm in effect.alarms))
        return Ack(self._generation, tombstones=effect.tombstones)

    def resolved(self, effect: Ingest, outcome: Outcome, atoms: RangeSet, held_s: float = 0.0) -> Answer:
        """The answer to a message. `atoms`: the Seq ranges its header names (unused when it is refused).

        `held_s`: since the message arrived; what waits here for its commit does not fill the gateway's link.
        """
        message = effect.message
        self.unacked_bytes -= self._in_flight.pop(message.id)
        match outcome:
            case Stored() | AlreadyStored():
                held_ms = min(HELD_MS_MAX, round(held_s * MS_PER_S))
                return Ack(self._generation, ((message.epoch, atoms),), message_ids=(message.id,), held_ms=(held_ms,))
            case Overlaps(coverage):
                return Overlap(message.id, coverage)
            case UnknownSeries(ids):
                return NeedSeries(message.id, ids)
            case Corrupt(code, detail):
                return Refused(message.id, code, detail)
