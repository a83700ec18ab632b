"""What the recorder knows of itself: the outbox as the last commit left it, and counts since the process started."""

from __future__ import annotations

import logging

from edge_agent.outbox import alarm_rows
from edge_agent.outbox.batch import Batch, Written
from edge_agent.outbox.intake import Intake
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.pages import growth_of
from edge_agent.outbox.stats import CommitReport, OutboxStats
from wire.clock import NS_PER_S, US_PER_S

log = logging.getLogger(__name__)


class Tally:
    """Changed under the writer's lock; read by any thread."""

    def __init__(self, outbox: Outbox, options: OutboxOptions) -> None:
        self.full = False  # the last commit found no room
        self._outbox = outbox
        self._options = options
        self._alarms_full = False
        self._commits = self._commits_failed = self._committed_cells = self._committed_bytes = self._grown_bytes = 0
        self.refresh()

    def refresh(self) -> None:
        """Look at the outbox again."""
        self.row = self._outbox.current()
        self._totals = self._outbox.totals()
        self._losses = self._outbox.losses()
        self._alarms_lost = self._outbox.alarms_lost()
        self._oldest = self._outbox.oldest()
        self._used = self._outbox.database.used()
        self._limit = self._outbox.database.limit()

    def failed(self) -> None:
        """A commit could not be written, or not all of it."""
        self._commits_failed += 1

    def committed(self, batch: Batch, written: Written) -> CommitReport:
        """A transaction is on the disk."""
        first = self.row.next_seq
        stored = written.refusal is None
        size = sum(len(atom.data) for atom in batch.atoms) if stored else 0
        if stored:
            self._grown_bytes += sum(growth_of(len(atom.data)) for atom in batch.atoms)
        self._tell(written)
        self.refresh()
        self._commits += 1
        self._committed_cells += self.row.next_seq - first
        self._committed_bytes += size
        return CommitReport(
            epoch=self.row.epoch,
            first=first,
            end=self.row.next_seq,
            atoms=len(batch.atoms) if stored else 0,
            bytes=size,
            settled=written.settled,
            evicted=written.freed.evicted,
            journal_lsn=self.row.journal_lsn,
        )

    def stats(self, intake: Intake, now_ns: int) -> OutboxStats:
        """For `status`."""
        row, totals, oldest, interval_s = self.row, self._totals, self._oldest, self._options.commit_interval_s
        age = None
        if oldest is not None:
            age = now_ns / NS_PER_S - (oldest[1] / US_PER_S if oldest[0] == row.number else 0.0)
        return OutboxStats(
            epoch=row.epoch,
            next_seq=row.next_seq,
            epochs=row.number,
            atoms=totals.atoms,
            cells=totals.cells,
            bytes=totals.bytes,
            history_atoms=totals.kept_atoms,
            history_bytes=totals.kept_bytes,
            rollup_bytes=totals.rollup_bytes,
            oldest_age_s=age,
            disk_bytes=self._outbox.database.size,
            used_bytes=self._used,
            disk_bytes_max=self._limit,
            disk_full=self.full,
            journal_ticks=intake.journal.ticks,
            journal_fill=intake.journal.fill,
            commit_interval_s=interval_s,
            power_cut_window_s=max(interval_s, intake.waiting_s(now_ns)),
            commits=self._commits,
            commits_failed=self._commits_failed,
            committed_cells=self._committed_cells,
            committed_bytes=self._committed_bytes,
            grown_bytes=self._grown_bytes,
            last_commit_age_s=(now_ns - intake.schedule.committed_ns) / NS_PER_S if self._commits else None,
            losses=dict(self._losses),
            alarms_lost=self._alarms_lost,
        )

    def _tell(self, written: Written) -> None:
        """Log a loss once, and its end once."""
        if written.alarms_lost is not None and self._alarms_full is not bool(written.alarms_lost):
            self._alarms_full = bool(written.alarms_lost)
            if self._alarms_full:
                log.error(
                    "%d changes of alarms wait for the cloud, the most that are kept: the oldest go",
                    alarm_rows.ALARMS_MAX,
                )
            else:
                log.warning("all changes of alarms are kept again; %d are lost", self._outbox.alarms_lost())
        if self.full is (written.refusal is None):
            self.full = not self.full
            if self.full:
                log.error("readings stay in the journal: %s", written.refusal)
            else:
                log.warning("the outbox has room again")
