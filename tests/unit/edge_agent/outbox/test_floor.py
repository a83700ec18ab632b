"""The floor of free space on the disk: the file stops growing there, and the least dear makes room for the newest."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.errors import OutboxFull
from tests.unit.edge_agent.outbox.parts import Gateway, noise, series_set, ticks, waiting
from tests.unit.edge_agent.outbox.test_disk_full import OPTIONS, ballast, card, gateway
from wire.reading import LossReason

__all__ = ["card", "gateway"]

SET = series_set(20)
FLOOR = 150 * 1024


def free(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


@pytest.fixture
def floored(gateway: Gateway) -> Gateway:
    gateway.options = replace(OPTIONS, floor_bytes=FLOOR, thins=False)
    return gateway


def test_the_newest_is_kept_and_the_floor_stays_free(floored: Gateway, card: Path) -> None:
    recorder = floored.start(SET)
    supply = noise(SET, 30_000)
    for at in range(0, len(supply), 50):
        recorder.take(supply[at : at + 50])
        recorder.commit()
        assert free(card) >= FLOOR - 64 * 1024, "the file grew into the floor"
    stats = recorder.stats()
    assert not stats.disk_full
    assert set(stats.losses) == {LossReason.EVICTED}
    assert stats.disk_bytes_max < 3 << 20
    atoms = waiting(recorder.view())
    assert atoms[-1].end == 600_000
    assert stats.losses[LossReason.EVICTED] == atoms[0].first


def test_another_program_s_full_disk_is_bridged_by_the_journal_first(floored: Gateway, card: Path) -> None:
    recorder = floored.start(SET)
    for at in range(50):
        recorder.take(noise(SET, 50, at))
        recorder.commit()
    ballast(card)
    held = noise(SET, 40, 99)
    recorder.take(held)
    with pytest.raises(OutboxFull):
        recorder.commit()
    assert recorder.stats().disk_full
    assert recorder.stats().losses == {}
    (card / "ballast").unlink()
    recorder.commit()
    assert recorder.stats().losses == {}
    assert recorder.stats().journal_ticks == 0


def test_a_journal_that_cannot_wait_makes_the_oldest_go(floored: Gateway, card: Path) -> None:
    recorder = floored.start(SET)
    for at in range(100):
        recorder.take(noise(SET, 50, at))
        recorder.commit()
    ballast(card)
    refused = 0
    for at in range(60):
        floored.clock.sleep(2)
        recorder.take(noise(SET, 20, 1000 + at))
        try:
            recorder.commit()
        except OutboxFull:
            refused += 1
    assert refused > 5
    stats = recorder.stats()
    assert set(stats.losses) == {LossReason.EVICTED}
    assert stats.journal_fill < 0.6
    assert stats.next_seq > 100 * 50 * 20
    assert waiting(recorder.view())[0].first == stats.losses[LossReason.EVICTED]


def test_a_floor_larger_than_a_small_disk_is_cut(floored: Gateway) -> None:
    floored.options = replace(OPTIONS, floor_bytes=1 << 40)
    recorder = floored.start(SET)
    recorder.take(ticks(SET, 5))
    recorder.commit()
    assert recorder.stats().losses == {}
    assert recorder.stats().disk_bytes_max > recorder.stats().disk_bytes
