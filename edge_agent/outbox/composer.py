"""What a commit has to write: journal records as atoms, losses as tombstones, the detector's findings, the requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_agent.outbox.batch import Batch
from edge_agent.outbox.encoder import Encoder
from edge_agent.outbox.inspection import Inspection
from edge_agent.outbox.intake import Intake, Look
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.requests import Requests
from edge_agent.outbox.rows import EpochRow
from edge_agent.outbox.schedule import EARLY_FILL
from wire.alarm import Alarm
from wire.clock import NS_PER_S, NS_PER_US
from wire.reading import LossReason, Tombstone
from wire.series import SeriesSet

RATE_WEIGHT = 0.2  # of the newest interval in the rate of readings


class Composer:
    """Under the writer's lock."""

    def __init__(self, intake: Intake, inspection: Inspection, requests: Requests, options: OutboxOptions) -> None:
        self._intake = intake
        self._inspection = inspection
        self._requests = requests
        self._options = options

    def batch(self, look: Look, row: EpochRow, sets: Mapping[int, SeriesSet]) -> Batch | None:
        """Everything up to `look`, to follow `row`; None when there is nothing to write."""
        mark, lost = look.mark, look.lost
        journal, desk = self._intake.journal, self._inspection.desk
        asked = self._requests.look()
        self._inspection.step(mark)
        alarms = () if desk is None else tuple(desk.alarms)
        if mark.lsn == row.journal_lsn and not asked and not lost[0] and not alarms:
            return None
        raised = look.raised or (desk is not None and desk.raised)
        encoder = Encoder(sets, self._intake.priorities, row.next_seq, raised=raised)
        for entry in journal.read(mark):
            encoder.add(entry, None if desk is None else desk.codes(entry.lsn))
        encoder.finish()
        state, state_deleted = ({}, ()) if desk is None else desk.changes(self._intake.anchor())
        return Batch(
            row=row,
            asked=asked,
            next_seq=encoder.next_seq,
            journal_lsn=mark.lsn,
            rate=self._rate(look.at_ns, row, encoder.cells),
            anchor=encoder.anchor,
            atoms=tuple(encoder.atoms),
            tombstones=_stones(look, row, encoder),
            alarms=alarms,
            state=state,
            state_deleted=state_deleted,
            pinned_us=_moments(look, alarms),
            lent=self._requests.lent(),
            now_us=look.at_ns // NS_PER_US,
            pressed=journal.fill > EARLY_FILL,
        )

    def _rate(self, now_ns: int, row: EpochRow, cells: int) -> float:
        """Cells per second, smoothed: what a power cut's estimate is made of."""
        seconds = (now_ns - self._intake.schedule.committed_ns) / NS_PER_S
        if seconds < self._options.alarm_interval_s / 2:
            return row.rate
        newest = cells / seconds
        return newest if row.rate == 0 else row.rate * (1 - RATE_WEIGHT) + newest * RATE_WEIGHT


def _moments(look: Look, alarms: Iterable[Alarm]) -> list[int]:
    """When something happened that the readings around it are kept for."""
    asked = [look.at_ns // NS_PER_US] if look.raised else []
    return asked + [at for alarm in alarms for at in {alarm.onset_us, alarm.stamp_us}]


def _stones(look: Look, row: EpochRow, encoder: Encoder) -> tuple[Tombstone, ...]:
    """What was taken and will be in no atom: records that were damaged in RAM, and those that found no room in it."""
    stones = []
    at = encoder.next_seq
    missing = look.mark.lsn - row.journal_lsn - encoder.ticks
    if missing > 0:
        count = missing * max(1, encoder.cells // max(1, encoder.ticks))
        stones.append(Tombstone(row.epoch, at, at, LossReason.CORRUPT, count))
    if look.lost[0]:
        stones.append(Tombstone(row.epoch, at, at, LossReason.JOURNAL_FULL, *look.lost))
    return tuple(stones)
