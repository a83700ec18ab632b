"""What leaves on one open stream: alarms, tombstones and messages, as lanes, flow and governor allow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wire.alarm import AlarmKey
from wire.ranges import Range
from wire.sync.flow import MERGE_BYTES_MAX, Flow, Sent
from wire.sync.frames import (
    AlarmsFrame,
    GatewayFrame,
    Hello,
    MessageFrame,
    ReportsFrame,
    SeriesSetsFrame,
    TombstonesFrame,
)
from wire.sync.lanes import Lane, Lanes, Parcel
from wire.sync.leave import Governor, Leave
from wire.sync.outbox_view import OutboxView
from wire.sync.updates import Updates

TOMBSTONES_PER_FRAME = 64  # about 2 kB: an alarm behind them waits 1 s on a GPRS link
TOMBSTONE_BYTES = 32  # on the wire, about; only the stall timer asks
ALARMS_PER_FRAME = 16  # about 2 kB: the first is there after 1 s on a GPRS link
ALARMS_IN_FLIGHT_MAX = 4 * ALARMS_PER_FRAME
ALARM_BYTES = 128  # on the wire, about; only the stall timer asks
REPORTS_PER_FRAME = 8  # about 2 kB
REPORT_BYTES = 256  # on the wire, about; only the stall timer asks
MESSAGE_ID_MAX = (1 << 32) - 1
T = TypeVar("T")


@dataclass(slots=True)
class Sendings:
    """Counted over streams, for the life of the process."""

    next_id: int = 0  # never starts anew: an answer from an old stream must not meet a new message
    messages: int = 0
    bytes: int = 0

    def number(self) -> int:
        """The next message's id."""
        number = self.next_id
        self.next_id = 0 if number == MESSAGE_ID_MAX else number + 1
        return number


@dataclass(frozen=True, slots=True)
class _InFlight:
    parcel: Parcel
    sent: Sent


class Sender:
    """Made when Welcome has come, gone with the stream."""

    def __init__(
        self,
        view: OutboxView,
        flow: Flow,
        governor: Governor,
        hello: Hello,
        sendings: Sendings,
        batch_s: float,
        updates: Updates,
    ) -> None:
        self.current_epoch = hello.epochs[-1].epoch
        self.live_since: float | None = None  # when the oldest live atom that waits was committed
        self.leave = Leave()  # as of the last pump
        self._view = view
        self._flow = flow
        self._governor = governor
        self._sendings = sendings
        self._batch_s = batch_s
        self._updates = updates
        self._lanes = Lanes(view, [offer.epoch for offer in hello.epochs], hello.epochs[-1].next_seq)
        self._next_seq = {offer.epoch: offer.next_seq for offer in hello.epochs}
        self._in_flight: dict[int, _InFlight] = {}
        self._tombstones: set[tuple[int, int, int, int]] = set()  # keys on their way
        self._alarms: set[AlarmKey] = set()  # on their way
        self._reports: set[int] = set()  # on their way
        self._sets_sent: dict[int, int] = {}  # and the id of the next message then
        self._pumped_at = 0.0
        self._paced = False  # the rate cap holds bulk back
        self._more = False  # there is more, and it may leave at once

    @property
    def wakeup(self) -> float | None:
        """When `pump` will find something new to send, if nothing happens before."""
        if self._more:
            return self._pumped_at
        times = [self.leave.until, self.live_due, self._flow.ready_at if self._paced else None]
        # Once a time is past, what has not gone waits for acks.
        return min((time for time in times if time is not None and time > self._pumped_at), default=None)

    @property
    def live_due(self) -> float | None:
        """When live atoms have waited long enough to be merged."""
        return None if self.live_since is None else self.live_since + self._batch_s

    @property
    def messages_in_flight(self) -> tuple[int, int]:
        """Number and bytes of messages that are unanswered."""
        return len(self._in_flight), sum(message.sent.size for message in self._in_flight.values())

    @property
    def lanes(self) -> Lanes:
        """What goes next."""
        return self._lanes

    def committed(self, now: float, *, alarm: bool) -> None:
        """New atoms are durable."""
        self._lanes.committed(alarm=alarm)
        if self.live_since is None:
            self.live_since = now

    def flush(self, now: float) -> None:
        """Live atoms have waited long enough."""
        if self.live_since is not None:
            self.live_since = now - self._batch_s

    def pump(self, now: float) -> list[GatewayFrame]:
        """What may leave now, most urgent first; after MERGE_BYTES_MAX the caller does other things before the rest."""
        self._pumped_at = now
        self._paced = self._more = False
        size = 0
        self.leave = leave = self._governor.leave(now)
        out: list[GatewayFrame] = [*self._alarm_frames(now)] if leave.alarms else []
        out += self._tombstone_frames(now) + self._report_frames(now) if leave.bulk else []
        self._next_seq[self.current_epoch] = self._view.next_seq()
        merging = self.live_due is not None and now < self.live_due
        for lane in self._lanes:
            if not (leave.bulk if lane.bulk else leave.alarms) or (merging and lane.live and lane.bulk):
                continue
            while (message := self._message(lane, now)) is not None:
                out.append(message)
                size += len(message.segment)
                if size >= MERGE_BYTES_MAX:
                    self._more = True
                    return out
            if not lane.empty:
                return out  # it waits for acks or for the rate cap, and so does all that is less urgent
        for message_in_flight in self._in_flight.values():
            message_in_flight.sent.limited = False  # nothing is left to send: its ack will not show the link's rate
        if not merging and leave.bulk:
            self.live_since = None
        return out

    def series_frames(self, ids: Iterable[int]) -> list[SeriesSetsFrame]:
        """The definitions that were not sent on this stream, one set per frame: two of the largest may not fit."""
        wanted = [one for one in ids if one not in self._sets_sent]
        sets = self._view.series_sets(wanted) if wanted else []
        self._sets_sent.update((one.id, self._sendings.next_id) for one in sets)
        return [SeriesSetsFrame((one,)) for one in sets]

    def was_sent(self, set_id: int, message_id: int | None = None) -> bool:
        """Was this definition sent on this stream, and before that message?"""
        at = self._sets_sent.get(set_id)
        return at is not None and (message_id is None or at <= message_id)

    def settle(self, number: int, now: float, held_s: float = 0.0) -> Parcel | None:
        """Forget a message on its way; its atoms are not offered again on this stream unless given back.

        `held_s`: how long the cloud had it.
        """
        message = self._in_flight.pop(number, None)
        if message is None:
            return None
        self._flow.settled(message.sent, now, held_s)
        self._lanes.settle(message.parcel.epoch, message.parcel.atoms)
        return message.parcel

    def give_back(self, epoch: int, atoms: Sequence[Range], *, alone: bool) -> None:
        """They were not stored and may be sent again, `alone` each by itself."""
        self._lanes.give_back(epoch, atoms, alone=alone)

    def tombstones_arrived(self, keys: Iterable[tuple[int, int, int, int]], now: float) -> None:
        """The cloud has recorded them."""
        arrived = self._tombstones.intersection(keys)
        self._tombstones -= arrived
        self._flow.answered(TOMBSTONE_BYTES * len(arrived), now)

    def alarms_arrived(self, keys: Iterable[AlarmKey], now: float) -> None:
        """The cloud has recorded them."""
        arrived = self._alarms.intersection(keys)
        self._alarms -= arrived
        self._flow.answered(ALARM_BYTES * len(arrived), now)

    def reports_arrived(self, ids: Iterable[int], now: float) -> None:
        """The cloud has recorded them."""
        arrived = self._reports.intersection(ids)
        self._reports -= arrived
        self._updates.reports_acked(arrived)
        self._flow.answered(REPORT_BYTES * len(arrived), now)

    def _message(self, lane: Lane, now: float) -> MessageFrame | None:
        """The next message of a lane; None when the lane is empty or has to wait."""
        size = self._flow.message_bytes
        if lane.empty or not self._flow.admits(size if lane.bulk else 1, bulk=lane.bulk):
            return None
        if lane.bulk and now < self._flow.ready_at:
            self._paced = True
            return None
        parcel = self._lanes.take(lane, size)
        if parcel is None or not self._flow.admits(len(parcel.segment), bulk=lane.bulk):
            return None
        self._lanes.leave(lane, parcel)
        number = self._sendings.number()
        self._in_flight[number] = _InFlight(parcel, self._flow.sent(len(parcel.segment), now, bulk=lane.bulk))
        self._sendings.messages += 1
        self._sendings.bytes += len(parcel.segment)
        return MessageFrame(number, parcel.epoch, self._next_seq[parcel.epoch], parcel.segment)

    def _alarm_frames(self, now: float) -> list[AlarmsFrame]:
        """A frame of those that are not on their way; those of an epoch that Hello did not name wait for the next
        stream. A new alarm does not wait for the answer to an older one, up to ALARMS_IN_FLIGHT_MAX."""
        if len(self._alarms) >= ALARMS_IN_FLIGHT_MAX:
            return []
        found = _first(
            self._view.alarms,
            ALARMS_PER_FRAME,
            lambda entry: entry[0] in self._next_seq and entry[1].key not in self._alarms,
        )
        if not found:
            return []
        self._alarms.update(alarm.key for _, alarm in found)
        self._flow.expect(ALARM_BYTES * len(found), now)
        return [AlarmsFrame(tuple(found))]

    def _report_frames(self, now: float) -> list[GatewayFrame]:
        """One frame of reports at a time."""
        if self._reports:
            return []
        found = self._updates.reports()[:REPORTS_PER_FRAME]
        if not found:
            return []
        self._reports = {report.id for report in found}
        self._flow.expect(REPORT_BYTES * len(self._reports), now)
        return [ReportsFrame(tuple(found))]

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
