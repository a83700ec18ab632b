"""The recorder's side towards the bus threads: ticks go into the journal, and what they say of the next commit.

A commit looks at it twice: `look` says what there is, `committed` or `failed` what became of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Lock

from edge_agent.errors import JournalFull
from edge_agent.outbox.anchor import AnchorKeeper
from edge_agent.outbox.journal import Journal, Mark
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.record import Layout
from edge_agent.outbox.schedule import Schedule
from wire.clock import NS_PER_S, NS_PER_US, Anchor, Clock
from wire.reading import Priority, Tick
from wire.series import SeriesSet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Look:
    """What a commit covers: records up to `mark`, the ring's losses (cells, span), and whether an alarm asked."""

    at_ns: int
    mark: Mark
    lost: tuple[int, int, int]
    alarm: bool
    raised: bool


class Intake:
    """See the module. For any thread."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        options: OutboxOptions,
        last: Anchor | None,
        sets: Mapping[int, SeriesSet],
    ) -> None:
        """`last`: the anchor of the last commit. `sets`: what is defined, by id."""
        self.journal = journal
        self.schedule = Schedule(options, clock.boottime_ns())
        self.priorities: dict[int, Priority] = {}
        self._clock = clock
        self._anchors = AnchorKeeper(clock, last)
        self._layouts: dict[int, Layout] = {}
        self._stamp_us: dict[int, int] = {}
        self._lock = Lock()  # the journal's head and tail; taken after the writer's, never before it
        self._raised = False  # the next atoms are of the alarm class
        self._losing = False
        self._waiting_since_ns: int | None = None  # when the oldest tick that is not committed was taken
        for oldest in islice(journal.read(journal.mark), 1):  # of a killed process: due at once
            self.schedule.hurry()
            self._waiting_since_ns = self.schedule.committed_ns
            if known := sets.get(oldest.tick.set_id):
                stamp_ns = oldest.tick.stamp * known.stamp_unit.us * NS_PER_US
                self._waiting_since_ns = min(self._waiting_since_ns, stamp_ns)

    @property
    def sets(self) -> tuple[int, ...]:
        """Ids of the sets that ticks may be of."""
        return tuple(self._layouts)

    def register(self, series_set: SeriesSet, priority: Priority) -> None:
        """Ticks of the set may come."""
        with self._lock:
            self._stamp_us[series_set.id] = series_set.stamp_unit.us
            self._layouts[series_set.id] = Layout(series_set)
            self.priorities[series_set.id] = priority

    def anchor(self) -> Anchor:
        """The one in force."""
        return self._anchors.anchor()

    def append(self, ticks: Sequence[Tick]) -> Sequence[Tick]:
        """Hold what the ring has room for; returns the rest.

        Raises:
            ValueError: a tick does not fit its set, or the set is not registered; those before it are held.
        """
        with self._lock:
            anchor = self._anchors.anchor()
            if self._waiting_since_ns is None:
                self._waiting_since_ns = self._clock.boottime_ns()
            for at, tick in enumerate(ticks):
                layout = self._layouts.get(tick.set_id)
                if layout is None:
                    raise ValueError(f"series set {tick.set_id:016x} is not registered")
                try:
                    self.journal.append(layout, tick, anchor)
                except JournalFull:
                    return ticks[at:]
                if self.priorities[tick.set_id] is Priority.ALARM:
                    self.schedule.alarm = True
        return ()

    def lose(self, ticks: Sequence[Tick]) -> None:
        """There is no room for these: count them."""
        if not self._losing:
            log.error("the journal is full and cannot be committed: readings are being lost")
            self._losing = True
        stamps = [tick.stamp * self._stamp_us[tick.set_id] for tick in ticks]
        with self._lock:
            self.journal.lose(sum(tick.cells for tick in ticks), min(stamps), max(stamps))

    def loses_no_more(self) -> None:
        """Ticks find room again."""
        if self._losing:
            self._losing = False
            log.warning("the journal has room again")

    def hurry(self, *, raised: bool = False) -> None:
        """The next commit is due at once; `raised`: and all of it is of the alarm class."""
        with self._lock:
            self.schedule.alarm = True
            self._raised |= raised

    @property
    def early(self) -> bool:
        """Is there a reason not to wait for the interval?"""
        return self.schedule.early(self.journal.fill)

    def due_in_s(self, now_ns: int, *, waiting: bool) -> float:
        """Seconds until the next commit, where something waits here or elsewhere."""
        waiting |= bool(self.journal.ticks or self.journal.lost[0])
        return self.schedule.due_in_ns(now_ns, self.journal.fill, waiting=waiting) / NS_PER_S

    def waiting_s(self, now_ns: int) -> float:
        """For how long the oldest tick that is not committed has been waiting."""
        since_ns = self._waiting_since_ns
        return 0.0 if since_ns is None else (now_ns - since_ns) / NS_PER_S

    @property
    def mark(self) -> Mark:
        """The place after the newest tick."""
        with self._lock:
            return self.journal.mark

    def look(self) -> Look:
        """Everything up to this moment; what comes later is for the next commit."""
        with self._lock:
            now_ns = self._clock.boottime_ns()
            look = Look(now_ns, self.journal.mark, self.journal.lost, self.schedule.alarm, self._raised)
            self.schedule.alarm = self._raised = False
        return look

    def committed(self, look: Look) -> None:
        """It is on the disk: its room is free."""
        with self._lock:
            self.journal.committed(look.mark)
            self._waiting_since_ns = look.at_ns if self.journal.ticks else None
            if look.lost[0]:
                self.journal.forget_loss(look.lost[0])
        self.schedule.committed(self._clock.boottime_ns())

    def failed(self, look: Look) -> None:
        """It is all still to be done."""
        with self._lock:
            self.schedule.alarm |= look.alarm
            self._raised |= look.raised
        self.schedule.failed(self._clock.boottime_ns())
