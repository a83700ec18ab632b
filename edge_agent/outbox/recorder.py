"""The gateway's memory: `take` puts ticks into the journal, `commit` makes atoms of them in the outbox.

Three sides use it at once: bus threads call `take`, one writer thread calls `commit` when `due`, the sync side has a
`view`. Nothing here starts a thread or waits for the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock
from typing import Self

from edge_agent.errors import AgentError
from edge_agent.outbox.batch import Batch, Written, store
from edge_agent.outbox.composer import Composer
from edge_agent.outbox.desk import Detecting
from edge_agent.outbox.history import reopen
from edge_agent.outbox.inspection import CHECK_S, Inspection
from edge_agent.outbox.intake import Intake, Look
from edge_agent.outbox.opening import Opened, open_outbox
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.prune import Pruned, Wish, prune
from edge_agent.outbox.renumber import begin_epoch
from edge_agent.outbox.requests import Requests
from edge_agent.outbox.stats import CommitReport, OutboxStats
from edge_agent.outbox.tally import Tally
from edge_agent.outbox.texts import anchor_of
from edge_agent.outbox.view import RecorderView
from wire.alarm import Alarm
from wire.clock import Clock
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tick, Tombstone
from wire.series import SeriesSet

FILL_MAX = 0.9  # of the ring, above which sources that can wait do


class Recorder:
    """See the module. Made by `open`."""

    def __init__(self, opened: Opened, clock: Clock, options: OutboxOptions) -> None:
        self._opened = opened
        self._clock = clock
        self._options = options
        self._outbox = opened.outbox
        self._sets = opened.outbox.series_sets()
        self._requests = Requests()
        self._views: list[RecorderView] = []
        self._writing = RLock()  # the database
        self._tally = Tally(opened.outbox, options)
        self._intake = Intake(opened.journal, clock, options, anchor_of(self._tally.row.anchor), self._sets)
        self._inspection = Inspection(self._intake, clock)
        self._composer = Composer(self._intake, self._inspection, self._requests, options)
        self._opened_at = self._tally.row.next_seq
        self.wake: Callable[[], None] | None = None  # called from `take` when a commit should not wait for its time

    @classmethod
    def open(
        cls,
        state_dir: Path,
        runtime_dir: Path,
        clock: Clock,
        boot_id: str,
        machine_id: str,
        options: OutboxOptions | None = None,
    ) -> Self:
        """Lock the state directory, bring outbox and journal to where they stopped, mint an epoch if need be.

        What a killed process left in the journal is committed with the first commit.

        Raises:
            StateBusy: another agent has the directory.
            StateUnusable: a directory or file cannot be made, read or written.
            OutboxFull: not even the opening has room on the disk.
        """
        options = options or OutboxOptions()
        opened = open_outbox(state_dir, runtime_dir, boot_id, machine_id, options)
        try:
            return cls(opened, clock, options)
        except BaseException:
            opened.close()
            raise

    @property
    def epoch(self) -> int:
        """The current epoch's id."""
        return self._tally.row.epoch

    @property
    def outbox_id(self) -> int:
        """Whose records the journal holds."""
        return int(self._outbox.meta("outbox") or 0)

    def register(self, series_set: SeriesSet, priority: Priority = Priority.NORMAL) -> None:
        """Make a set known before its first tick; its definition is durable on return."""
        with self._writing:
            if series_set.id not in self._sets:
                with self._outbox.database.transaction():
                    self._outbox.put_series_set(series_set)
                self._sets = {**self._sets, series_set.id: series_set}
        self._intake.register(series_set, priority)

    def take(self, ticks: Sequence[Tick]) -> None:
        """Hold ticks; on return they survive the death of the process. For any thread.

        A full ring commits first; when that finds no room, the ticks are counted as lost (JOURNAL_FULL).

        Raises:
            ValueError: a tick does not fit its set, or the set is not registered; those before it are held.
        """
        rest = self._intake.append(ticks)
        if rest:
            rest = self._append_after_commit(rest)
        if rest:
            self._intake.lose(rest)
        elif not self._tally.full:
            self._intake.loses_no_more()
        if self.wake is not None and (self._inspection.desk is not None or self._intake.early):
            self.wake()

    def detect(self, detector: Detecting, tell: Callable[[Alarm], None] = lambda alarm: None) -> None:
        """From now on every reading goes through this detector, before its commit; first, before the first commit.

        It takes up the state of the last commit; what was not committed, of a killed process or of a disk that refuses,
        goes through it again, and changes of alarms that an earlier detector found there are kept.
        `tell` is called with each change of an alarm at once; it must not wait. When this raises there is no detector.

        Raises:
            AgentError: the outbox cannot be read.
        """
        with self._writing:
            self._inspection.begin(self._outbox, detector, tell)
        self.look()

    def look(self) -> float:
        """Put through the detector what was taken since the last look; seconds until it should look without a reading.

        An alarm that begins makes the next commit due at once.
        """
        if self._inspection.desk is None:
            return self._options.commit_interval_s
        with self._writing:
            self._inspection.look()
        return CHECK_S

    @property
    def detection(self) -> tuple[str, list[Alarm]]:
        """Why the detector was left alone ("" while it works), and the alarms that are raised. For any thread."""
        desk = self._inspection.desk
        return ("", []) if desk is None else (desk.problem, list(desk.active.values()))

    def has_room(self) -> bool:
        """Whether `take` will hold a tick for sure: for sources that can wait. For any thread."""
        return self._intake.journal.fill < FILL_MAX

    def alarm(self) -> None:
        """Commit what is open at once (at most once per alarm interval), as atoms of the alarm class.

        Ticks of a set that is registered as ALARM hurry a commit too, but leave the others in their class.
        """
        self._intake.hurry(raised=True)
        if self.wake is not None:
            self.wake()

    def due(self, now_ns: int) -> bool:
        """Is it time to commit, at boottime `now_ns`?"""
        return self.due_in_s(now_ns) <= 0

    def due_in_s(self, now_ns: int) -> float:
        """Seconds until the next commit; the interval when nothing waits. Earlier if `wake` is called."""
        desk = self._inspection.desk
        return self._intake.due_in_s(now_ns, waiting=bool(self._requests or (desk is not None and desk.alarms)))

    def commit(self) -> CommitReport | None:
        """Make atoms of everything journalled, in one fsynced transaction with what the detector found and has learnt
        and with what the cloud acknowledged.

        Returns None when there was nothing to write.

        Raises:
            OutboxFull: no room; the journal keeps the readings. Acks and deletes were committed if they could be.
            OutboxCorrupt: a damaged page was met; `abandon` and open again, which salvages.
            StateUnusable: the disk fails or is read-only.
        """
        with self._writing:
            look = self._intake.look()
            batch = self._composer.batch(look, self._tally.row, self._sets)
            if batch is None:
                return None
            try:
                written = store(self._outbox, batch, self._options)
            except AgentError:
                self._failed(look)
                raise
            report = self._committed(batch, written, look)
            if written.refusal is not None:
                self._failed(look)
                raise written.refusal
            return report

    def view(self) -> RecorderView:
        """The outbox for the sync side. The recorder closes it."""
        view = RecorderView(
            self._outbox.database.path,
            self._requests,
            lambda: self._intake.sets,
            self._adopt_generation,
            self._begin_epoch,
        )
        self._views.append(view)
        return view

    def prune(self, wish: Wish) -> Pruned:
        """Delete at once what the cloud has, and what is kept for people; waits for a commit that is being written.

        Raises:
            OutboxCorrupt, StateUnusable, StateBusy: as `Database.transaction`.
        """
        with self._writing:
            pruned = prune(self._outbox, wish)
            self._tally.refresh()
        return pruned

    def stats(self) -> OutboxStats:
        """For `status`; from any thread, without waiting for a commit."""
        return self._tally.stats(self._intake, self._clock.boottime_ns())

    def close(self) -> None:
        """Commit, mark the outbox clean, let go of everything.

        Raises:
            AgentError: the last commit failed; everything is let go all the same, and the journal keeps the readings.
        """
        try:
            with self._writing:
                self.commit()
                with self._outbox.database.transaction():
                    self._outbox.set_meta(clean=1)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go without a commit, as a killed process does: the next `open` finds the readings in the journal."""
        for view in self._views:
            view.close()
        self._opened.close()

    def _append_after_commit(self, ticks: Sequence[Tick]) -> Sequence[Tick]:
        if not self._intake.schedule.may_try(self._clock.boottime_ns()):
            return ticks
        try:
            self.commit()
        except AgentError:
            return ticks  # the writer meets it too, and tells
        return self._intake.append(ticks)

    def _failed(self, look: Look) -> None:
        """It is all still to be done."""
        self._intake.failed(look)
        if self._inspection.desk is not None:
            self._inspection.desk.failed()
        self._tally.failed()

    def _committed(self, batch: Batch, written: Written, look: Look) -> CommitReport:
        """The transaction is on the disk: free the ring, forget what was asked, look at the new state."""
        self._requests.done(batch.asked, written.gone)
        if written.refusal is None:
            self._intake.committed(look)
            if self._inspection.desk is not None:
                self._inspection.desk.done()
        return self._tally.committed(batch, written)

    def _adopt_generation(self, generation: int, gone: list[tuple[int, RangeSet]]) -> None:
        """What the history still has is owed again; the rest is lost. Told again after a crash, the tombstones have
        the same keys. An outbox that knew of no cloud has itself forgotten them: it was damaged."""
        with self._writing:
            known = self._outbox.meta("generation")
            reason = LossReason.CLOUD_RESTORED if known else LossReason.CORRUPT
            numbers = {row.epoch: row.number for row in self._outbox.epochs()}
            with self._outbox.database.transaction():
                for epoch, ranges in gone:
                    for first, end in ranges - reopen(self._outbox, numbers[epoch], ranges):
                        self._outbox.add_tombstone(Tombstone(epoch, first, end, reason, end - first))
                self._outbox.set_meta(generation=generation)
            self._tally.refresh()

    def _begin_epoch(self, covered: RangeSet) -> None:
        with self._writing:
            self.commit()
            while self._requests:  # what was acknowledged before counts under the old numbers
                self.commit()
            with self._outbox.database.transaction():
                begin_epoch(self._outbox, self._opened_at, covered)
            self._tally.refresh()
            self._opened_at = 0
