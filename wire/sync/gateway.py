"""The gateway's half of the protocol, sans-IO: what happened goes in, frames to send come out, time is an argument.

`docs/formats/sync.md` has the rules as tables. The machine deletes nothing by itself: `OutboxView.acked` is called for
ranges that the cloud says are durable, and for nothing else. `sender` holds what leaves, `answers` what comes back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum

from wire.ranges import SEQ_MAX, RangeSet
from wire.reading import Priority
from wire.sync.answers import Answers, begin_epoch, end_of
from wire.sync.flow import Backoff, Flow
from wire.sync.frames import Ack, AssignmentFrame, CloudFrame, GatewayFrame, Hello, Welcome
from wire.sync.leave import Governor, Unrestrained
from wire.sync.outbox_view import OutboxView
from wire.sync.sender import Sender, Sendings
from wire.sync.status import Disconnect, Reason, SyncStatus
from wire.sync.updates import NoUpdates, Updates

HELLO_BYTES = 256
ALL = 1 << 31  # no limit on the number of records


@dataclass(frozen=True, slots=True)
class Identity:
    """What Hello says of this gateway. `machine`: first 16 bytes of the machine id's SHA-256; `ca_bundle`: a digest."""

    machine: bytes
    agent_version: str
    config_version: str
    ca_bundle: int = 0


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """Seconds. batch_s: how long live atoms may wait to be merged (0: sent as committed; alarms never wait)."""

    batch_s: float = 0.0
    backoff_base_s: float = 0.5
    backoff_max_s: float = 60.0
    stall_s: float = 20.0  # silence with bytes outstanding, at least; more for many bytes on a slow link
    rate_max: float = 0.0  # bytes per second that bulk keeps to; 0: no cap


class _State(Enum):
    OFF = "off"
    GREETING = "greeting"  # Hello left, Welcome has not come
    OPEN = "open"


class GatewaySync:
    """One gateway's sync. Not thread-safe; `now` is monotonic seconds and never goes back."""

    def __init__(
        self,
        view: OutboxView,
        options: SyncOptions,
        identity: Identity,
        rng: random.Random,
        governor: Governor | None = None,
        updates: Updates | None = None,
    ) -> None:
        """`governor`: what may leave when; without one, everything always. `updates`: who installs what is assigned."""
        self._view = view
        self._options = options
        self.identity = identity  # what Hello says from the next stream on
        self._governor = governor or Unrestrained()
        self._updates = updates or NoUpdates()
        self._state = _State.OFF
        self._flow = Flow(options.stall_s, options.rate_max)
        self._backoff = Backoff(options.backoff_base_s, options.backoff_max_s, rng)
        self._hello: Hello | None = None
        self._sender: Sender | None = None
        self._answers: Answers | None = None
        self._sendings = Sendings()
        self._hello_at = self._welcomed_at = 0.0
        self._generation = 0
        self._replies = 0
        self._last_ack_at: float | None = None
        self._last_error = ""
        self.wants_disconnect: Disconnect | None = None
        self.reconnect_at: float | None = None

    def wants_stream(self, now: float) -> bool:
        """Is there a reason to connect: something may leave, or the time must be asked for?"""
        leave = self._governor.leave(now)
        return leave.bulk or leave.ask_time or (leave.alarms and self._has_alarms())

    def connected(self, now: float) -> list[GatewayFrame]:
        """A stream is open: Hello."""
        assert self._state is _State.OFF
        self._state = _State.GREETING
        self.wants_disconnect = self.reconnect_at = None
        self._flow.open()
        self._flow.expect(HELLO_BYTES, now)
        self._hello_at = now
        self._hello = Hello(
            machine=self.identity.machine,
            agent_version=self.identity.agent_version,
            config_version=self.identity.config_version,
            generation_seen=self._view.generation_seen(),
            epochs=tuple(self._view.offers()),
            series_sets=tuple(self._view.series_sets_in_use()),
            models=self._updates.running(),
            nonce=self._updates.nonce(),
            ca_bundle=self.identity.ca_bundle,
        )
        return [self._hello]

    def disconnected(self, now: float, error: str = "") -> None:
        """The stream is gone, or could not be opened. What was on its way is offered again by the next Hello."""
        if self._state is _State.OPEN and now - self._welcomed_at >= self._options.backoff_max_s:
            self._backoff.reset()  # an idle stream that lived long was a good one, although nothing was acknowledged
        wish = self.wants_disconnect
        held = wish is not None and wish.reason is Reason.HELD
        if wish is not None and wish.reason in (Reason.NEW_EPOCH, Reason.GENERATION, Reason.HELD):
            self._backoff.reset()  # no failure: the next Hello has news
        self._last_error = "" if held else wish.detail if wish is not None else error
        self._state = _State.OFF
        self._sender = self._answers = None
        self._flow.open()
        self.reconnect_at = now + (0.0 if held else self._backoff.next_s())

    def hurry(self, now: float) -> None:
        """Somebody wants it now: the next try does not wait for the back-off."""
        self._backoff.reset()
        if self.reconnect_at is not None:
            self.reconnect_at = now

    def committed(self, now: float, alarm: bool = False) -> list[GatewayFrame]:
        """New atoms are durable in the outbox. `alarm`: and older ones of this epoch were raised to class ALARM."""
        if self._sender is None:
            return []
        self._sender.committed(now, alarm=alarm)
        return self._pump(now)

    def reported(self, now: float) -> list[GatewayFrame]:
        """There are new reports of updates."""
        return self._pump(now)

    def flush(self, now: float) -> list[GatewayFrame]:
        """Send at once what waits to be merged: the agent is about to stop."""
        if self._sender is not None:
            self._sender.flush(now)
        return self._pump(now)

    def tick(self, now: float) -> list[GatewayFrame]:
        """Time has passed; to be called at `wakeup`, harmless at any time."""
        stall_at = self._flow.stall_at if self._state is not _State.OFF else None
        if stall_at is not None and now >= stall_at:
            silence_s = now - self._flow.progress_at
            detail = f"{self._flow.unacked_bytes} bytes unanswered, silence for {silence_s:.0f} s"
            self._leave(Disconnect(Reason.STALL, detail))
            self._flow.stalled()
        return self._pump(now)

    @property
    def wakeup(self) -> float | None:
        """When `tick` wants to be called next; None: only when something else happens."""
        if self._state is _State.OFF or self.wants_disconnect is not None:
            return None
        times = [self._flow.stall_at, None if self._sender is None else self._sender.wakeup]
        return min((time for time in times if time is not None), default=None)

    @property
    def status(self) -> SyncStatus:
        """A snapshot."""
        sender = self._sender
        in_flight, in_flight_bytes = (0, 0) if sender is None else sender.messages_in_flight
        return SyncStatus(
            connected=self._state is _State.OPEN,
            in_flight=in_flight,
            in_flight_bytes=in_flight_bytes,
            messages_sent=self._sendings.messages,
            bytes_sent=self._sendings.bytes,
            replies=self._replies,
            last_ack_at=self._last_ack_at,
            last_error=self._last_error,
            reconnect_at=self.reconnect_at,
            rate_bytes_per_s=self._flow.rate,
            generation=self._generation,
            credit_bytes=self._flow.credit_bytes,
            silent_since=self._flow.progress_at if self._flow.unacked_bytes else None,
            merging_until=None if sender is None else sender.live_due,
        )

    def in_flight(self) -> list[tuple[int, RangeSet]]:
        """Seq ranges by epoch that the outbox must not evict now: they are on their way."""
        return [] if self._sender is None else self._sender.lanes.in_flight()

    def received(self, frame: CloudFrame, now: float) -> list[GatewayFrame]:
        """A frame of the cloud. Answers that are late, repeated or out of order change nothing."""
        if self._state is _State.OFF or self.wants_disconnect is not None:
            return []
        self._replies += 1
        if self._answers is None:
            if isinstance(frame, Welcome):
                return self._welcome(frame, now)
            return self._leave(Disconnect(Reason.PROTOCOL, f"{type(frame).__name__} before Welcome"))
        if isinstance(frame, AssignmentFrame):
            return self._assigned(frame)
        out = self._answers.take(frame, now)
        if isinstance(out, Disconnect):
            return self._leave(out)
        if isinstance(frame, Ack):
            self._backoff.reset()
            self._last_ack_at = now
        self._last_error = self._answers.last_refusal or self._last_error
        return out + self._pump(now)

    def _assigned(self, frame: AssignmentFrame) -> list[GatewayFrame]:
        assert self._hello is not None
        if not self._hello.nonce:
            return self._leave(Disconnect(Reason.PROTOCOL, "an assignment that nobody asked for"))
        self._updates.assigned(frame.document, self._hello.nonce)
        return []

    def _leave(self, wish: Disconnect) -> list[GatewayFrame]:
        if self.wants_disconnect is None:
            self.wants_disconnect = wish
        return []

    def _welcome(self, welcome: Welcome, now: float) -> list[GatewayFrame]:
        hello = self._hello
        assert hello is not None
        if len(welcome.coverage) != len(hello.epochs):
            detail = f"Welcome covers {len(welcome.coverage)} epochs of {len(hello.epochs)}"
            return self._leave(Disconnect(Reason.PROTOCOL, detail))
        current = hello.epochs[-1]
        if end_of(welcome.coverage[-1]) > current.next_seq:
            return self._leave(begin_epoch(self._view, welcome.coverage[-1], current.next_seq))
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
        self._governor.told_time(welcome.server_time_us, now)
        self._state = _State.OPEN
        self._welcomed_at = now
        updates = self._updates if welcome.takes_reports else NoUpdates()
        self._sender = Sender(
            self._view, self._flow, self._governor, hello, self._sendings, self._options.batch_s, updates
        )
        self._answers = Answers(self._view, self._flow, self._sender, welcome.generation)
        if self._view.next_seq() > current.next_seq:
            self._sender.live_since = now
        return [*self._sender.series_frames(welcome.need_series), *self._pump(now)]

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

    def _has_alarms(self) -> bool:
        """Does anything wait that keeps to no window: a change of an alarm, an atom of the alarm class?"""
        if self._view.alarms(1):
            return True
        return any(
            self._view.pending(offer.epoch, 0, SEQ_MAX, Priority.ALARM, RangeSet(), 1)
            for offer in self._view.offers()
            if offer.offered
        )

    def _pump(self, now: float) -> list[GatewayFrame]:
        sender = self._sender
        if sender is None or self.wants_disconnect is not None:
            return []
        out = sender.pump(now)
        if not sender.leave.bulk and not sender.leave.ask_time and not self._flow.unacked_bytes:
            self._leave(Disconnect(Reason.HELD, sender.leave.why))  # an idle stream would cost what is being saved
        return out
