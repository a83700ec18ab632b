"""Named ways to hurt the file beside torn pages: bits in readings, a WAL that is gone, a damaged older version."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from edge_agent.outbox.database import PAGE_BYTES, VERSION
from tests.unit.edge_agent.outbox.parts import Gateway, noise, values, values_of, waiting
from tests.unit.edge_agent.outbox.test_salvage import PER_COMMIT, SET, accounted, filled
from wire.codec import decode
from wire.errors import WireError
from wire.reading import LossReason, Tick, Tombstone

PAGE = 1024
COMMITS_SINCE = 33  # some of them after the last checkpoint
CELLS = PER_COMMIT * len(SET.series)  # of an atom


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_flipped_bits_in_readings_cost_their_atoms_and_are_told(gateway: Gateway) -> None:
    """SQLite does not see them: the atom's own CRC does, when it is its turn."""
    filled(gateway)
    with sqlite3.connect(gateway.database) as connection:
        rows = [data for (data,) in connection.execute("SELECT data FROM atoms ORDER BY id")]
    content = bytearray(gateway.database.read_bytes())
    chance = random.Random(5)
    hurt = chance.sample(range(len(rows)), 5)
    for at in hurt:
        place = content.index(rows[at][-300:-200])
        content[place + chance.randrange(100)] ^= 1 << chance.randrange(8)
    gateway.database.write_bytes(content)
    recorder = gateway.start(SET)
    view = recorder.view()
    for atom in waiting(view):
        try:
            decode(atom.data)
        except WireError as error:
            view.set_aside(atom.epoch, atom.first, str(error))
    recorder.commit()
    stones = view.tombstones(100)
    assert sorted((stone.first, stone.reason) for stone in stones) == sorted(
        (at * CELLS, LossReason.CORRUPT) for at in hurt
    )
    assert recorder.stats().losses == {LossReason.CORRUPT: 5 * CELLS}
    assert recorder.stats().cells == (len(rows) - 5) * CELLS


def killed_without_its_wal(gateway: Gateway) -> tuple[int, list[Tick]]:
    """The file as it is on the disk while an agent runs: what its WAL holds is not in it. Epoch and what was taken."""
    recorder = gateway.start(SET)
    taken = noise(SET, COMMITS_SINCE * PER_COMMIT)
    for at in range(COMMITS_SINCE):
        gateway.clock.sleep(5)
        recorder.take(taken[at * PER_COMMIT : (at + 1) * PER_COMMIT])
        recorder.commit()
    epoch, content = recorder.epoch, gateway.database.read_bytes()
    gateway.kill()
    gateway.database.write_bytes(content)
    (gateway.state / "outbox.db-wal").unlink(missing_ok=True)
    return epoch, taken


def test_a_deleted_wal_in_the_same_boot_begins_a_new_epoch_and_says_what_is_gone(gateway: Gateway) -> None:
    epoch, taken = killed_without_its_wal(gateway)
    recorder = gateway.start(SET)
    assert recorder.epoch != epoch
    view = recorder.view()
    atoms = waiting(view)
    have = atoms[-1].end // len(SET.series) if atoms else 0
    assert have < len(taken), "all of it was in the database already"
    assert values(atoms) == values_of(taken[:have])
    (stone,) = [stone for stone in view.tombstones(10) if stone.reason is LossReason.CORRUPT]
    assert (stone.epoch, stone.first, stone.end) == (epoch, atoms[-1].end, atoms[-1].end)
    assert stone.count == len(taken) - have  # in ticks: how many cells they had stood in the WAL


def test_a_wal_that_is_gone_after_a_power_cut_is_a_power_cut(gateway: Gateway) -> None:
    epoch, taken = killed_without_its_wal(gateway)
    gateway.reboot()
    recorder = gateway.start(SET)
    assert recorder.epoch != epoch
    view = recorder.view()
    atoms = waiting(view)
    assert values(atoms) == values_of(taken[: atoms[-1].end // len(SET.series)])
    assert LossReason.POWER_CUT in {stone.reason for stone in view.tombstones(10)}
    recorder.take(taken[:1])
    recorder.commit()
    assert waiting(view)[-1].epoch == recorder.epoch


def test_a_damaged_file_of_an_older_version_is_salvaged_into_the_present_one(gateway: Gateway) -> None:
    epoch, taken = filled(gateway)
    connection = sqlite3.connect(gateway.database, isolation_level=None)
    for statement in (
        "DROP VIEW backlog",
        *(f"ALTER TABLE epochs DROP COLUMN {name}" for name in ("rollup_bytes", "kept_bytes", "kept_atoms")),
        "CREATE VIEW backlog AS SELECT id FROM atoms",
        "DROP TABLE alarms",
        "DELETE FROM _sqlite_migrations WHERE name <> 'tables'",
        "PRAGMA user_version = 1",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ):
        connection.execute(statement).fetchall()
    connection.close()
    content = bytearray(gateway.database.read_bytes())
    for page in range(len(content) // PAGE // 2, len(content) // PAGE // 2 + 6):
        content[page * PAGE : (page + 1) * PAGE] = bytes([77]) * PAGE
    gateway.database.write_bytes(content)
    recorder = gateway.start(SET)
    assert recorder._outbox.database.connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    accounted(recorder, epoch, taken)
    assert 0 < recorder.stats().losses[LossReason.CORRUPT] < len(taken) * len(SET.series) / 2


def test_a_tombstone_whose_epoch_lost_a_bit_is_told_all_the_same(gateway: Gateway) -> None:
    """SQLite sees nothing wrong in it, and the cloud would never acknowledge an epoch that it does not know."""
    filled(gateway)
    recorder = gateway.start(SET)
    epoch = recorder.epoch
    with recorder._outbox.database.transaction():
        recorder._outbox.add_tombstone(Tombstone(epoch, 5000, 5100, LossReason.EVICTED, 100))
    gateway.kill()
    with sqlite3.connect(gateway.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'tombstones'").fetchone()
    content = bytearray(gateway.database.read_bytes())
    at = content.index(epoch.to_bytes(8, "big"), (root - 1) * PAGE_BYTES, root * PAGE_BYTES)
    content[at] ^= 1
    gateway.database.write_bytes(content)
    recorder = gateway.start(SET)
    assert [stone.epoch for stone in recorder.view().tombstones(9) if stone.first == 5000] == [epoch]
    assert recorder.stats().losses[LossReason.EVICTED] == 100
    gateway.kill()
    (gateway.state / "outbox.db.corrupt").unlink()
    gateway.start(SET)
    assert not (gateway.state / "outbox.db.corrupt").exists()  # it is whole again


@pytest.mark.parametrize(("count", "reach"), [(100, 200), (99, 0)])
def test_tombstones_say_how_far_numbers_went_when_the_row_that_knew_is_lost(
    gateway: Gateway, count: int, reach: int
) -> None:
    """One whose count does not fit its range lost a bit: it is sent, and nothing is inferred from it."""
    _, taken = filled(gateway)
    recorder = gateway.start(SET)
    epoch, end = recorder._outbox.epochs()[0].epoch, len(taken) * len(SET.series)
    with recorder._outbox.database.transaction():
        recorder._outbox.add_tombstone(Tombstone(epoch, end + 100, end + 200, LossReason.EVICTED, count))
    gateway.kill()
    with sqlite3.connect(gateway.database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'epochs'").fetchone()
    content = bytearray(gateway.database.read_bytes())
    content[(root - 1) * PAGE_BYTES : root * PAGE_BYTES] = b"\xa5" * PAGE_BYTES
    gateway.database.write_bytes(content)
    recorder = gateway.start(SET)
    stones = {(stone.first, stone.end, stone.reason) for stone in recorder.view().tombstones(9) if stone.epoch == epoch}
    evicted = (end + 100, end + 200, LossReason.EVICTED)
    assert stones == ({evicted, (end, end + 100, LossReason.CORRUPT)} if reach else {evicted})
    assert recorder._outbox.epochs()[0].next_seq == end + reach
    assert values(waiting(recorder.view())) == values_of(taken)
