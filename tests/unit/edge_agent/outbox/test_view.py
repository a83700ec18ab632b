"""The outbox as the sync machine sees it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edge_agent.outbox.batch import DELETES_MAX
from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.view import EPOCHS_RECENT, RecorderView
from tests.unit.edge_agent.outbox.parts import EVERYTHING, Gateway, series_set, ticks, waiting
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tombstone
from wire.sync.frames import EPOCHS_MAX
from wire.sync.outbox_view import OutboxView, StoredAtom

SET = series_set(2)
LOW = series_set(2, "low")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    recorder = Gateway(tmp_path).start(SET)
    recorder.register(LOW, Priority.LOW)
    return recorder


def fill(recorder: Recorder, commits: int, start: int = 0) -> None:
    """Each commit makes a NORMAL atom of 4 Seq numbers."""
    for at in range(start, start + commits):
        recorder.take(ticks(SET, 2, start=2 * at))
        recorder.commit()


def spans(atoms: list[StoredAtom]) -> list[tuple[int, int]]:
    return [(atom.first, atom.end) for atom in atoms]


def pending(
    view: RecorderView, exclude: RangeSet | None = None, bytes_max: int = 1 << 40, **bounds: int
) -> list[StoredAtom]:
    epoch = view.offers()[-1].epoch
    start, end = bounds.get("start", 0), bounds.get("end", EVERYTHING[1])
    return view.pending(epoch, start, end, None, exclude or RangeSet(), bytes_max)


def test_it_is_an_outbox_view(recorder: Recorder) -> None:
    view: OutboxView = recorder.view()
    assert view.generation_seen() == 0
    (offer,) = view.offers()
    assert (offer.epoch, offer.next_seq, list(offer.offered), offer.predecessor) == (recorder.epoch, 0, [], 0)
    assert offer.predecessor_next_seq is None
    assert view.pending(12345, *EVERYTHING, None, RangeSet(), 100) == []
    view.acked(12345, RangeSet([(0, 10)]))
    view.set_aside(12345, 0, "unknown")
    assert recorder.commit() is None


def test_pending_keeps_to_its_bounds(recorder: Recorder) -> None:
    fill(recorder, 5)
    view = recorder.view()
    two = sum(len(atom.data) for atom in pending(view)[:2])
    assert spans(pending(view)) == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20)]
    assert spans(pending(view, start=3, end=12)) == [(4, 8), (8, 12)]
    assert spans(pending(view, bytes_max=two)) == [(0, 4), (4, 8)]
    assert spans(pending(view, bytes_max=two - 1)) == [(0, 4)]
    assert spans(pending(view, bytes_max=1)) == [(0, 4)]
    assert spans(pending(view, RangeSet([(0, 8), (12, 16)]))) == [(8, 12), (16, 20)]
    assert spans(pending(view, RangeSet([(5, 6)]))) == [(0, 4), (8, 12), (12, 16), (16, 20)]
    assert pending(view, start=9, end=9) == []


def test_pending_by_class_and_all_classes_in_order(recorder: Recorder) -> None:
    for at in range(3):
        recorder.take([*ticks(SET, 1, start=at), *ticks(LOW, 1, start=at)])
        recorder.commit()
    view = recorder.view()
    assert spans(pending(view)) == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 12)]
    low = view.pending(recorder.epoch, *EVERYTHING, Priority.LOW, RangeSet(), 1 << 40)
    assert {atom.priority for atom in low} == {Priority.LOW}
    assert len(low) == 3
    assert view.pending(recorder.epoch, *EVERYTHING, Priority.ALARM, RangeSet(), 1 << 40) == []


def test_acked_is_hidden_at_once_and_deleted_with_the_next_commit(recorder: Recorder) -> None:
    fill(recorder, 4)
    view = recorder.view()
    view.acked(recorder.epoch, RangeSet([(4, 8), (12, 16)]))
    assert spans(pending(view)) == [(0, 4), (8, 12)]
    assert list(view.offers()[0].offered) == [(0, 4), (8, 12)]
    assert recorder.stats().atoms == 4
    report = recorder.commit()
    assert report is not None
    assert (report.settled, report.atoms) == (8, 0)
    assert recorder.stats().atoms == 2
    assert spans(pending(view)) == [(0, 4), (8, 12)]
    assert list(view.offers()[0].offered) == [(0, 4), (8, 12)]


def test_an_ack_that_cuts_an_atom_leaves_it(recorder: Recorder) -> None:
    fill(recorder, 4)
    view = recorder.view()
    view.acked(recorder.epoch, RangeSet([(2, 10), (13, 15)]))
    assert spans(pending(view)) == [(0, 4), (8, 12), (12, 16)]
    assert list(view.offers()[0].offered) == [(0, 4), (8, 16)]
    recorder.commit()
    assert spans(pending(view)) == [(0, 4), (8, 12), (12, 16)]
    view.acked(recorder.epoch, RangeSet([(0, 1 << 50)]))
    recorder.commit()
    assert pending(view) == []
    fill(recorder, 1, start=4)
    assert spans(pending(view)) == [(16, 20)]  # an ack never reaches what is not yet given


def test_the_writer_deletes_whole_atoms_only(recorder: Recorder) -> None:
    fill(recorder, 4)
    outbox = recorder._outbox
    with outbox.database.transaction():
        removed = outbox.remove(outbox.current().number, [(2, 10), (13, 15)])
    assert (list(removed.ranges), removed.atoms) == ([(4, 8)], 1)
    assert spans(pending(recorder.view())) == [(0, 4), (8, 12), (12, 16)]


def test_acks_settle_in_any_order(recorder: Recorder) -> None:
    fill(recorder, 12)
    view = recorder.view()
    settled = RangeSet()
    for first in (20, 0, 44, 4, 24, 12, 8, 16, 40, 36, 28, 32):
        view.acked(recorder.epoch, RangeSet([(first, first + 4)]))
        recorder.commit()
        settled.add(first, first + 4)
        assert list(view.offers()[0].offered) == list(RangeSet([(0, 48)]) - settled)
        rows = recorder._outbox.database.connection.execute("SELECT first, end FROM settled").fetchall()
        low = recorder._outbox.current().low
        assert RangeSet([*rows, (0, low)]) == settled
        assert len(rows) + (low > 0) == len(settled)
    assert recorder._outbox.current().low == 48


def test_many_acks_are_deleted_over_several_commits(recorder: Recorder) -> None:
    many = DELETES_MAX + 20
    fill(recorder, many)
    view = recorder.view()
    view.acked(recorder.epoch, RangeSet([(0, 4 * many)]))
    assert pending(view) == []
    recorder.commit()
    assert recorder.stats().atoms == 20
    assert pending(view) == []
    recorder.commit()
    assert recorder.stats().atoms == 0
    assert recorder.commit() is None


def test_acks_wait_for_the_interval(recorder: Recorder) -> None:
    fill(recorder, 1)
    now = recorder._clock.boottime_ns()
    assert not recorder.due(now + 60 * 10**9)
    recorder.view().acked(recorder.epoch, RangeSet([(0, 4)]))
    assert not recorder.due(now + 10**9)
    assert recorder.due(now + 5 * 10**9)


def test_a_refused_atom_is_kept_apart_with_a_tombstone(recorder: Recorder) -> None:
    fill(recorder, 3)
    view = recorder.view()
    data = pending(view)[1].data
    view.set_aside(recorder.epoch, 4, "corrupt: bad column")
    assert spans(pending(view)) == [(0, 4), (8, 12)]
    assert list(view.offers()[0].offered) == [(0, 4), (8, 12)]
    recorder.commit()
    assert spans(pending(view)) == [(0, 4), (8, 12)]
    (stone,) = view.tombstones(10)
    assert stone == Tombstone(recorder.epoch, 4, 8, LossReason.CORRUPT, 4, 2000, 3000)
    row = recorder._outbox.database.connection.execute("SELECT epoch, first, count, reason, data FROM aside").fetchone()
    assert row == (recorder.epoch, 4, 4, "corrupt: bad column", data)
    view.tombstones_acked([stone.key])
    assert view.tombstones(10) == []
    recorder.commit()
    assert view.tombstones(10) == []
    assert recorder.stats().losses == {LossReason.CORRUPT: 4}


def test_what_is_being_set_aside_is_counted_once(recorder: Recorder) -> None:
    fill(recorder, 3)
    view = recorder.view()
    view.set_aside(recorder.epoch, 4, "refused")
    gone = [(recorder.epoch, RangeSet([(0, 12)]) - view.offers()[0].offered)]
    view.adopt_generation(77, gone)  # the stream broke before the next commit
    recorder.commit()
    view.adopt_generation(78, gone)  # or the commit came in between
    assert [(stone.first, stone.end, stone.reason) for stone in view.tombstones(10)] == [(4, 8, LossReason.CORRUPT)]
    assert recorder.stats().losses == {LossReason.CORRUPT: 4}


def test_hello_names_recent_epochs_and_those_with_something_to_send(recorder: Recorder) -> None:
    fill(recorder, 1)
    outbox = recorder._outbox
    with outbox.database.transaction():
        last = outbox.current()
        for _ in range(5000):
            last = outbox.mint(last)
        epochs = [row.epoch for row in outbox.epochs()]
        outbox.add_tombstone(Tombstone(epochs[7], 0, 0, LossReason.POWER_CUT, 3))
    view = recorder.view()
    assert [offer.epoch for offer in view.offers()] == [epochs[0], epochs[7], *epochs[-EPOCHS_RECENT:]]
    with outbox.database.transaction():
        outbox.database.connection.execute("UPDATE epochs SET next_seq = 1")
    named = [offer.epoch for offer in view.offers()]
    assert len(named) == EPOCHS_MAX
    assert named == epochs[: EPOCHS_MAX - EPOCHS_RECENT] + epochs[-EPOCHS_RECENT:]


def test_a_new_generation_is_durable_and_says_what_is_gone(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    recorder = gateway.start(SET)
    fill(recorder, 3)
    view = recorder.view()
    view.adopt_generation(76, [])
    view.acked(recorder.epoch, RangeSet([(0, 8)]))
    recorder.commit()
    for _ in range(2):  # told twice, recorded once
        view.adopt_generation(77, [(recorder.epoch, RangeSet([(0, 8)]))])
        epoch = recorder.epoch
        gateway.kill()
        recorder = gateway.start(SET)
        view = recorder.view()
        assert view.generation_seen() == 77
        assert [stone.key for stone in view.tombstones(10)] == [(epoch, 0, 8, LossReason.CLOUD_RESTORED)]


def test_a_huge_backlog_is_not_read_to_find_a_little(tmp_path: Path) -> None:
    """Days of backlog: looking for alarms, the newest atom or the offers must not pass all of it."""
    recorder = Gateway(tmp_path).start(SET)
    outbox = recorder._outbox
    row = outbox.current()
    with outbox.database.transaction() as connection:
        connection.executemany(
            "INSERT INTO atoms VALUES (?, ?, 100, 0, 0, ?)",
            (((row.number << 2 | 1) << 42 | at * 100, row.epoch, b"x" * 600) for at in range(40_000)),
        )
        connection.execute("UPDATE epochs SET next_seq = 4000000, atoms = 40000, cells = 4000000")
    view = recorder.view()
    view.offers()
    start = time.perf_counter()
    assert view.pending(row.epoch, *EVERYTHING, Priority.ALARM, RangeSet(), 1 << 18) == []
    assert list(view.offers()[0].offered) == [(0, 4_000_000)]
    assert spans(pending(view, start=3_999_000))[-1] == (3_999_900, 4_000_000)
    assert len(pending(view, RangeSet([(0, 3_000_000)]), 1 << 18)) == (1 << 18) // 600
    view.acked(row.epoch, RangeSet([(100, 4_000_000)]))
    assert spans(pending(view)) == [(0, 100)]
    assert time.perf_counter() - start < 0.25  # 4 ms measured; reading all of it takes some 100
    assert waiting(view)[0].first == 0
