"""Any order of taking, committing, acking, killing and shrinking, in a budget that is always too small.

Never above the budget; taken = stored + tombstoned + pending, range by range; nothing goes while something less dear or
older of its kind is there; alarms never go.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.errors import OutboxFull
from edge_agent.outbox.keys import ROLLUP_SLOT, first_of, slot_of
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import Gateway, series_set
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tick

KIB = 1024
CLASSES = {series_set(8, priority.name.lower()): priority for priority in Priority}
BUDGET = 832 * KIB  # 768 of it are WAL and reserve
OPTIONS = OutboxOptions(journal_bytes=256 * KIB, wal_bytes=256 * KIB, bytes_max=BUDGET, history_bytes=16 * KIB)
NORMAL, LOW = int(Priority.NORMAL), int(Priority.LOW)


class PressureMachine(RuleBasedStateMachine):
    """The model: Seq ranges that were acknowledged; everything else must be in an atom or a tombstone."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="tidegate-pressure-"))
        self.gateway = Gateway(self.root, OPTIONS)
        self.acked: dict[int, RangeSet] = {}
        self.chance = random.Random(1)
        self.refused = False

    @property
    def recorder(self) -> Recorder:
        assert self.gateway.recorder is not None
        return self.gateway.recorder

    @initialize()
    def start(self) -> None:
        recorder = self.gateway.start()
        for each, priority in CLASSES.items():
            recorder.register(each, priority)

    @rule(classes=st.sets(st.sampled_from((NORMAL, LOW)), min_size=1), count=st.integers(1, 60), alarm=st.booleans())
    def take(self, classes: set[int], count: int, alarm: bool) -> None:
        """A commit interval of some classes; a few readings of alarms."""
        self.gateway.clock.sleep(5)
        stamp = self.gateway.clock.boottime // 10**6
        wanted = dict.fromkeys(classes, count) | ({int(Priority.ALARM): 1} if alarm else {})
        for each, priority in CLASSES.items():
            for at in range(wanted.get(int(priority), 0)):
                self.recorder.take([Tick(each.id, stamp + at, tuple(self.chance.getrandbits(40) for _ in range(8)))])
        self.commit()

    @rule()
    def commit(self) -> None:
        before = self.rows()
        self.refused = False
        try:
            self.recorder.commit()
        except OutboxFull:
            self.refused = True
        self.check_order(before, self.rows())

    def rows(self) -> dict[int, RangeSet]:
        """By slot, what is owed of the current epoch."""
        outbox = self.recorder._outbox
        row = outbox.current()
        owed = outbox.unsettled(row)
        found = {slot: RangeSet() for slot in (0, NORMAL, LOW, ROLLUP_SLOT)}
        for atom_id, count in outbox.database.connection.execute("SELECT id, count FROM atoms"):
            if atom_id >> 44 == row.number and owed.overlaps(first_of(atom_id), first_of(atom_id) + 1):
                found[slot_of(atom_id)].add(first_of(atom_id), first_of(atom_id) + count)
        return found

    def check_order(self, before: dict[int, RangeSet], after: dict[int, RangeSet]) -> None:
        """Of each class the oldest went, and of NORMAL none while LOW had any."""
        acked = self.acked.get(self.recorder.epoch, RangeSet())
        for slot in (NORMAL, LOW):
            gone = before[slot] - after[slot] - acked
            left = before[slot] & after[slot]
            if gone and left:
                assert gone.end <= next(iter(left))[0], f"{gone} of slot {slot} went and {left} stayed"
        if before[NORMAL] - after[NORMAL] - acked:
            assert not before[LOW] & after[LOW]
        assert not before[0] - after[0] - acked, "an alarm went"

    @rule(part=st.floats(0, 1), newest=st.booleans())
    def ack(self, part: float, newest: bool) -> None:
        """The cloud has whole atoms from one end."""
        recorder = self.recorder
        outbox = recorder._outbox
        atoms = sorted(
            (first_of(atom_id), first_of(atom_id) + count)
            for atom_id, count in outbox.database.connection.execute("SELECT id, count FROM atoms")
            if atom_id >> 44 == outbox.current().number
        )
        chosen = atoms[int(len(atoms) * part) :] if newest else atoms[: int(len(atoms) * part)]
        ranges = RangeSet(chosen)
        self.acked.setdefault(recorder.epoch, RangeSet()).update(ranges)
        recorder.view().acked(recorder.epoch, ranges)
        self.commit()

    @rule()
    def kill(self) -> None:
        with suppress(OutboxFull):
            self.recorder.commit()  # an ack that a crash undoes is the other machine's business
        self.gateway.kill()
        self.start()

    @invariant()
    def the_budget_holds_and_the_books_close(self) -> None:
        if self.gateway.recorder is None:
            return
        recorder = self.recorder
        outbox = recorder._outbox
        assert recorder.stats().disk_bytes <= BUDGET
        assert outbox.database.used() <= BUDGET
        row = outbox.current()
        owed = outbox.unsettled(row)
        held = outbox.held(row) & owed
        told = RangeSet((s.first, s.end) for s in recorder.view().tombstones(1 << 20) if s.epoch == row.epoch)
        acked = self.acked.get(row.epoch, RangeSet())
        assert held == owed, "what is owed is there"
        assert (owed | told | acked) == RangeSet([(0, row.next_seq)] if row.next_seq else [])
        rolled = self.rows()[ROLLUP_SLOT]
        assert not rolled - told, "the readings of a roll-up are given up"
        assert not (owed - rolled) & told, "what was given up is not there as it was taken"
        losses = recorder.stats().losses
        assert set(losses) <= {LossReason.THINNED, LossReason.EVICTED}
        assert sum(losses.values()) == told.count
        assert recorder.stats().cells == (owed - rolled).count

    def teardown(self) -> None:
        self.gateway.kill()
        shutil.rmtree(self.root)


PressureMachine.TestCase.settings = settings(max_examples=8, stateful_step_count=40, deadline=None)
TestPressure = PressureMachine.TestCase
