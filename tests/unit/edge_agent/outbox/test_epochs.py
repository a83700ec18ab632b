"""Which epoch goes on, and what a start says of the last one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.edge_agent.outbox.parts import Gateway, Hands, series_set, ticks, values, values_of, waiting
from wire.codec import decode
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority

SET = series_set(2)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def work(gateway: Gateway, commits: int, start: int = 0) -> None:
    assert gateway.recorder is not None
    for at in range(start, start + commits):
        gateway.clock.sleep(5)
        gateway.recorder.take(ticks(SET, 5, start=5 * at))
        gateway.recorder.commit()


def close(gateway: Gateway) -> None:
    assert gateway.recorder is not None
    gateway.recorder.close()
    gateway.recorder = None


def test_a_restart_goes_on_and_a_reboot_begins_anew(gateway: Gateway) -> None:
    first = gateway.start(SET).epoch
    work(gateway, 2)
    close(gateway)
    assert gateway.start(SET).epoch == first
    close(gateway)
    gateway.reboot()
    recorder = gateway.start(SET)
    assert recorder.epoch != first
    old, new = recorder.view().offers()
    assert (old.epoch, old.next_seq, list(old.offered)) == (first, 20, [(0, 20)])
    assert (new.epoch, new.next_seq, new.predecessor, new.predecessor_next_seq) == (recorder.epoch, 0, first, 20)
    assert recorder.stats().losses == {}


def test_old_epochs_drain_under_their_own_names(gateway: Gateway) -> None:
    epochs = []
    for boot in range(3):
        epochs.append(gateway.start(SET).epoch)
        work(gateway, 1, start=boot)
        close(gateway)
        gateway.reboot()
    recorder = gateway.start(SET)
    view = recorder.view()
    assert [atom.epoch for atom in waiting(view)] == epochs
    assert values(waiting(view)) == values_of(ticks(SET, 15))
    view.acked(epochs[1], RangeSet([(0, 10)]))
    recorder.commit()
    assert [atom.epoch for atom in waiting(view)] == [epochs[0], epochs[2]]
    assert [offer.epoch for offer in view.offers()] == [*epochs, recorder.epoch]


def test_a_power_cut_leaves_an_estimate(gateway: Gateway) -> None:
    gateway.start(SET)
    work(gateway, 4)  # 10 cells each 5 s
    epoch = gateway.recorder.epoch  # type: ignore[union-attr]
    gateway.recorder.take(ticks(SET, 3, start=20))  # type: ignore[union-attr]
    gateway.reboot()
    recorder = gateway.start(SET)
    (stone,) = recorder.view().tombstones(10)
    assert (stone.epoch, stone.first, stone.end, stone.reason, stone.count) == (epoch, 40, 40, LossReason.POWER_CUT, 10)
    assert recorder.view().offers()[1].predecessor_next_seq == 40
    assert values(waiting(recorder.view())) == values_of(ticks(SET, 20))


def test_a_journal_lost_without_a_reboot_is_told_too(gateway: Gateway) -> None:
    epoch = gateway.start(SET).epoch
    work(gateway, 1)
    gateway.kill()
    shutil.rmtree(gateway.runtime)
    recorder = gateway.start(SET)
    (stone,) = recorder.view().tombstones(10)
    assert (stone.epoch, stone.reason) == (epoch, LossReason.POWER_CUT)


def test_an_older_file_without_a_ring_gives_no_number_twice(gateway: Gateway) -> None:
    """A copy put back while the agent was down, its runtime directory gone: the file alone looks as it should."""
    first = gateway.start(SET).epoch
    work(gateway, 1)
    close(gateway)
    shutil.copytree(gateway.state, gateway.root / "old")
    gateway.start(SET)
    work(gateway, 3, start=1)
    close(gateway)
    shutil.rmtree(gateway.state)
    shutil.rmtree(gateway.runtime)
    (gateway.root / "old").rename(gateway.state)
    recorder = gateway.start(SET)
    work(gateway, 1, start=9)
    old, new = recorder.view().offers()
    assert (old.epoch, list(old.offered)) == (first, [(0, 10)])
    assert (list(new.offered), new.predecessor, new.predecessor_next_seq) == ([(0, 10)], first, None)
    assert recorder.stats().losses == {}


def test_a_cloned_card_begins_its_own_epoch_and_claims_no_loss(gateway: Gateway, tmp_path: Path) -> None:
    first = gateway.start(SET).epoch
    work(gateway, 2)
    gateway.kill()
    clone = Gateway(tmp_path / "clone")
    shutil.copytree(gateway.state, clone.state)
    clone.machine, clone.boot = "machine-2", 1
    recorder = clone.start(SET)
    assert recorder.epoch != first
    assert [offer.epoch for offer in recorder.view().offers()] == [first, recorder.epoch]
    assert recorder.view().tombstones(10) == []


def test_a_card_that_lied_does_not_give_numbers_twice(gateway: Gateway) -> None:
    """The file at the next boot is older than what was sent: its epoch gives no more numbers."""
    first = gateway.start(SET).epoch
    work(gateway, 1)
    close(gateway)
    shutil.copytree(gateway.state, gateway.root / "old")
    gateway.start(SET)
    work(gateway, 3, start=1)
    close(gateway)
    shutil.rmtree(gateway.state)
    (gateway.root / "old").rename(gateway.state)
    gateway.reboot()
    recorder = gateway.start(SET)
    work(gateway, 1, start=9)
    assert recorder.epoch != first
    assert {atom.epoch for atom in waiting(recorder.view()) if atom.first < 10} == {first, recorder.epoch}


def test_a_file_older_than_the_ring_gives_no_number_twice(gateway: Gateway) -> None:
    """Within one boot the ring knows how far the outbox was: a file that fell back must not go on from there."""
    first = gateway.start(SET).epoch
    work(gateway, 1)
    close(gateway)
    shutil.copytree(gateway.state, gateway.root / "old")
    gateway.start(SET)
    work(gateway, 3, start=1)
    close(gateway)
    shutil.rmtree(gateway.state)
    (gateway.root / "old").rename(gateway.state)
    recorder = gateway.start(SET)
    assert recorder.epoch != first
    assert recorder.view().offers()[-1].predecessor_next_seq is None
    assert recorder.stats().journal_ticks == 0  # what was committed once is not committed again
    (stone,) = recorder.view().tombstones(10)
    assert (stone.epoch, stone.reason) == (first, LossReason.CORRUPT)


def test_numbers_used_twice_move_to_a_new_epoch(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    work(gateway, 1)
    close(gateway)
    recorder = gateway.start(SET)
    first = recorder.epoch
    work(gateway, 3, start=1)
    recorder.take(ticks(SET, 1, start=20))
    view = recorder.view()
    view.acked(first, RangeSet([(10, 20)]))
    view.begin_epoch(RangeSet([(0, 30), (60, 100)]))
    assert recorder.epoch != first
    old, new = view.offers()
    assert (old.next_seq, list(old.offered)) == (100, [(0, 10)])
    assert (new.next_seq, list(new.offered), new.predecessor, new.predecessor_next_seq) == (22, [(0, 22)], first, None)
    atoms = waiting(view)
    assert [(atom.epoch, atom.first, atom.end) for atom in atoms] == [
        (first, 0, 10),
        (recorder.epoch, 0, 10),
        (recorder.epoch, 10, 20),
        (recorder.epoch, 20, 22),
    ]
    assert [decode(atom.data).atoms[0].first for atom in atoms] == [atom.first for atom in atoms]
    expected = ticks(SET, 5) + ticks(SET, 10, start=10) + ticks(SET, 1, start=20)
    assert values(atoms) == values_of(expected)
    (stone,) = view.tombstones(10)
    assert stone.key == (first, 30, 60, LossReason.HOLE)
    work(gateway, 1, start=9)
    gateway.kill()
    recorder = gateway.start(SET)
    assert values(waiting(recorder.view())) == values_of(expected + ticks(SET, 5, start=45))


def test_numbers_over_the_cloud_s_move_too_and_leave_no_number_open(gateway: Gateway) -> None:
    """A message has told the cloud of them: without a word they would be pending in its ledger for ever."""
    gateway.start(SET)
    work(gateway, 1)
    close(gateway)
    recorder = gateway.start(SET)
    first = recorder.epoch
    work(gateway, 3, start=1)
    view = recorder.view()
    view.begin_epoch(RangeSet([(0, 15)]))
    old, new = view.offers()
    assert (old.next_seq, list(old.offered), list(new.offered)) == (40, [(0, 10)], [(0, 30)])
    (stone,) = view.tombstones(10)
    assert (stone.key, stone.count) == ((first, 15, 40, LossReason.HOLE), 0)
    assert not any(recorder.stats().losses.values())


def test_a_hole_becomes_a_tombstone(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    work(gateway, 4)
    view = recorder.view()
    view.acked(recorder.epoch, RangeSet([(10, 20)]))
    recorder.commit()
    outbox = recorder._outbox
    with outbox.database.transaction() as connection:
        ((size,),) = connection.execute("SELECT length(data) FROM atoms WHERE id & (1 << 42) - 1 = 20")
        connection.execute("DELETE FROM atoms WHERE id & (1 << 42) - 1 = 20")
        outbox.count(outbox.current().number, Priority.NORMAL, -1, -10, -size)
    gateway.kill()
    recorder = gateway.start(SET)
    (stone,) = recorder.view().tombstones(10)
    assert stone.key == (recorder.epoch, 20, 30, LossReason.HOLE)
    assert list(recorder.view().offers()[0].offered) == [(0, 10), (30, 40)]
    gateway.kill()
    assert len(gateway.start(SET).view().tombstones(10)) == 1


def test_ages_go_by_boottime(gateway: Gateway) -> None:
    gateway.clock = Hands(boottime_s=1000)
    gateway.start(SET)
    work(gateway, 1)
    gateway.clock.offset -= 10**18  # the wall clock falls back thirty years
    assert gateway.recorder.stats().oldest_age_s == pytest.approx(1005)  # type: ignore[union-attr]
    close(gateway)
    gateway.reboot()
    gateway.clock.boottime = 50 * 10**9
    assert gateway.start(SET).stats().oldest_age_s == 50
