"""Any order of taking, committing, acking, crashing, rebooting: nothing lost, no number twice, only acked is gone."""

from __future__ import annotations

import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.view import RecorderView
from tests.unit.edge_agent.outbox.parts import Gateway, series_set, values
from wire.codec import decode
from wire.ranges import RangeSet
from wire.reading import CellState, LossReason, Priority, Tick
from wire.sync.outbox_view import StoredAtom

SETS = (series_set(3, "normal"), series_set(2, "low"), series_set(1, "alarm"))
CLASSES = (Priority.NORMAL, Priority.LOW, Priority.ALARM)
OPTIONS = OutboxOptions(journal_bytes=64 << 10, wal_bytes=256 << 10, bytes_max=16 << 20)


class OutboxMachine(RuleBasedStateMachine):
    """The model: values in the journal, values by (epoch, Seq) once committed, and what the cloud acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="tidegate-outbox-"))
        self.gateway = Gateway(self.root, OPTIONS)
        self.journalled: list[int] = []
        self.committed: set[int] = set()
        self.acked: dict[int, RangeSet] = {}
        self.hidden: dict[int, RangeSet] = {}  # acked in this process; a crash may undo the delete
        self.cut_off: set[int] = set()  # in RAM when the power went
        self.given: dict[tuple[int, int], bytes] = {}  # (epoch, first) of every atom ever seen, and its bytes
        self.next_seq: dict[int, int] = {}
        self.counter = 0

    @property
    def recorder(self) -> Recorder:
        assert self.gateway.recorder is not None
        return self.gateway.recorder

    @initialize()
    def begin(self) -> None:
        self.start()

    def start(self) -> None:
        self.hidden = {}
        recorder = self.gateway.start()
        for each, priority in zip(SETS, CLASSES, strict=True):
            recorder.register(each, priority)
        self.view: RecorderView = recorder.view()

    def atoms(self) -> list[StoredAtom]:
        return [
            atom
            for offer in self.view.offers()
            for atom in self.view.pending(offer.epoch, 0, 1 << 62, None, RangeSet(), 1 << 40)
        ]

    @rule(which=st.integers(0, 2), count=st.integers(1, 6), gap=st.booleans())
    def take(self, which: int, count: int, gap: bool) -> None:
        width = len(SETS[which].series)
        batch = []
        for _ in range(count):
            numbers = list(range(self.counter, self.counter + width))
            self.counter += width
            states = bytes([CellState.TIMEOUT] + [0] * (width - 1)) if gap else None
            batch.append(Tick(SETS[which].id, self.gateway.clock.boottime // 10**6, tuple(numbers), states))
            self.journalled += numbers[1:] if gap else numbers
        self.recorder.take(batch)

    @rule(seconds=st.floats(0.01, 20))
    def wait(self, seconds: float) -> None:
        self.gateway.clock.sleep(seconds)

    @rule(seconds=st.integers(-100_000, 100_000))
    def step_clock(self, seconds: int) -> None:
        self.gateway.clock.offset += seconds * 10**9

    @rule()
    def alarm(self) -> None:
        self.recorder.alarm()

    @rule()
    def commit(self) -> None:
        self.recorder.commit()
        self.committed |= set(self.journalled)
        self.journalled = []

    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        """The cloud has some atoms; its ranges are unions of whole atoms."""
        atoms = self.atoms()
        if atoms:
            for atom in data.draw(st.lists(st.sampled_from(atoms), max_size=6)):
                self.view.acked(atom.epoch, RangeSet([(atom.first, atom.end)]))
                self.note_ack(atom)

    def note_ack(self, atom: StoredAtom) -> None:
        for ranges in (self.acked, self.hidden):
            ranges.setdefault(atom.epoch, RangeSet()).add(atom.first, atom.end)

    @rule(first=st.integers(0, 200), length=st.integers(1, 50))
    def ack_what_cuts_atoms(self, first: int, length: int) -> None:
        """A wrong ack may only take what lies wholly in it."""
        epoch = self.recorder.epoch
        for atom in self.atoms():
            if atom.epoch == epoch and first <= atom.first and atom.end <= first + length:
                self.note_ack(atom)
        self.view.acked(epoch, RangeSet([(first, first + length)]))

    @rule()
    def crash(self) -> None:
        self.gateway.kill()
        self.start()

    @rule()
    def stop(self) -> None:
        self.recorder.close()
        self.gateway.recorder = None
        self.committed |= set(self.journalled)
        self.journalled = []
        self.start()

    @rule()
    def power_cut(self) -> None:
        self.cut_off |= set(self.journalled)
        self.journalled = []
        before = self.recorder.epoch
        self.gateway.reboot()
        self.start()
        assert self.recorder.epoch != before

    @precondition(lambda self: self.gateway.recorder is not None)
    @rule(beyond=st.integers(1, 100))
    def numbers_used_twice(self, beyond: int) -> None:
        before = self.recorder.epoch
        own = self.recorder._opened_at
        self.commit()
        held = [atom for atom in self.atoms() if atom.epoch == before and atom.first >= own]
        self.view.begin_epoch(RangeSet([(0, self.view.next_seq() + beyond)]))
        assert self.recorder.epoch != before
        for atom in held:  # moved: the old names are the cloud's
            self.given.pop((before, atom.first), None)

    @invariant()
    def nothing_is_lost_and_nothing_twice(self) -> None:
        if self.gateway.recorder is None:
            return
        atoms = self.atoms()
        names = [(atom.epoch, atom.first) for atom in atoms]
        assert len(names) == len(set(names))
        for atom in atoms:
            assert self.given.setdefault((atom.epoch, atom.first), atom.data) == atom.data, "a number was reused"
            assert not self.hidden.get(atom.epoch, RangeSet()).overlaps(atom.first, atom.end)
            assert decode(atom.data).atoms[0].first == atom.first
        gone = set()
        for (epoch, first), data in self.given.items():
            if self.acked.get(epoch, RangeSet()).contains(first, first + 1):
                gone |= set(values([StoredAtom(epoch, first, 0, Priority.NORMAL, data)]))
        found = values(atoms)
        assert len(found) == len(set(found))
        assert set(found) | gone >= self.committed
        assert not set(found) & self.cut_off

    @invariant()
    def offers_are_what_is_held(self) -> None:
        if self.gateway.recorder is None:
            return
        offers = self.view.offers()
        assert len({offer.epoch for offer in offers}) == len(offers)
        by_epoch: dict[int, RangeSet] = {offer.epoch: RangeSet() for offer in offers}
        for atom in self.atoms():
            assert not by_epoch[atom.epoch].overlaps(atom.first, atom.end)
            by_epoch[atom.epoch].add(atom.first, atom.end)
        for offer in offers:
            assert offer.offered == by_epoch[offer.epoch]
            assert offer.next_seq >= max(self.next_seq.get(offer.epoch, 0), offer.offered.end)
            self.next_seq[offer.epoch] = offer.next_seq
        for earlier, later in pairwise(offers):
            assert later.predecessor == earlier.epoch
        assert offers[-1].epoch == self.recorder.epoch
        assert self.view.next_seq() == offers[-1].next_seq
        assert set(self.recorder.stats().losses) <= {LossReason.POWER_CUT}

    def teardown(self) -> None:
        self.gateway.kill()
        shutil.rmtree(self.root)


OutboxMachine.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestOutbox = OutboxMachine.TestCase
