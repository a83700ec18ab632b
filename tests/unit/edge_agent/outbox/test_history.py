"""What stays here after its acknowledgement: never offered, gone by its budget, its age, or for new room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.view import RecorderView
from tests.unit.edge_agent.outbox.parts import Gateway, noise, series_set, values, values_of, waiting
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority, Tick

KIB = 1024
SET, LOW = series_set(10, "normal"), series_set(10, "low")
OPTIONS = OutboxOptions(
    journal_bytes=256 * KIB,
    wal_bytes=256 * KIB,
    bytes_max=4096 * KIB,
    history_bytes=100 * KIB,
    history_age_s=3600.0,
    thins=False,
)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path, OPTIONS)


def start(gateway: Gateway) -> Recorder:
    recorder = gateway.start(SET)
    recorder.register(LOW, Priority.LOW)
    return recorder


def commit(gateway: Gateway, recorder: Recorder, count: int, seed: int = 0) -> list[Tick]:
    """So many atoms of about 4 kB."""
    taken: list[Tick] = []
    for at in range(count):
        gateway.clock.sleep(1)
        stamp = gateway.clock.boottime // 10**6
        batch = [replace(tick, stamp=stamp + tick.stamp) for tick in noise(SET, 50, 1000 * seed + at)]
        recorder.take(batch)
        recorder.commit()
        taken += batch
    return taken


def ack(recorder: Recorder, view: RecorderView, first: int, end: int) -> None:
    view.acked(recorder.epoch, RangeSet([(first, end)]))
    recorder.commit()


def kept(recorder: Recorder) -> list[int]:
    """First Seq of every atom in the file, owed or not."""
    rows = recorder._outbox.database.connection.execute("SELECT id & (1 << 42) - 1 FROM atoms ORDER BY 1")
    return [first for (first,) in rows]


def test_acked_atoms_stay_and_are_offered_no_more(gateway: Gateway) -> None:
    recorder = start(gateway)
    view = recorder.view()
    taken = commit(gateway, recorder, 6)
    ack(recorder, view, 0, 1500)
    ack(recorder, view, 0, 1500)  # twice counts once
    assert kept(recorder) == [0, 500, 1000, 1500, 2000, 2500]
    assert values(waiting(view)) == values_of(taken[150:])
    stats = recorder.stats()
    assert (stats.atoms, stats.cells, stats.history_atoms) == (3, 1500, 3)
    assert stats.bytes == sum(len(atom.data) for atom in waiting(view))
    assert stats.history_bytes == pytest.approx(stats.bytes, rel=0.01)
    assert stats.oldest_age_s == pytest.approx(2.0, abs=0.1)
    gateway.kill()
    recorder = start(gateway)
    assert values(waiting(recorder.view())) == values_of(taken[150:])
    assert recorder.stats().history_atoms == 3
    assert recorder.stats().losses == {}


def test_it_keeps_to_its_budget_oldest_first(gateway: Gateway) -> None:
    recorder = start(gateway)
    view = recorder.view()
    commit(gateway, recorder, 60)
    ack(recorder, view, 0, 25_000)
    assert recorder.stats().history_bytes <= 100 * KIB
    assert len(kept(recorder)) == recorder.stats().history_atoms + 10
    assert kept(recorder) == list(range(kept(recorder)[0], 30_000, 500))
    assert 15 < recorder.stats().history_atoms < 30


def test_its_age_is_boottime_and_no_clock_step_ends_it(gateway: Gateway) -> None:
    recorder = start(gateway)
    view = recorder.view()
    commit(gateway, recorder, 4)
    ack(recorder, view, 0, 1000)
    gateway.clock.offset += 10 * 365 * 86400 * 10**9
    commit(gateway, recorder, 1)
    assert recorder.stats().history_atoms == 2
    gateway.clock.sleep(3599)
    commit(gateway, recorder, 1)
    assert recorder.stats().history_atoms == 0
    assert recorder.stats().atoms == 4


def test_of_an_earlier_boot_it_is_as_old_as_this_boot(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 4)
    ack(recorder, recorder.view(), 0, 1000)
    gateway.reboot()
    recorder = start(gateway)
    commit(gateway, recorder, 1)
    assert recorder.stats().history_atoms == 2
    gateway.clock.sleep(3600)
    commit(gateway, recorder, 1)
    assert recorder.stats().history_atoms == 0


def test_it_is_the_first_to_make_room(gateway: Gateway) -> None:
    gateway.options = replace(OPTIONS, history_bytes=1 << 30, bytes_max=2048 * KIB)
    recorder = start(gateway)
    view = recorder.view()
    commit(gateway, recorder, 200)
    ack(recorder, view, 0, 90_000)
    assert recorder.stats().history_atoms == 180
    commit(gateway, recorder, 200, seed=1)
    assert recorder.stats().disk_bytes <= 2048 * KIB
    assert recorder.stats().losses == {}
    assert 0 < recorder.stats().history_atoms < 180
    assert recorder.stats().atoms == 220
    commit(gateway, recorder, 300, seed=2)
    assert recorder.stats().history_atoms == 0
    assert set(recorder.stats().losses) == {LossReason.EVICTED}


def test_classes_acknowledged_apart_are_settled_apart(gateway: Gateway) -> None:
    """Low and normal atoms lie between each other: history of one is no offer of the other."""
    recorder = start(gateway)
    view = recorder.view()
    for at in range(5):
        recorder.take([*noise(SET, 5, at), *noise(LOW, 5, 100 + at)])
        recorder.commit()
    for atom in waiting(view):
        if atom.priority is Priority.NORMAL:
            view.acked(atom.epoch, RangeSet([(atom.first, atom.end)]))
    recorder.commit()
    assert {atom.priority for atom in waiting(view)} == {Priority.LOW}
    assert (recorder.stats().atoms, recorder.stats().history_atoms) == (5, 5)
    backlog = recorder._outbox.database.connection.execute("SELECT priority, atoms, cells FROM backlog").fetchall()
    assert backlog == [(Priority.LOW, 5, 250)]


def test_without_a_budget_nothing_stays_and_what_stayed_goes(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 4)
    ack(recorder, recorder.view(), 0, 1000)
    gateway.kill()
    gateway.options = replace(OPTIONS, history_bytes=0)
    recorder = start(gateway)
    commit(gateway, recorder, 1)
    ack(recorder, recorder.view(), 1000, 1500)
    assert kept(recorder) == [1500, 2000]
    assert recorder.stats().history_bytes == 0


def test_a_cloud_put_back_from_a_backup_gets_it_again(gateway: Gateway) -> None:
    recorder = start(gateway)
    view = recorder.view()
    taken = commit(gateway, recorder, 10)
    ack(recorder, view, 0, 4000)
    view.adopt_generation(7, [(recorder.epoch, RangeSet([(1000, 3000)]))])
    assert list(view.offers()[0].offered) == [(1000, 3000), (4000, 5000)]
    assert values(waiting(view)) == values_of(taken[100:300] + taken[400:])
    assert view.tombstones(10) == []
    assert (recorder.stats().atoms, recorder.stats().history_atoms) == (6, 4)
    gateway.kill()
    gateway.options = replace(OPTIONS, history_bytes=0)
    recorder = start(gateway)
    commit(gateway, recorder, 1)
    view = recorder.view()
    view.adopt_generation(8, [(recorder.epoch, RangeSet([(0, 1000)]))])  # no history any more: lost, and told
    assert [(stone.first, stone.end, stone.reason) for stone in view.tombstones(10)] == [
        (0, 1000, LossReason.CLOUD_RESTORED)
    ]
