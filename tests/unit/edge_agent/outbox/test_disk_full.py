"""A full disk: readings wait in the journal, acks and deletes commit all the same, a loss is counted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import OutboxFull
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import Gateway, noise, series_set, ticks, values, values_of, waiting
from wire.ranges import RangeSet
from wire.reading import LossReason, Tick

SET = series_set(20)
OPTIONS = OutboxOptions(journal_bytes=128 * 1024, wal_bytes=256 * 1024, bytes_max=64 << 20)


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    mount = tmp_path / "card"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tidegate-test", str(mount)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no small file system: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.fixture
def gateway(card: Path, tmp_path: Path) -> Iterator[Gateway]:
    class OnCard(Gateway):
        runtime = tmp_path / "run"  # type: ignore[assignment]

    gateway = OnCard(card, OPTIONS)
    yield gateway
    gateway.kill()


def take_until_full(recorder: Recorder) -> list[Tick]:
    """Commit until the disk refuses; everything taken, the refused commit's ticks included."""
    taken: list[Tick] = []
    supply = noise(SET, 40_000)

    def work() -> None:
        while True:
            batch = supply[len(taken) : len(taken) + 50]
            taken.extend(batch)
            recorder.take(batch)
            recorder.commit()

    with pytest.raises(OutboxFull, match=r"no room on the disk|database or disk is full"):
        work()
    return taken


def ballast(card: Path) -> Path:
    """Another program fills what is left."""
    path = card / "ballast"
    with path.open("wb") as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    os.write(file.fileno(), bytes(size))
            except OSError:
                continue
    return path


def test_acks_commit_and_what_waits_in_the_journal_follows(gateway: Gateway) -> None:
    recorder = gateway.start(SET)
    taken = take_until_full(recorder)
    stats = recorder.stats()
    assert stats.disk_full
    assert stats.commits_failed == 1
    assert stats.journal_ticks == 50
    view = recorder.view()
    before = waiting(view)
    assert values(before) == values_of(taken[:-50])
    with pytest.raises(OutboxFull):
        recorder.commit()  # nothing was acknowledged, so nothing changed
    view.acked(recorder.epoch, RangeSet([(0, before[20].first)]))
    report = recorder.commit()  # the room of what was acknowledged is enough
    assert report is not None
    assert report.settled == before[20].first
    assert report.end - report.first == 1000
    assert recorder.stats().journal_ticks == 0
    assert not recorder.stats().disk_full
    assert values(waiting(view)) == values_of(taken[before[20].first // 20 :])
    assert recorder.stats().losses == {}


def test_acks_commit_while_the_readings_cannot(gateway: Gateway, card: Path) -> None:
    """One small atom is acknowledged at a time, dozens of times, with another program taking every byte."""
    recorder = gateway.start(SET)
    view = recorder.view()
    small = ticks(SET, 120)
    for tick in small:
        recorder.take([tick])
        recorder.commit()
    taken = take_until_full(recorder)
    ballast(card)
    with pytest.raises(OutboxFull):
        recorder.commit()
    for at in range(100):
        view.acked(recorder.epoch, RangeSet([(at * 20, at * 20 + 20)]))
        try:
            recorder.commit()
        except OutboxFull:
            assert recorder.stats().journal_ticks >= 50
    assert recorder.stats().atoms == len(waiting(view))
    assert waiting(view)[0].first == 2000
    gateway.kill()
    recorder = gateway.start(SET)  # opening works on a full disk
    assert values(waiting(recorder.view()))[: 20 * 20] == values_of(small[100:])
    (card / "ballast").unlink()
    view = recorder.view()
    ready = waiting(view)[20:40]
    view.acked(recorder.epoch, RangeSet([(ready[0].first, ready[-1].end)]))
    recorder.commit()
    assert values(waiting(view)) == values_of(small[100:] + taken[1000:])
    assert recorder.stats().losses == {}


def test_a_full_ring_counts_what_is_lost_and_says_it_once_there_is_room(
    gateway: Gateway, card: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = gateway.start(SET)
    taken = take_until_full(recorder)
    ballast(card)
    more = noise(SET, 3000, seed=9)
    for tick in more:
        recorder.take([tick])
    assert recorder.stats().commits_failed == 1  # within a second of a failure no bus thread tries again
    held = recorder.stats().journal_ticks - 50
    assert 0 < held < len(more)
    assert [record.message for record in caplog.records if "being lost" in record.message].__len__() == 1
    gateway.kill()
    recorder = gateway.start(SET)  # the count survives the process
    (card / "ballast").unlink()
    (gateway.state / "outbox.reserve").unlink(missing_ok=True)
    view = recorder.view()
    for atom in waiting(view)[:200]:
        view.acked(atom.epoch, RangeSet([(atom.first, atom.end)]))
    recorder.commit()
    lost = (len(more) - held) * 20
    assert recorder.stats().losses == {LossReason.JOURNAL_FULL: lost}
    (stone,) = view.tombstones(5)
    assert (stone.first, stone.end, stone.count) == (stone.first, stone.first, lost)
    assert (stone.span_first_us, stone.span_last_us) == (held * 1000, (len(more) - 1) * 1000)
    assert set(values_of(taken[-50:] + more[:held])) <= set(values(waiting(view)))


def test_no_room_at_all_for_a_new_outbox_says_so(gateway: Gateway, card: Path) -> None:
    ballast(card)
    with pytest.raises(OutboxFull, match="df "):
        gateway.start(SET)
