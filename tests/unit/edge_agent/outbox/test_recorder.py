"""Taking and committing: what is in the atoms, in which order, under which numbers."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from edge_agent.errors import StateBusy, StateUnusable
from edge_agent.outbox.encoder import ATOM_CELLS_MAX
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.lock import unusable
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from simulator.disk import State, watching
from tests.unit.edge_agent.outbox.parts import (
    EVERYTHING,
    Gateway,
    series_set,
    ticks,
    values,
    values_of,
    waiting,
)
from wire.codec import decode
from wire.ranges import RangeSet
from wire.reading import CellState, LossReason, Priority, Tick

SET = series_set(3)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_taken_is_journalled_and_committed_is_an_atom(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    view = recorder.view()
    taken = ticks(SET, 4)
    recorder.take(taken)
    assert list(Journal.scan(gateway.runtime / "journal.ring", recorder.outbox_id, 0)) == taken
    assert waiting(view) == []
    report = recorder.commit()
    assert report is not None
    assert (report.first, report.end, report.atoms, report.journal_lsn) == (0, 12, 1, 4)
    (atom,) = waiting(view)
    assert (atom.epoch, atom.first, atom.count, atom.priority) == (recorder.epoch, 0, 12, Priority.NORMAL)
    assert values([atom]) == values_of(taken)
    assert view.next_seq() == 12
    assert recorder.commit() is None


def test_one_atom_per_class_and_gaps_take_numbers(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    low, alarm = series_set(2, "low"), series_set(1, "alarm")
    recorder.register(low, Priority.LOW)
    recorder.register(alarm, Priority.ALARM)
    gap = Tick(SET.id, 5, (7, 0, 0), bytes([CellState.VALUE, CellState.TIMEOUT, CellState.ABSENT]))
    recorder.take([*ticks(low, 2), gap])
    recorder.take(ticks(alarm, 1))
    recorder.commit()
    view = recorder.view()
    atoms = {atom.priority: atom for atom in waiting(view)}
    assert {priority: atom.count for priority, atom in atoms.items()} == {
        Priority.ALARM: 1,
        Priority.NORMAL: 2,
        Priority.LOW: 4,
    }
    assert sorted((atom.first, atom.end) for atom in atoms.values()) == [(0, 1), (1, 3), (3, 7)]


def test_all_absent_ticks_take_no_number_but_leave_the_ring(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    recorder.take([Tick(SET.id, 5, (0, 0, 0), bytes([CellState.ABSENT] * 3))])
    recorder.commit()
    assert recorder.view().next_seq() == 0
    assert recorder.stats().journal_ticks == 0


def test_a_large_commit_is_cut_into_atoms(gateway: Gateway) -> None:
    gateway.options = OutboxOptions(journal_bytes=1 << 20, wal_bytes=1 << 18)
    wide = series_set(40)
    recorder = gateway.start(wide)
    taken = ticks(wide, 500)
    recorder.take(taken)
    recorder.commit()
    atoms = waiting(recorder.view())
    assert len(atoms) == 3
    assert all(atom.count <= ATOM_CELLS_MAX for atom in atoms)
    assert values(atoms) == values_of(taken)


def test_a_clock_step_parts_the_atoms(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    recorder.take(ticks(SET, 2))
    gateway.clock.offset += 3600 * 10**9
    recorder.take(ticks(SET, 2, start=2))
    recorder.commit()
    recorder.take(ticks(SET, 2, start=4))
    recorder.commit()
    anchors = [decode(atom.data).anchor for atom in waiting(recorder.view())]
    assert anchors[1].offset_us - anchors[0].offset_us == 3_600_000_000
    assert anchors[2] == anchors[1]


def test_a_restart_keeps_epoch_anchor_and_readings(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    epoch = recorder.epoch
    recorder.take(ticks(SET, 2))
    recorder.commit()
    recorder.take(ticks(SET, 3, start=2))
    gateway.kill()
    gateway.clock.sleep(60)
    recorder = gateway.start(SET)
    recorder.take(ticks(SET, 1, start=5))
    recorder.commit()
    atoms = waiting(recorder.view())
    assert recorder.epoch == epoch
    assert [(atom.first, atom.end) for atom in atoms] == [(0, 6), (6, 18)]
    assert values(atoms) == values_of(ticks(SET, 6))
    assert len({decode(atom.data).anchor for atom in atoms}) == 1
    assert recorder.stats().losses == {}


def test_a_record_damaged_in_the_ring_costs_itself_and_is_said(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    recorder.take(ticks(SET, 5))
    path = gateway.runtime / "journal.ring"
    gateway.kill()
    data = bytearray(path.read_bytes())
    data[4096 + 2 * 104 + 90] ^= 1  # the third record of 104 bytes
    path.write_bytes(data)
    recorder = gateway.start(SET)
    recorder.commit()
    assert values(waiting(recorder.view())) == values_of(ticks(SET, 2) + ticks(SET, 2, start=3))
    assert recorder.stats().losses == {LossReason.CORRUPT: 3}


def test_an_alarm_commits_at_once_and_raises_its_context(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    woken: list[int] = []
    recorder.wake = lambda: woken.append(1)
    now = gateway.clock.boottime
    recorder.take(ticks(SET, 1))
    assert not woken
    assert not recorder.due(now + 2 * 10**9)
    recorder.alarm()
    assert woken
    assert recorder.due(now + 2 * 10**9)
    recorder.commit()
    assert [atom.priority for atom in waiting(recorder.view())] == [Priority.ALARM]
    assert not recorder.due(now + 10**9)


def test_a_ring_that_fills_wakes_the_writer_and_commits_itself(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    woken: list[int] = []
    recorder.wake = lambda: woken.append(1)
    taken = ticks(SET, 2000)
    for tick in taken:
        recorder.take([tick])
    assert woken
    recorder.commit()
    assert recorder.stats().commits > 2
    assert values(waiting(recorder.view())) == values_of(taken)
    assert recorder.stats().losses == {}


def test_definitions_are_durable_before_the_first_tick(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    gateway.kill()
    recorder = gateway.start()
    assert recorder.view().series_sets([SET.id, 5]) == [SET]
    assert recorder.view().series_sets_in_use() == ()
    recorder.register(SET)
    assert recorder.view().series_sets_in_use() == (SET.id,)


def test_an_unregistered_tick_is_refused(gateway: Gateway) -> None:
    recorder = gateway.start()
    with pytest.raises(ValueError, match="not registered"):
        recorder.take(ticks(SET, 1))


def test_many_threads_take_while_one_commits(gateway: Gateway) -> None:
    gateway.options = OutboxOptions(journal_bytes=1 << 20, wal_bytes=1 << 18)
    sets = [series_set(2, f"bus-{at}") for at in range(4)]
    recorder = gateway.start(*sets)
    done = threading.Event()

    def bus(of: int) -> None:
        for tick in ticks(sets[of], 300, start=1000 * of):
            recorder.take([tick])

    def writer() -> None:
        while not done.is_set():
            recorder.commit()

    threads = [threading.Thread(target=bus, args=(at,)) for at in range(4)]
    committing = threading.Thread(target=writer)
    committing.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    committing.join()
    recorder.commit()
    expected = [tick for at in range(4) for tick in ticks(sets[at], 300, start=1000 * at)]
    atoms = waiting(recorder.view())
    assert values(atoms) == values_of(expected)
    covered = RangeSet((atom.first, atom.end) for atom in atoms)
    assert list(covered) == [(0, 2400)]
    assert sum(atom.count for atom in atoms) == 2400


def test_a_second_agent_is_told_who_is_there(gateway: Gateway) -> None:
    gateway.start(SET)
    with pytest.raises(StateBusy, match=r"in use by process \d+"):
        Recorder.open(gateway.state, gateway.root / "elsewhere", gateway.clock, "boot-1", "machine-1")
    with pytest.raises(StateBusy, match="in use by process"):
        Recorder.open(gateway.root / "elsewhere", gateway.runtime, gateway.clock, "boot-1", "machine-1")
    gateway.kill()
    gateway.start(SET)


def test_directories_that_cannot_be_used_say_how_to_mend_them(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    gateway = Gateway(blocked)
    with pytest.raises(StateUnusable, match="a file is in the way"):
        gateway.start(SET)


@pytest.mark.parametrize(("number", "fix"), [(errno.EACCES, "chown -R"), (errno.EROFS, "mount -o remount,rw")])
def test_what_helps_is_told_by_what_is_wrong(number: int, fix: str) -> None:
    said = str(unusable(Path("/var/lib/edge-agent"), OSError(number, os.strerror(number))))
    assert said.startswith(f"/var/lib/edge-agent: {os.strerror(number)}. Try: ")
    assert fix in said


def test_a_newer_version_is_left_alone(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    connection = recorder._outbox.database.connection
    connection.execute("PRAGMA user_version = 99")
    connection.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('outbox', 'newer', '')"
    )
    gateway.kill()
    before = gateway.database.read_bytes()
    with pytest.raises(StateUnusable, match="schema version 99, this agent knows 4"):
        gateway.start(SET)
    assert gateway.database.read_bytes() == before


def test_stats_tell_how_much_and_how_old(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    gateway.clock.sleep(1)
    stamp = gateway.clock.boottime // 10**6
    recorder.take([Tick(SET.id, stamp, (1, 2, 3))])
    assert recorder.stats().oldest_age_s is None
    assert recorder.stats().journal_ticks == 1
    recorder.commit()
    gateway.clock.sleep(30)
    stats = recorder.stats()
    assert (stats.atoms, stats.cells, stats.next_seq, stats.epochs) == (1, 3, 3, 1)
    assert stats.bytes == len(waiting(recorder.view())[0].data)
    assert stats.oldest_age_s == pytest.approx(30, abs=0.01)
    assert stats.last_commit_age_s == pytest.approx(30)
    assert stats.power_cut_window_s == 5.0
    assert stats.disk_bytes >= 256 * 1024
    recorder.view().acked(recorder.epoch, RangeSet([EVERYTHING]))
    recorder.commit()
    assert (recorder.stats().atoms, recorder.stats().oldest_age_s) == (0, None)


def test_close_commits(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    recorder.take(ticks(SET, 2))
    recorder.close()
    gateway.recorder = None
    recorder = gateway.start()
    assert values(waiting(recorder.view())) == values_of(ticks(SET, 2))
    assert recorder.stats().journal_ticks == 0


def test_the_power_cut_window_knows_what_a_killed_process_left(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    recorder.take([Tick(SET.id, gateway.clock.boottime // 10**6, (1, 2, 3))])
    gateway.kill()
    gateway.clock.sleep(40)
    assert gateway.start(SET).stats().power_cut_window_s == pytest.approx(40, abs=0.001)


def test_the_power_cut_window_is_what_a_cut_would_cost(gateway: Gateway) -> None:
    """One interval, and while commits fail everything since; what a killed process left is due at once."""
    with watching() as make_disk:
        disk = make_disk(gateway.state)
        recorder = gateway.start(SET)
        recorder.take(ticks(SET, 1))
        gateway.clock.sleep(3)
        recorder.take(ticks(SET, 1, 1))
        disk.state = State.FAILING
        gateway.clock.sleep(60)
        with pytest.raises(StateUnusable, match="disk I/O error"):
            recorder.commit()
        assert recorder.stats().power_cut_window_s == 63.0
        disk.mend()
        gateway.kill()
        recorder = gateway.start(SET)
        assert recorder.due(gateway.clock.boottime_ns())
        recorder.commit()
        assert recorder.stats().power_cut_window_s == 5.0
        gateway.kill()
