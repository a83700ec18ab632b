"""Damaged files: whatever is hit, the agent starts by itself, keeps what proves itself and says what is gone."""

from __future__ import annotations

import errno
import logging
import os
import random
import sqlite3
from pathlib import Path

import pytest

from edge_agent.errors import OutboxCorrupt, StateUnusable
from edge_agent.outbox.carve import carve
from edge_agent.outbox.database import PAGE_BYTES, Database
from edge_agent.outbox.keys import first_of
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.salvage import finish, salvage
from tests.unit.edge_agent.outbox.parts import Gateway, noise, series_set, ticks, values, values_of, waiting
from wire.ranges import RangeSet
from wire.reading import LossReason, Tick

SET = series_set(20)
PER_COMMIT = 10
COMMITS = 40


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def filled(gateway: Gateway, *, closed: bool = True) -> tuple[int, list[Tick]]:
    """An outbox with some 300 pages of backlog; its epoch and what was taken."""
    recorder = gateway.start(SET)
    taken = noise(SET, COMMITS * PER_COMMIT)
    for at in range(COMMITS):
        recorder.take(taken[at * PER_COMMIT : (at + 1) * PER_COMMIT])
        recorder.commit()
    epoch = recorder.epoch
    if closed:
        recorder.close()
        gateway.recorder = None
    return epoch, taken


def accounted(recorder: Recorder, epoch: int, taken: list[Tick]) -> None:
    """Every Seq of the old epoch is offered with the right values, or a tombstone names it; nothing twice."""
    view = recorder.view()
    atoms = [atom for atom in waiting(view) if atom.epoch == epoch]
    have = RangeSet((atom.first, atom.end) for atom in atoms)
    assert have.count == sum(atom.count for atom in atoms)
    gone = RangeSet((stone.first, stone.end) for stone in view.tombstones(10_000) if stone.epoch == epoch)
    assert not have & gone
    total = len(taken) * len(SET.series)
    assert (have | gone).count == total, f"{have} and {gone} of {total}"
    kept = [tick for at, tick in enumerate(taken) if have.contains(at * 20, at * 20 + 20)]
    assert values(atoms) == values_of(kept)
    offers = {offer.epoch: offer for offer in view.offers()}
    assert offers[epoch].next_seq == total
    assert offers[epoch].offered == have
    assert view.offers()[-1].epoch != epoch
    assert view.offers()[-1].predecessor_next_seq is None


@pytest.mark.parametrize("keep", [0.98, 0.6, 0.25])
def test_a_truncated_file(gateway: Gateway, keep: float, caplog: pytest.LogCaptureFixture) -> None:
    epoch, taken = filled(gateway)
    data = gateway.database.read_bytes()
    gateway.database.write_bytes(data[: int(len(data) * keep) // PAGE_BYTES * PAGE_BYTES])
    with caplog.at_level(logging.ERROR):
        recorder = gateway.start(SET)
    accounted(recorder, epoch, taken)
    assert sum(recorder.stats().losses.values()) > 0
    assert set(recorder.stats().losses) == {LossReason.CORRUPT}
    assert [record.message for record in caplog.records if "damaged file is kept" in record.message]
    assert (gateway.state / "outbox.db.corrupt").exists()
    recorder.take(ticks(SET, 1))
    recorder.commit()
    gateway.kill()
    caplog.clear()
    gateway.start(SET)
    assert not caplog.records  # said once


def test_pages_of_garbage(gateway: Gateway) -> None:
    """One page at a time, each kind of page among them; only the first is told apart below."""
    epoch, taken = filled(gateway)
    data = gateway.database.read_bytes()
    chance = random.Random(4)
    pages = len(data) // PAGE_BYTES
    epochs_page = page_of(gateway.database, "epochs")
    meta_page = page_of(gateway.database, "meta")
    hit = sorted(set(chance.sample(range(2, pages + 1), 12)) - {epochs_page, meta_page})
    for number in hit:
        damaged = bytearray(data)
        damaged[(number - 1) * PAGE_BYTES : number * PAGE_BYTES] = chance.randbytes(PAGE_BYTES)
        gateway.database.write_bytes(damaged)
        recorder = gateway.start(SET)
        if recorder.epoch == epoch:  # a page that nothing uses, or only atoms' data: met when it is read
            offered = waiting(recorder.view())
            assert sum(atom.count for atom in offered) == len(taken) * 20
        else:
            accounted(recorder, epoch, taken)
        gateway.kill()
        for left in gateway.state.iterdir():
            left.unlink()


def page_of(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    connection.close()
    return int(page)


@pytest.mark.parametrize("table", ["header", "epochs", "meta", "settled", "series_sets", "atoms"])
def test_a_destroyed_root_page_keeps_every_atom(gateway: Gateway, table: str) -> None:
    epoch, taken = filled(gateway)
    page = 1 if table == "header" else page_of(gateway.database, table)
    data = bytearray(gateway.database.read_bytes())
    data[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = b"\xa5" * PAGE_BYTES
    gateway.database.write_bytes(data)
    recorder = gateway.start(SET)
    atoms = waiting(recorder.view())
    assert {atom.epoch for atom in atoms} == {epoch}
    assert values(atoms) == values_of(taken)
    assert recorder.epoch != epoch
    assert recorder.view().series_sets([SET.id]) == [SET]


def test_what_the_journal_holds_survives_a_destroyed_file(gateway: Gateway) -> None:
    """SIGKILL and damage at once: the ring knows whose it is and how far it was committed."""
    epoch, taken = filled(gateway, closed=False)
    assert gateway.recorder is not None
    rest = ticks(SET, 7, start=5000)
    gateway.recorder.take(rest)
    gateway.kill()
    for name in ("outbox.db", "outbox.db-wal"):
        path = gateway.state / name
        path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    recorder = gateway.start(SET)
    recorder.commit()
    atoms = waiting(recorder.view())
    assert {atom.epoch for atom in atoms} == {epoch, recorder.epoch}
    assert values(atoms) == values_of(taken + rest)


def test_the_wal_is_salvaged_too(gateway: Gateway, tmp_path: Path) -> None:
    """As a power cut leaves it: what is committed stands in the WAL alone."""
    filled(gateway, closed=False)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("outbox.db", "outbox.db-wal"):
        (copy / name).write_bytes((gateway.state / name).read_bytes())
    found = {first_of(row.id) for row in carve(copy / "outbox.db")}
    assert {at * PER_COMMIT * 20 for at in range(COMMITS)} <= found
    database = sqlite3.connect(copy / "outbox.db")
    assert database.execute("SELECT count(*) FROM atoms").fetchone() == (COMMITS,)
    database.close()


@pytest.mark.parametrize(
    "content", [b"not a database at all, but quite long enough to look like one" * 40, b"\0" * 8192]
)
def test_a_file_that_is_no_outbox_is_set_aside(gateway: Gateway, content: bytes) -> None:
    gateway.state.mkdir(parents=True)
    gateway.database.write_bytes(content)
    recorder = gateway.start(SET)
    recorder.take(ticks(SET, 1))
    recorder.commit()
    assert values(waiting(recorder.view())) == values_of(ticks(SET, 1))
    assert (gateway.state / "outbox.db.corrupt").read_bytes() == content


@pytest.mark.parametrize("content", [b"not a database at all" * 400, b""], ids=["damaged", "input-output-error"])
def test_a_failed_opening_leaves_no_file_open(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "posix_fallocate", failing)
    path = tmp_path / "outbox.db"
    path.write_bytes(content)
    with pytest.raises((OutboxCorrupt, StateUnusable)) as caught:
        Database(path, OutboxOptions())
    assert [name for name in open_files() if name.startswith(str(tmp_path))] == []
    assert caught.tb is not None  # until here it held every local


def open_files() -> list[str]:
    entries = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [os.readlink(entry) for entry in entries if entry.is_symlink()]


def test_another_programs_database_is_set_aside(gateway: Gateway) -> None:
    gateway.state.mkdir(parents=True)
    with sqlite3.connect(gateway.database) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    gateway.start(SET)
    assert (gateway.state / "outbox.db.corrupt").exists()


def test_an_empty_file_is_a_new_outbox(gateway: Gateway) -> None:
    gateway.state.mkdir(parents=True)
    gateway.database.touch()
    gateway.start(SET)
    assert not (gateway.state / "outbox.db.corrupt").exists()


@pytest.mark.parametrize("wal", [True, False])
def test_a_file_cut_to_nothing_is_damage(gateway: Gateway, wal: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What stands in the WAL and what the journal holds survive it, and it is told."""
    taken, rest = noise(SET, 30), ticks(SET, 7, start=5000)
    recorder = gateway.start(SET)
    recorder.take(taken)
    recorder.commit()
    recorder.take(rest)
    beside = gateway.database.with_name("outbox.db-wal")
    frames = beside.read_bytes()
    gateway.kill()  # which empties the WAL, as a SIGKILL does not
    gateway.database.write_bytes(b"")
    beside.write_bytes(frames if wal else b"")
    recorder = gateway.start(SET)
    recorder.commit()
    assert values(waiting(recorder.view())) == values_of((taken if wal else []) + rest)
    assert "empty, and it was not" in caplog.text


def test_acked_readings_are_not_called_lost(gateway: Gateway) -> None:
    epoch, taken = filled(gateway, closed=False)
    assert gateway.recorder is not None
    view = gateway.recorder.view()
    view.acked(epoch, RangeSet([(0, 2000), (3000, 4000)]))
    gateway.recorder.commit()
    gateway.recorder.close()
    data = bytearray(gateway.database.read_bytes())
    page = page_of(gateway.database, "atoms")
    data[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = bytes(PAGE_BYTES)
    gateway.database.write_bytes(data)
    recorder = gateway.start(SET)
    offers = {offer.epoch: offer.offered for offer in recorder.view().offers()}
    assert list(offers[epoch]) == [(2000, 3000), (4000, 8000)]
    assert recorder.view().tombstones(10) == []
    assert values(waiting(recorder.view())) == values_of(taken[100:150] + taken[200:])


def test_a_crash_during_salvage_is_made_good(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop before each rename and unlink; the next start goes on from there."""
    epoch, taken = filled(gateway, closed=False)
    gateway.kill()
    page = page_of(gateway.database, "atoms")
    data = bytearray(gateway.database.read_bytes())
    data[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = bytes(PAGE_BYTES)
    gateway.database.write_bytes(data)
    real = os.replace
    for stop in (0, 1, 1):
        calls = 0

        def replace(source: Path, target: Path, stop: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls > stop:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            gateway.start(SET)
        monkeypatch.setattr(os, "replace", real)
    assert not gateway.database.exists()
    recorder = gateway.start(SET)
    assert values(waiting(recorder.view())) == values_of(taken)
    assert {atom.epoch for atom in waiting(recorder.view())} == {epoch}


def test_damage_met_at_run_time_is_salvaged_at_the_next_start(gateway: Gateway) -> None:
    """A file too large to be checked whole is believed until a bad page is met."""
    gateway.options = OutboxOptions(journal_bytes=1 << 16, wal_bytes=1 << 18, check_bytes_max=0)
    epoch, taken = filled(gateway)
    data = bytearray(gateway.database.read_bytes())
    start = len(data) // 2 // PAGE_BYTES * PAGE_BYTES
    data[start : start + 40 * PAGE_BYTES] = b"\xff" * (40 * PAGE_BYTES)
    gateway.database.write_bytes(data)
    recorder = gateway.start(SET)
    assert recorder.epoch == epoch
    recorder.take(ticks(SET, 1))
    with pytest.raises(OutboxCorrupt):
        waiting(recorder.view())
    gateway.kill()
    recorder = gateway.start(SET)
    assert recorder.epoch != epoch
    recorder.commit()
    losses = recorder.stats().losses
    assert set(losses) == {LossReason.CORRUPT}
    found = sum(atom.count for atom in waiting(recorder.view()))
    assert found + losses[LossReason.CORRUPT] == len(taken) * 20 + 20


def test_finish_without_a_salvaged_file_does_nothing(gateway: Gateway) -> None:
    filled(gateway)
    before = gateway.database.read_bytes()
    finish(gateway.database)
    assert gateway.database.read_bytes() == before
    salvage(gateway.database, gateway.options, "asked by a test")  # a healthy file loses nothing
    assert len(waiting(gateway.start(SET).view())) == COMMITS


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE series_sets SET definition = replace(definition, 'Cel', 'Cem')",
        "UPDATE series_sets SET definition = substr(definition, 2)",
        "UPDATE series_sets SET definition = CAST(x'7bee22' AS TEXT)",
        "UPDATE meta SET value = CAST(x'ee22' AS TEXT) WHERE key = 'boot'",
    ],
    ids=["other-unit", "no-json", "no-utf-8", "meta"],
)
def test_damaged_words(gateway: Gateway, damage: str) -> None:
    """SQLite finds nothing wrong with such a file; what it says of itself proves that it is damaged."""
    epoch, taken = filled(gateway)
    with sqlite3.connect(gateway.database) as connection:
        connection.execute(damage)
    connection.close()
    recorder = gateway.start(SET)
    accounted(recorder, epoch, taken)
    assert recorder.stats().losses == {}
    assert recorder.view().series_sets([SET.id]) == [SET]
