"""The gateway's memory: `take` puts ticks into the journal, `commit` makes atoms of them in the outbox.

Three sides use it at once: bus threads call `take`, one writer thread calls `commit` when `due`, the sync side has a
`view`. Nothing here starts a thread or waits for the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock

from edge_agent.errors import AgentError, JournalFull
from edge_agent.outbox import alarm_rows
from edge_agent.outbox.anchor import AnchorKeeper
from edge_agent.outbox.batch import Batch, Written, store
from edge_agent.outbox.desk import ACTIVE, OFFSET, PREFIX, Desk, Detecting
from edge_agent.outbox.encoder import Encoder
from edge_agent.outbox.history import reopen
from edge_agent.outbox.journal import Mark
from edge_agent.outbox.opening import Opened, open_outbox
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.pages import growth_of
from edge_agent.outbox.prune import Pruned, Wish, prune
from edge_agent.outbox.record import Layout
from edge_agent.outbox.renumber import begin_epoch
from edge_agent.outbox.requests import Requests
from edge_agent.outbox.schedule import EARLY_FILL, Schedule
from edge_agent.outbox.stats import CommitReport, OutboxStats
from edge_agent.outbox.texts import anchor_of
from edge_agent.outbox.view import RecorderView
from wire.alarm import Alarm
from wire.clock import NS_PER_S, NS_PER_US, US_PER_S, Clock
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tick, Tombstone
from wire.series import SeriesSet

log = logging.getLogger(__name__)

FILL_MAX = 0.9  # of the ring, above which sources that can wait do
CHECK_S = 1.0  # between two looks for channels that stopped coming
RATE_WEIGHT = 0.2  # of the newest interval in the rate of readings


@dataclass(frozen=True, slots=True)
class _Look:
    """What a commit covers: records up to `mark`, the ring's losses (cells, span), and whether an alarm asked."""

    at_ns: int
    mark: Mark
    lost: tuple[int, int, int]
    alarm: bool
    raised: bool


class Recorder:
    """See the module. Made by `open`."""

    def __init__(self, opened: Opened, clock: Clock, options: OutboxOptions) -> None:
        self._opened = opened
        self._clock = clock
        self._options = options
        self._outbox = opened.outbox
        self._journal = opened.journal
        self._sets = opened.outbox.series_sets()
        self._layouts: dict[int, Layout] = {}
        self._priorities: dict[int, Priority] = {}
        self._requests = Requests()
        self._views: list[RecorderView] = []
        self._taking = Lock()  # the journal's head and tail
        self._writing = RLock()  # the database; taken before `_taking`, never after it
        self._schedule = Schedule(options, clock.boottime_ns())
        self._raised = False  # the next atoms are of the alarm class
        self._desk: Desk | None = None
        self._stepped: Mark | None = None  # how far the journal went through the detector
        self._checked_ns = 0
        self._full = False
        self._losing = False
        self._alarms_full = False
        self._commits = self._commits_failed = self._committed_cells = self._committed_bytes = self._grown_bytes = 0
        self._waiting_since_ns: int | None = None  # when the oldest tick that is not committed was taken
        self.wake: Callable[[], None] | None = None  # called from `take` when a commit should not wait for its time
        self._refresh()
        if self._journal.ticks:  # of a killed process: how old they are is not known, so they are due at once
            self._schedule.hurry()
            self._waiting_since_ns = self._schedule.committed_ns
        self._opened_at = self._row.next_seq
        self._anchors = AnchorKeeper(clock, anchor_of(self._row.anchor))

    @classmethod
    def open(
        cls,
        state_dir: Path,
        runtime_dir: Path,
        clock: Clock,
        boot_id: str,
        machine_id: str,
        options: OutboxOptions | None = None,
    ) -> Recorder:
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
        return self._row.epoch

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
        with self._taking:
            self._layouts[series_set.id] = Layout(series_set)
            self._priorities[series_set.id] = priority

    def take(self, ticks: Sequence[Tick]) -> None:
        """Hold ticks; on return they survive the death of the process. For any thread.

        A full ring commits first; when that finds no room, the ticks are counted as lost (JOURNAL_FULL).

        Raises:
            ValueError: a tick does not fit its set, or the set is not registered; those before it are held.
        """
        with self._taking:
            rest = self._append(ticks)
        if rest:
            rest = self._append_after_commit(rest)
        if rest:
            self._lose(rest)
        elif self._losing and not self._full:
            self._losing = False
            log.warning("the journal has room again")
        if self.wake is not None and (self._desk is not None or self._schedule.early(self._journal.fill)):
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
            before, self._desk = self._desk, None
            self._stepped = None
            states = self._outbox.states(PREFIX) | self._outbox.states(ACTIVE) | self._outbox.states(OFFSET)
            anchor = self._anchors.anchor()
            self._desk = Desk(detector, states, anchor, self._clock.boottime_ns() // NS_PER_US, tell)
            if before is not None:
                self._desk.inherit(before)
        self.look()

    def look(self) -> float:
        """Put through the detector what was taken since the last look; seconds until it should look without a reading.

        An alarm that begins makes the next commit due at once.
        """
        desk = self._desk
        if desk is None:
            return self._options.commit_interval_s
        with self._writing:
            with self._taking:
                mark = self._journal.mark
            self._step(desk, mark)
            now_ns = self._clock.boottime_ns()
            if now_ns - self._checked_ns >= CHECK_S * NS_PER_S:
                self._checked_ns = now_ns
                desk.check(now_ns // NS_PER_US)
            if desk.raised:
                with self._taking:
                    self._schedule.alarm = True
        return CHECK_S

    @property
    def detection(self) -> tuple[str, list[Alarm]]:
        """Why the detector was left alone ("" while it works), and the alarms that are raised. For any thread."""
        desk = self._desk
        return ("", []) if desk is None else (desk.problem, list(desk.active.values()))

    def has_room(self) -> bool:
        """Whether `take` will hold a tick for sure: for sources that can wait. For any thread."""
        return self._journal.fill < FILL_MAX

    def alarm(self) -> None:
        """Commit what is open at once (at most once per alarm interval), as atoms of the alarm class.

        Ticks of a set that is registered as ALARM hurry a commit too, but leave the others in their class.
        """
        with self._taking:
            self._schedule.alarm = self._raised = True
        if self.wake is not None:
            self.wake()

    def due(self, now_ns: int) -> bool:
        """Is it time to commit, at boottime `now_ns`?"""
        return self.due_in_s(now_ns) <= 0

    def due_in_s(self, now_ns: int) -> float:
        """Seconds until the next commit; the interval when nothing waits. Earlier if `wake` is called."""
        alarms = self._desk is not None and bool(self._desk.alarms)
        waiting = bool(self._journal.ticks or self._requests or self._journal.lost[0] or alarms)
        return self._schedule.due_in_ns(now_ns, self._journal.fill, waiting=waiting) / NS_PER_S

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
            look = self._look()
            batch = self._batch(look)
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
            lambda: tuple(self._layouts),
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
            self._refresh()
        return pruned

    def stats(self) -> OutboxStats:
        """For `status`; from any thread, without waiting for a commit."""
        now = self._clock.boottime_ns()
        row, totals, oldest, options = self._row, self._totals, self._oldest, self._options
        age = None
        if oldest is not None:
            age = now / NS_PER_S - (oldest[1] / US_PER_S if oldest[0] == row.number else 0.0)
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
            disk_full=self._full,
            journal_ticks=self._journal.ticks,
            journal_fill=self._journal.fill,
            commit_interval_s=options.commit_interval_s,
            power_cut_window_s=max(options.commit_interval_s, self._waiting_s(now)),
            commits=self._commits,
            commits_failed=self._commits_failed,
            committed_cells=self._committed_cells,
            committed_bytes=self._committed_bytes,
            grown_bytes=self._grown_bytes,
            last_commit_age_s=(now - self._schedule.committed_ns) / NS_PER_S if self._commits else None,
            losses=dict(self._losses),
            alarms_lost=self._alarms_lost,
        )

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

    def _append(self, ticks: Sequence[Tick]) -> Sequence[Tick]:
        """Append what fits; returns the rest. Under `_taking`."""
        anchor = self._anchors.anchor()
        if self._waiting_since_ns is None:
            self._waiting_since_ns = self._clock.boottime_ns()
        for at, tick in enumerate(ticks):
            layout = self._layouts.get(tick.set_id)
            if layout is None:
                raise ValueError(f"series set {tick.set_id:016x} is not registered")
            try:
                self._journal.append(layout, tick, anchor)
            except JournalFull:
                return ticks[at:]
            if self._priorities[tick.set_id] is Priority.ALARM:
                self._schedule.alarm = True
        return ()

    def _append_after_commit(self, ticks: Sequence[Tick]) -> Sequence[Tick]:
        if not self._schedule.may_try(self._clock.boottime_ns()):
            return ticks
        try:
            self.commit()
        except AgentError:
            return ticks  # the writer meets it too, and tells
        with self._taking:
            return self._append(ticks)

    def _waiting_s(self, now_ns: int) -> float:
        since_ns = self._waiting_since_ns
        return 0.0 if since_ns is None else (now_ns - since_ns) / NS_PER_S

    def _lose(self, ticks: Sequence[Tick]) -> None:
        if not self._losing:
            log.error("the journal is full and cannot be committed: readings are being lost")
            self._losing = True
        stamps = [tick.stamp * self._sets[tick.set_id].stamp_unit.us for tick in ticks]
        with self._taking:
            self._journal.lose(sum(tick.cells for tick in ticks), min(stamps), max(stamps))

    def _look(self) -> _Look:
        """Everything up to this moment; what comes later is for the next commit."""
        with self._taking:
            now_ns = self._clock.boottime_ns()
            look = _Look(now_ns, self._journal.mark, self._journal.lost, self._schedule.alarm, self._raised)
            self._schedule.alarm = self._raised = False
        return look

    def _failed(self, look: _Look) -> None:
        """It is all still to be done."""
        with self._taking:
            self._schedule.alarm |= look.alarm
            self._raised |= look.raised
        if self._desk is not None:
            self._desk.failed()
        self._schedule.failed(self._clock.boottime_ns())
        self._commits_failed += 1

    def _step(self, desk: Desk, mark: Mark) -> None:
        desk.step(self._journal.read(mark, self._stepped))
        self._stepped = mark

    def _batch(self, look: _Look) -> Batch | None:
        """What there is to write."""
        row, mark, lost = self._row, look.mark, look.lost
        asked = self._requests.look()
        desk = self._desk
        if desk is not None:
            self._step(desk, mark)
        alarms = () if desk is None else tuple(desk.alarms)
        if mark.lsn == row.journal_lsn and not asked and not lost[0] and not alarms:
            return None
        raised = look.raised or (desk is not None and desk.raised)
        encoder = Encoder(self._sets, self._priorities, row.next_seq, raised=raised)
        for entry in self._journal.read(mark):
            encoder.add(entry, None if desk is None else desk.codes(entry.lsn))
        encoder.finish()
        stones = []
        missing = mark.lsn - row.journal_lsn - encoder.ticks
        if missing > 0:
            count = missing * max(1, encoder.cells // max(1, encoder.ticks))
            stones.append(Tombstone(row.epoch, encoder.next_seq, encoder.next_seq, LossReason.CORRUPT, count))
        if lost[0]:
            at = encoder.next_seq
            stones.append(Tombstone(row.epoch, at, at, LossReason.JOURNAL_FULL, *lost))
        state, state_deleted = ({}, ()) if desk is None else desk.changes(self._anchors.anchor())
        return Batch(
            row=row,
            asked=asked,
            next_seq=encoder.next_seq,
            journal_lsn=mark.lsn,
            rate=self._rate(encoder.cells),
            anchor=encoder.anchor,
            atoms=tuple(encoder.atoms),
            tombstones=tuple(stones),
            alarms=alarms,
            state=state,
            state_deleted=state_deleted,
            lent=self._requests.lent(),
            now_us=look.at_ns // NS_PER_US,
            pressed=self._journal.fill > EARLY_FILL,
        )

    def _rate(self, cells: int) -> float:
        """Cells per second, smoothed: what a power cut's estimate is made of."""
        seconds = (self._clock.boottime_ns() - self._schedule.committed_ns) / NS_PER_S
        if seconds < self._options.alarm_interval_s / 2:
            return self._row.rate
        newest = cells / seconds
        return newest if self._row.rate == 0 else self._row.rate * (1 - RATE_WEIGHT) + newest * RATE_WEIGHT

    def _committed(self, batch: Batch, written: Written, look: _Look) -> CommitReport:
        """The transaction is on the disk: free the ring, forget what was asked, look at the new state."""
        first = self._row.next_seq
        size = 0
        self._requests.done(batch.asked, written.gone)
        stored = written.refusal is None
        if stored:
            with self._taking:
                self._journal.committed(look.mark)
                self._waiting_since_ns = look.at_ns if self._journal.ticks else None
                if look.lost[0]:
                    self._journal.forget_loss(look.lost[0])
            if self._desk is not None:
                self._desk.done()
            size = sum(len(atom.data) for atom in batch.atoms)
            self._grown_bytes += sum(growth_of(len(atom.data)) for atom in batch.atoms)
            self._schedule.committed(self._clock.boottime_ns())
        if written.alarms_lost is not None and self._alarms_full is not bool(written.alarms_lost):
            self._alarms_full = bool(written.alarms_lost)
            if self._alarms_full:
                log.error(
                    "%d changes of alarms wait for the cloud, the most that are kept: the oldest go",
                    alarm_rows.ALARMS_MAX,
                )
            else:
                log.warning("all changes of alarms are kept again; %d are lost", self._outbox.alarms_lost())
        if self._full is stored:
            self._full = not stored
            if stored:
                log.warning("the outbox has room again")
            else:
                log.error("readings stay in the journal: %s", written.refusal)
        self._refresh()
        self._commits += 1
        self._committed_cells += self._row.next_seq - first
        self._committed_bytes += size
        return CommitReport(
            epoch=self._row.epoch,
            first=first,
            end=self._row.next_seq,
            atoms=len(batch.atoms) if stored else 0,
            bytes=size,
            settled=written.settled,
            evicted=written.freed.evicted,
            journal_lsn=self._row.journal_lsn,
        )

    def _refresh(self) -> None:
        self._row = self._outbox.current()
        self._totals = self._outbox.totals()
        self._losses = self._outbox.losses()
        self._alarms_lost = self._outbox.alarms_lost()
        self._oldest = self._outbox.oldest()
        self._used = self._outbox.database.used()
        self._limit = self._outbox.database.limit()

    def _adopt_generation(self, generation: int, gone: list[tuple[int, RangeSet]]) -> None:
        """What the history still has is owed again; the rest is lost. Told again after a crash, the tombstones have
        the same keys."""
        with self._writing:
            numbers = {row.epoch: row.number for row in self._outbox.epochs()}
            with self._outbox.database.transaction():
                for epoch, ranges in gone:
                    for first, end in ranges - reopen(self._outbox, numbers[epoch], ranges):
                        self._outbox.add_tombstone(Tombstone(epoch, first, end, LossReason.CLOUD_RESTORED, end - first))
                self._outbox.set_meta(generation=generation)
            self._refresh()

    def _begin_epoch(self, covered: RangeSet) -> None:
        with self._writing:
            self.commit()
            while self._requests:  # what was acknowledged before counts under the old numbers
                self.commit()
            with self._outbox.database.transaction():
                begin_epoch(self._outbox, self._opened_at, covered)
            self._refresh()
            self._opened_at = 0
