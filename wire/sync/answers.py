"""What each answer of the cloud means for what was sent on a stream, and for the outbox.

A `Disconnect` that is returned is a wish to close the stream: its data is kept.
"""

from __future__ import annotations

from itertools import zip_longest

from wire.clock import MS_PER_S
from wire.coverage import Coverage, Fit
from wire.sync.flow import Flow
from wire.sync.frames import (
    Ack,
    AssignmentFrame,
    CloudFrame,
    EpochCoverage,
    GatewayFrame,
    NeedSeries,
    Overlap,
    Refused,
    Welcome,
)
from wire.sync.lanes import Parcel
from wire.sync.outbox_view import OutboxView
from wire.sync.sender import Sender
from wire.sync.status import Disconnect, Reason


class Answers:
    """Of one open stream. Answers that are late or repeated change nothing."""

    def __init__(self, view: OutboxView, flow: Flow, sender: Sender, generation: int) -> None:
        self.last_refusal = ""
        self._view = view
        self._flow = flow
        self._sender = sender
        self._generation = generation

    def take(self, frame: CloudFrame, now: float) -> list[GatewayFrame] | Disconnect:
        """Carry out an answer; frames that must leave before anything else."""
        match frame:
            case Welcome():
                return Disconnect(Reason.PROTOCOL, "a second Welcome")
            case Ack():
                return self._ack(frame, now)
            case Overlap():
                return self._overlap(frame, now) or []
            case NeedSeries():
                return self._need_series(frame, now)
            case Refused():
                return self._refused(frame, now)
            case AssignmentFrame():
                raise AssertionError("assignments are not answers")

    def _ack(self, ack: Ack, now: float) -> list[GatewayFrame] | Disconnect:
        if ack.generation != self._generation:
            return Disconnect(
                Reason.GENERATION, f"ack of generation {ack.generation:016x}, Welcome said {self._generation:016x}"
            )
        for epoch, ranges in ack.stored:
            self._view.acked(epoch, ranges)
        for number, held_ms in zip_longest(ack.message_ids, ack.held_ms[: len(ack.message_ids)], fillvalue=0):
            self._sender.settle(number, now, held_ms / MS_PER_S)
        keys = [tombstone.key for tombstone in ack.tombstones]
        if keys:
            self._view.tombstones_acked(keys)
            self._sender.tombstones_arrived(keys, now)
        if ack.alarms:
            self._view.alarms_acked(ack.alarms)
            self._sender.alarms_arrived(ack.alarms, now)
        if ack.reports:
            self._sender.reports_arrived(ack.reports, now)
        self._flow.grant(ack.credit_bytes)
        return []

    def _overlap(self, overlap: Overlap, now: float) -> Disconnect | None:
        parcel = self._sender.settle(overlap.message_id, now)
        if parcel is None:
            return None
        current = parcel.epoch == self._sender.current_epoch
        if current and end_of(overlap.coverage) > self._view.next_seq():
            return begin_epoch(self._view, overlap.coverage, self._view.next_seq())
        covered = Coverage(overlap.coverage.stored, overlap.coverage.tombstoned)
        fits = {atom: covered.classify([atom]) for atom in parcel.atoms}
        rest = [atom for atom in parcel.atoms if fits[atom] is not Fit.COVERED]
        if len(rest) == len(parcel.atoms) and Fit.OVERLAP not in fits.values():
            return Disconnect(Reason.PROTOCOL, "Overlap with nothing in common")
        if len(rest) < len(parcel.atoms):
            self._view.acked(parcel.epoch, overlap.coverage.stored)
        cut = [atom for atom in rest if fits[atom] is Fit.OVERLAP]
        if cut and current:  # the cloud has these numbers with other borders: they were given twice
            return begin_epoch(self._view, overlap.coverage, self._view.next_seq())
        for first, end in cut:
            detail = f"Seq {first}..{end} is stored in part, with other borders: {overlap.coverage.stored}"
            self._view.set_aside(parcel.epoch, first, detail)
        whole = [atom for atom in rest if fits[atom] is Fit.DISJOINT]
        if whole:
            self._sender.give_back(parcel.epoch, whole, alone=False)
        return None

    def _need_series(self, need: NeedSeries, now: float) -> list[GatewayFrame] | Disconnect:
        parcel = self._sender.settle(need.message_id, now)
        if parcel is None:
            return []
        asked_again = [one for one in need.ids if self._sender.was_sent(one, need.message_id)]
        if asked_again:
            return Disconnect(Reason.PROTOCOL, f"asked for series set {asked_again[0]:016x}, which was sent before")
        frames = self._sender.series_frames(need.ids)
        missing = sorted(one for one in set(need.ids) if not self._sender.was_sent(one))
        if missing:
            self._reject(parcel, "definitions unknown here as well: " + ", ".join(f"{one:016x}" for one in missing))
        else:
            self._sender.give_back(parcel.epoch, parcel.atoms, alone=False)
        return [*frames]

    def _refused(self, refused: Refused, now: float) -> list[GatewayFrame]:
        parcel = self._sender.settle(refused.message_id, now)
        if parcel is not None:
            self._reject(parcel, f"refused by the cloud, {refused.code}: {refused.detail}")
        return []

    def _reject(self, parcel: Parcel, reason: str) -> None:
        """One bad atom must not take its neighbours with it: they are sent one by one, the bad one is set aside."""
        self.last_refusal = reason
        if len(parcel.atoms) > 1:
            self._sender.give_back(parcel.epoch, parcel.atoms, alone=True)
        else:
            self._view.set_aside(parcel.epoch, parcel.atoms[0][0], reason)


def begin_epoch(view: OutboxView, coverage: EpochCoverage, next_seq: int) -> Disconnect:
    """Numbers of the current epoch were used twice: a new one, and a new stream for it."""
    view.begin_epoch(coverage.stored | coverage.tombstoned)
    detail = f"the cloud has Seq up to {end_of(coverage)}, this outbox gave {next_seq}: is it an older copy?"
    return Disconnect(Reason.NEW_EPOCH, detail + " A new epoch begins.")


def end_of(coverage: EpochCoverage) -> int:
    """One past the last Seq that the cloud knows of."""
    return max(coverage.stored.end, coverage.tombstoned.end)
