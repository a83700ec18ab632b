"""The gateway's half of the protocol, sans-IO: what happened goes in, frames to send come out, time is an argument.

`docs/formats/sync.md` has the rules as tables. The machine deletes nothing by itself: `OutboxView.acked` is called for
ranges that the cloud says are durable, and for nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from wire.alarm import AlarmKey
from wire.coverage import Coverage, Fit
from wire.ranges import RangeSet
from wire.sync.flow import Backoff, Flow, Sent
from wire.sync.frames import (
    Ack,
    AlarmsFrame,
    CloudFrame,
    EpochCoverage,
    GatewayFrame,
    Hello,
    MessageFrame,
    NeedSeries,
    Overlap,
    Refused,
    SeriesSetsFrame,
    TombstonesFrame,
    Welcome,
)
from wire.sync.lanes import Lane, Lanes, Parcel
from wire.sync.outbox_view import OutboxView
from wire.sync.status import Disconnect, Reason, SyncStatus

TOMBSTONES_PER_FRAME = 64  # about 2 kB: an alarm behind them waits 1 s on a GPRS link
TOMBSTONE_BYTES = 32  # on the wire, about; only the stall timer asks
ALARMS_PER_FRAME = 16  # about 2 kB: the first is there after 1 s on a GPRS link
ALARM_BYTES = 128  # on the wire, about; only the stall timer asks
HELLO_BYTES = 256
ALL = 1 << 31  # no limit on the number of records
T = TypeVar("T")
MESSAGE_ID_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """What Hello says of this gateway's software. `machine`: first 16 bytes of the machine id's SHA-256."""

    machine: bytes
    agent_version: str
    config_version: str
    models: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """Seconds. batch_s: how long live atoms may wait to be merged (0: sent as committed; alarms never wait)."""

    batch_s: float = 0.0
    backoff_base_s: float = 0.5
    backoff_max_s: float = 60.0
    stall_s: float = 20.0  # silence with bytes outstanding, at least; more for many bytes on a slow link


class _State(Enum):
    OFF = "off"
    GREETING = "greeting"  # Hello left, Welcome has not come
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class _InFlight:
    parcel: Parcel
    sent: Sent


class GatewaySync:
    """One gateway's sync. Not thread-safe; `now` is monotonic seconds and never goes back."""

    def __init__(self, view: OutboxView, options: SyncOptions, identity: Identity, rng: random.Random) -> None:
        self._view = view
        self._options = options
        self._identity = identity
        self._state = _State.OFF
        self._flow = Flow(options.stall_s)
        self._backoff = Backoff(options.backoff_base_s, options.backoff_max_s, rng)
        self._hello: Hello | None = None
        self._lanes: Lanes | None = None
        self._in_flight: dict[int, _InFlight] = {}
        self._tombstones: set[tuple[int, int, int, int]] = set()  # keys on their way
        self._alarms: set[AlarmKey] = set()  # on their way
        self._next_seq: dict[int, int] = {}  # by epoch
        self._sets_sent: dict[int, int] = {}  # on this stream, and the id of the next message then
        self._live_since: float | None = None  # when the oldest live atom that waits was committed
        self._pumped_at = self._welcomed_at = 0.0
        self._hello_at = 0.0
        self._generation = 0
        self._next_id = 0  # never starts anew: an answer from an old stream must not meet a new message
        self._messages_sent = self._bytes_sent = self._replies = 0
        self._last_ack_at: float | None = None
        self._last_error = ""
        self.wants_disconnect: Disconnect | None = None
        self.reconnect_at: float | None = None

    def connected(self, now: float) -> list[GatewayFrame]:
        """A stream is open: Hello."""
        assert self._state is _State.OFF
        self._state = _State.GREETING
        self.wants_disconnect = self.reconnect_at = self._live_since = None
        self._sets_sent.clear()
        self._flow.open()
        self._flow.expect(HELLO_BYTES, now)
        self._hello_at = now
        self._hello = Hello(
            machine=self._identity.machine,
            agent_version=self._identity.agent_version,
            config_version=self._identity.config_version,
            generation_seen=self._view.generation_seen(),
            epochs=tuple(self._view.offers()),
            series_sets=tuple(self._view.series_sets_in_use()),
            models=self._identity.models,
        )
        self._next_seq = {offer.epoch: offer.next_seq for offer in self._hello.epochs}
        return [self._hello]

    def disconnected(self, now: float, error: str = "") -> None:
        """The stream is gone, or could not be opened. What was on its way is offered again by the next Hello."""
        if self._state is _State.OPEN and now - self._welcomed_at >= self._options.backoff_max_s:
            self._backoff.reset()  # an idle stream that lived long was a good one, although nothing was acknowledged
        wish = self.wants_disconnect
        if wish is not None and wish.reason in (Reason.NEW_EPOCH, Reason.GENERATION):
            self._backoff.reset()  # no failure: the next Hello has news
        self._last_error = wish.detail if wish is not None else error
        self._state = _State.OFF
        self._lanes = None
        self._in_flight.clear()
        self._tombstones.clear()
        self._alarms.clear()
        self._flow.open()
        self.reconnect_at = now + self._backoff.next_s()

    def committed(self, now: float, alarm: bool = False) -> list[GatewayFrame]:
        """New atoms are durable in the outbox. `alarm`: and older ones of this epoch were raised to class ALARM."""
        if self._lanes is None:
            return []
        self._lanes.committed(alarm=alarm)
        if self._live_since is None:
            self._live_since = now
        return self._pump(now)

    def flush(self, now: float) -> list[GatewayFrame]:
        """Send at once what waits to be merged: the agent is about to stop."""
        if self._live_since is not None:
            self._live_since = now - self._options.batch_s
        return self._pump(now)

    def tick(self, now: float) -> list[GatewayFrame]:
        """Time has passed; to be called at `wakeup`, harmless at any time."""
        stall_at = self._flow.stall_at if self._state is not _State.OFF else None
        if stall_at is not None and now >= stall_at:
            silence_s = now - self._flow.progress_at
            self._leave(Reason.STALL, f"{self._flow.unacked_bytes} bytes unanswered, silence for {silence_s:.0f} s")
            self._flow.stalled()
        return self._pump(now)

    @property
    def wakeup(self) -> float | None:
        """When `tick` wants to be called next; None: only when something else happens."""
        if self._state is _State.OFF or self.wants_disconnect is not None:
            return None
        times = [self._flow.stall_at]
        if self._live_due is not None and self._live_due > self._pumped_at:
            times.append(self._live_due)  # once it is past, what has not gone waits for acks
        return min((time for time in times if time is not None), default=None)

    @property
    def status(self) -> SyncStatus:
        """A snapshot."""
        return SyncStatus(
            connected=self._state is _State.OPEN,
            in_flight=len(self._in_flight),
            in_flight_bytes=sum(message.sent.size for message in self._in_flight.values()),
            messages_sent=self._messages_sent,
            bytes_sent=self._bytes_sent,
            replies=self._replies,
            last_ack_at=self._last_ack_at,
            last_error=self._last_error,
            reconnect_at=self.reconnect_at,
            rate_bytes_per_s=self._flow.rate,
            generation=self._generation,
        )

    def in_flight(self) -> list[tuple[int, RangeSet]]:
        """Seq ranges by epoch that the outbox must not evict now: they are on their way."""
        return [] if self._lanes is None else self._lanes.in_flight()

    def received(self, frame: CloudFrame, now: float) -> list[GatewayFrame]:
        """A frame of the cloud. Answers that are late, repeated or out of order change nothing."""
        if self._state is _State.OFF or self.wants_disconnect is not None:
            return []
        self._replies += 1
        if isinstance(frame, Welcome):
            return self._welcome(frame, now)
        if self._state is not _State.OPEN:
            return self._leave(Reason.PROTOCOL, f"{type(frame).__name__} before Welcome")
        match frame:
            case Ack():
                out = self._ack(frame, now)
            case Overlap():
                out = self._overlap(frame, now)
            case NeedSeries():
                out = self._need_series(frame, now)
            case Refused():
                out = self._refused(frame, now)
        return out + self._pump(now)

    def _leave(self, reason: Reason, detail: str) -> list[GatewayFrame]:
        if self.wants_disconnect is None:
            self.wants_disconnect = Disconnect(reason, detail)
        return []

    # Welcome

    def _welcome(self, welcome: Welcome, now: float) -> list[GatewayFrame]:
        hello = self._hello
        assert hello is not None
        if self._state is _State.OPEN:
            return self._leave(Reason.PROTOCOL, "a second Welcome")
        if len(welcome.coverage) != len(hello.epochs):
            return self._leave(Reason.PROTOCOL, f"Welcome covers {len(welcome.coverage)} epochs of {len(hello.epochs)}")
        current = hello.epochs[-1]
        if _end(welcome.coverage[-1]) > current.next_seq:
            return self._begin_epoch(welcome.coverage[-1], current.next_seq)
        for offer, coverage in zip(hello.epochs, welcome.coverage):
            if any(coverage.stored.overlaps(first, end) for first, end in offer.offered):
                self._view.acked(offer.epoch, coverage.stored)
        self._generation = welcome.generation
        gone = self._gone(hello, welcome)
        if gone or welcome.generation != hello.generation_seen:
            self._view.adopt_generation(welcome.generation, gone)
        self._flow.answered(HELLO_BYTES, now)
        self._flow.delay(now - self._hello_at)
        self._flow.grant(welcome.credit_bytes)
        self._state = _State.OPEN
        self._welcomed_at = now
        self._lanes = Lanes(self._view, [offer.epoch for offer in hello.epochs], current.next_seq)
        if self._view.next_seq() > current.next_seq:
            self._live_since = now
        return [*self._series_frames(welcome.need_series), *self._pump(now)]

    def _gone(self, hello: Hello, welcome: Welcome) -> list[tuple[int, RangeSet]]:
        """What is neither in the cloud nor here: acknowledged and deleted once, lost with the cloud's restore.

        Looked for whatever the generation says: an older catalog may have been put back without a word.
        """
        known = {offer.epoch: offer.offered.copy() for offer in hello.epochs}
        for tombstone in self._view.tombstones(ALL):
            if tombstone.epoch in known:
                known[tombstone.epoch].add(tombstone.first, tombstone.end)
        gone = []
        for offer, coverage in zip(hello.epochs, welcome.coverage):
            rest = RangeSet([(0, offer.next_seq)]) - known[offer.epoch] - coverage.stored - coverage.tombstoned
            if rest:
                gone.append((offer.epoch, rest))
        return gone

    def _begin_epoch(self, coverage: EpochCoverage, next_seq: int) -> list[GatewayFrame]:
        self._view.begin_epoch(coverage.stored | coverage.tombstoned)
        detail = f"the cloud has Seq up to {_end(coverage)}, this outbox gave {next_seq}: is it an older copy?"
        return self._leave(Reason.NEW_EPOCH, detail + " A new epoch begins.")

    # Answers

    def _ack(self, ack: Ack, now: float) -> list[GatewayFrame]:
        if ack.generation != self._generation:
            return self._leave(
                Reason.GENERATION, f"ack of generation {ack.generation:016x}, Welcome said {self._generation:016x}"
            )
        for epoch, ranges in ack.stored:
            self._view.acked(epoch, ranges)
        for number in ack.message_ids:
            self._settle(number, now)
        keys = [tombstone.key for tombstone in ack.tombstones]
        if keys:
            self._view.tombstones_acked(keys)
            arrived = self._tombstones.intersection(keys)
            self._tombstones -= arrived
            self._flow.answered(TOMBSTONE_BYTES * len(arrived), now)
        if ack.alarms:
            self._view.alarms_acked(ack.alarms)
            told = self._alarms.intersection(ack.alarms)
            self._alarms -= told
            self._flow.answered(ALARM_BYTES * len(told), now)
        self._flow.grant(ack.credit_bytes)
        self._backoff.reset()
        self._last_ack_at = now
        return []

    def _settle(self, number: int, now: float) -> Parcel | None:
        """Forget a message on its way; its atoms are not offered again on this stream unless given back."""
        message = self._in_flight.pop(number, None)
        if message is None:
            return None
        self._flow.settled(message.sent, now)
        self._open_lanes.settle(message.parcel.epoch, message.parcel.atoms)
        return message.parcel

    def _overlap(self, overlap: Overlap, now: float) -> list[GatewayFrame]:
        parcel = self._settle(overlap.message_id, now)
        if parcel is None:
            return []
        current = parcel.epoch == self._current_epoch
        if current and _end(overlap.coverage) > self._view.next_seq():
            return self._begin_epoch(overlap.coverage, self._view.next_seq())
        covered = Coverage(overlap.coverage.stored, overlap.coverage.tombstoned)
        fits = {atom: covered.classify([atom]) for atom in parcel.atoms}
        rest = [atom for atom in parcel.atoms if fits[atom] is not Fit.COVERED]
        if len(rest) == len(parcel.atoms) and Fit.OVERLAP not in fits.values():
            return self._leave(Reason.PROTOCOL, "Overlap with nothing in common")
        if len(rest) < len(parcel.atoms):
            self._view.acked(parcel.epoch, overlap.coverage.stored)
        cut = [atom for atom in rest if fits[atom] is Fit.OVERLAP]
        if cut and current:  # the cloud has these numbers with other borders: they were given twice
            return self._begin_epoch(overlap.coverage, self._view.next_seq())
        for first, end in cut:
            detail = f"Seq {first}..{end} is stored in part, with other borders: {overlap.coverage.stored}"
            self._view.set_aside(parcel.epoch, first, detail)
        whole = [atom for atom in rest if fits[atom] is Fit.DISJOINT]
        if whole:
            self._open_lanes.give_back(parcel.epoch, whole, alone=False)
        return []

    def _need_series(self, need: NeedSeries, now: float) -> list[GatewayFrame]:
        parcel = self._settle(need.message_id, now)
        if parcel is None:
            return []
        asked_again = [one for one in need.ids if self._sets_sent.get(one, MESSAGE_ID_MAX) <= need.message_id]
        if asked_again:
            return self._leave(Reason.PROTOCOL, f"asked for series set {asked_again[0]:016x}, which was sent before")
        frames = self._series_frames(need.ids)
        missing = sorted(set(need.ids).difference(self._sets_sent))
        if missing:
            self._reject(parcel, "definitions unknown here as well: " + ", ".join(f"{one:016x}" for one in missing))
        else:
            self._open_lanes.give_back(parcel.epoch, parcel.atoms, alone=False)
        return [*frames]

    def _refused(self, refused: Refused, now: float) -> list[GatewayFrame]:
        parcel = self._settle(refused.message_id, now)
        if parcel is not None:
            self._reject(parcel, f"refused by the cloud, {refused.code}: {refused.detail}")
        return []

    def _reject(self, parcel: Parcel, reason: str) -> None:
        """One bad atom must not take its neighbours with it: they are sent one by one, the bad one is set aside."""
        self._last_error = reason
        if len(parcel.atoms) > 1:
            self._open_lanes.give_back(parcel.epoch, parcel.atoms, alone=True)
        else:
            self._view.set_aside(parcel.epoch, parcel.atoms[0][0], reason)

    # Sending

    @property
    def _open_lanes(self) -> Lanes:
        assert self._lanes is not None
        return self._lanes

    @property
    def _current_epoch(self) -> int:
        assert self._hello is not None
        return self._hello.epochs[-1].epoch

    @property
    def _live_due(self) -> float | None:
        return None if self._live_since is None else self._live_since + self._options.batch_s

    def _series_frames(self, ids: Iterable[int]) -> list[SeriesSetsFrame]:
        """The definitions that were not sent on this stream, one set per frame: two of the largest may not fit."""
        wanted = [one for one in ids if one not in self._sets_sent]
        sets = self._view.series_sets(wanted) if wanted else []
        self._sets_sent.update((one.id, self._next_id) for one in sets)
        return [SeriesSetsFrame((one,)) for one in sets]

    def _pump(self, now: float) -> list[GatewayFrame]:
        """Everything that may leave now, most urgent first."""
        if self._lanes is None or self.wants_disconnect is not None:
            return []
        self._pumped_at = now
        out: list[GatewayFrame] = [*self._alarm_frames(now), *self._tombstone_frames(now)]
        self._next_seq[self._current_epoch] = self._view.next_seq()
        held = self._live_due is not None and now < self._live_due
        for lane in self._lanes:
            if held and lane.live and lane.bulk:
                continue
            while (message := self._message(lane, now)) is not None:
                out.append(message)
            if not lane.empty:
                return out  # it waits for acks, and so does all that is less urgent
        for message_in_flight in self._in_flight.values():
            message_in_flight.sent.limited = False  # nothing is left to send: its ack will not show the link's rate
        if not held:
            self._live_since = None
        return out

    def _message(self, lane: Lane, now: float) -> MessageFrame | None:
        """The next message of a lane; None when the lane is empty or has to wait for acks."""
        size = self._flow.message_bytes
        if lane.empty or not self._flow.admits(size if lane.bulk else 1, bulk=lane.bulk):
            return None
        parcel = self._open_lanes.take(lane, size)
        if parcel is None or not self._flow.admits(len(parcel.segment), bulk=lane.bulk):
            return None
        self._open_lanes.leave(lane, parcel)
        number = self._next_id
        self._next_id = 0 if number == MESSAGE_ID_MAX else number + 1
        self._in_flight[number] = _InFlight(parcel, self._flow.sent(len(parcel.segment), now, bulk=lane.bulk))
        self._messages_sent += 1
        self._bytes_sent += len(parcel.segment)
        return MessageFrame(number, parcel.epoch, self._next_seq[parcel.epoch], parcel.segment)

    def _alarm_frames(self, now: float) -> list[AlarmsFrame]:
        """One frame of alarms at a time; those of an epoch that Hello did not name wait for the next stream."""
        if self._alarms:
            return []
        found = _first(self._view.alarms, ALARMS_PER_FRAME, lambda entry: entry[0] in self._next_seq)
        if not found:
            return []
        self._alarms = {alarm.key for _, alarm in found}
        self._flow.expect(ALARM_BYTES * len(self._alarms), now)
        return [AlarmsFrame(tuple(found))]

    def _tombstone_frames(self, now: float) -> list[GatewayFrame]:
        """One frame of tombstones at a time; those of an epoch that Hello did not name wait for the next stream."""
        if self._tombstones:
            return []
        found = _first(self._view.tombstones, TOMBSTONES_PER_FRAME, lambda stone: stone.epoch in self._next_seq)
        if not found:
            return []
        self._tombstones = {tombstone.key for tombstone in found}
        self._flow.expect(TOMBSTONE_BYTES * len(self._tombstones), now)
        return [TombstonesFrame(tuple(found))]


def _first(read: Callable[[int], list[T]], count: int, wanted: Callable[[T], bool]) -> list[T]:
    """The first `count` records that are wanted; `read` gives the oldest so many. Others must not block them."""
    limit = count
    while True:
        records = read(limit)
        found = [record for record in records if wanted(record)]
        if len(found) >= count or len(records) < limit:
            return found[:count]
        limit *= 4


def _end(coverage: EpochCoverage) -> int:
    return max(coverage.stored.end, coverage.tombstoned.end)
