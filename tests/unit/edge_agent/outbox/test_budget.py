"""The budget in bytes: kept, by giving up the oldest of the least dear, whole, never one under way, and saying so."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import OutboxFull
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import EVERYTHING, Gateway, noise, series_set, values, values_of, waiting
from wire.ranges import RangeSet
from wire.reading import LossReason, Priority

KIB = 1024
NORMAL = series_set(10, "normal")
LOW = series_set(10, "low")
ALARM = series_set(10, "alarm")
BUDGET = 2048 * KIB
OPTIONS = OutboxOptions(journal_bytes=128 * KIB, wal_bytes=256 * KIB, bytes_max=BUDGET, thins=False)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path, OPTIONS)


def start(gateway: Gateway) -> Recorder:
    recorder = gateway.start(NORMAL)
    recorder.register(LOW, Priority.LOW)
    recorder.register(ALARM, Priority.ALARM)
    return recorder


def test_the_file_stays_within_it_and_losses_are_told(gateway: Gateway) -> None:
    recorder = start(gateway)
    view = recorder.view()
    supply = noise(NORMAL, 20_000)
    for at in range(0, len(supply), 50):
        recorder.take(supply[at : at + 50])
        recorder.commit()
        assert recorder.stats().disk_bytes <= BUDGET
    atoms = waiting(view)
    stones = view.tombstones(10_000)
    assert {stone.reason for stone in stones} == {LossReason.EVICTED}
    gone = RangeSet((stone.first, stone.end) for stone in stones)
    assert list(gone) == [(0, atoms[0].first)]
    assert sum(stone.count for stone in stones) == atoms[0].first
    assert stones[0].span_first_us == 0
    assert values(atoms) == values_of(supply[atoms[0].first // 10 :])
    assert recorder.stats().losses == {LossReason.EVICTED: atoms[0].first}
    assert list(view.offers()[0].offered) == [(atoms[0].first, 200_000)]
    assert recorder.stats().atoms == len(atoms)


def kinds_of(recorder: Recorder) -> dict[Priority, int]:
    """How many atoms of each class; not by the view, which would count them as under way."""
    rows = recorder._outbox.database.connection.execute("SELECT id >> 42 & 3, count(*) FROM atoms GROUP BY 1")
    return dict.fromkeys(Priority, 0) | {Priority(kind): count for kind, count in rows}


def test_low_goes_first_then_normal_and_alarms_never(gateway: Gateway) -> None:
    recorder = start(gateway)
    for at in range(100):
        recorder.take([*noise(NORMAL, 80, at), *noise(LOW, 80, 1000 + at), *noise(ALARM, 20, 2000 + at)])
        recorder.commit()
    kinds = kinds_of(recorder)
    assert kinds[Priority.ALARM] == 100
    assert kinds[Priority.NORMAL] == 100
    assert 0 < kinds[Priority.LOW] < 100
    for at in range(200):
        recorder.take([*noise(NORMAL, 80, at), *noise(ALARM, 5, 3000 + at)])
        recorder.commit()
    kinds = kinds_of(recorder)
    assert kinds[Priority.ALARM] == 300
    assert kinds[Priority.LOW] == 0
    assert 0 < kinds[Priority.NORMAL] < 300


def test_what_is_under_way_stays(gateway: Gateway) -> None:
    recorder = start(gateway)
    view = recorder.view()
    supply = noise(NORMAL, 20_000)
    for at in range(0, 1000, 50):
        recorder.take(supply[at : at + 50])
        recorder.commit()
    under_way = view.pending(recorder.epoch, *EVERYTHING, None, RangeSet(), 20 * KIB)
    assert len(under_way) > 2
    for at in range(1000, len(supply), 50):
        recorder.take(supply[at : at + 50])
        recorder.commit()
    kept = {atom.first for atom in waiting(view)}
    assert {atom.first for atom in under_way} <= kept
    assert view.tombstones(1)[0].first == under_way[-1].end
    view.acked(recorder.epoch, RangeSet([(0, under_way[-1].end)]))
    recorder.commit()
    assert not {atom.first for atom in under_way} & {atom.first for atom in waiting(view)}


def test_a_budget_full_of_alarms_refuses(gateway: Gateway) -> None:
    recorder = start(gateway)

    def alarms() -> None:
        for at in range(1000):
            recorder.take(noise(ALARM, 50, at))
            recorder.commit()

    with pytest.raises(OutboxFull):
        alarms()
    assert recorder.stats().disk_bytes <= BUDGET
    assert recorder.stats().journal_ticks == 50


def test_a_smaller_budget_is_reached_in_steps(gateway: Gateway) -> None:
    gateway.options = OutboxOptions(journal_bytes=128 * KIB, wal_bytes=256 * KIB, bytes_max=64 << 20, thins=False)
    recorder = start(gateway)
    for at in range(300):
        recorder.take(noise(NORMAL, 100, at))
        recorder.commit()
    gateway.kill()
    gateway.options = OPTIONS
    recorder = start(gateway)
    recorder.take(noise(NORMAL, 1))
    recorder.commit()
    database = recorder._outbox.database
    assert database.used() <= BUDGET
    assert recorder.stats().atoms == len(waiting(recorder.view()))


def test_the_copy_of_a_damaged_outbox_counts_and_goes_first(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    recorder = start(gateway)
    damaged = gateway.state / "outbox.db.corrupt"
    damaged.write_bytes(bytes(600 * KIB))
    for at in range(220):
        recorder.take(noise(NORMAL, 50, at))
        recorder.commit()
        assert recorder.stats().disk_bytes <= BUDGET
    assert not damaged.exists()
    assert recorder.stats().losses == {}
    assert "the copy of a damaged outbox was deleted" in caplog.text
