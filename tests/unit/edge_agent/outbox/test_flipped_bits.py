"""One bit of the file flips, anywhere: the agent comes through by itself, and every reading is accounted for.

`edge-sim lab` flips bits among other faults; here it is one at a time, in a file that has something in every table.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.errors import AgentError
from edge_agent.outbox.alarm_rows import add_alarms
from edge_agent.outbox.database import PAGE_BYTES
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import Gateway, series_set, ticks, waiting
from wire.alarm import Alarm, Phase, Severity
from wire.codec import decode
from wire.errors import WireError
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone

SET = series_set(4)
ATOM = 20  # readings
TAKEN = 40 * ATOM
ACKED = RangeSet([(0, 100), (200, 240), (300, 320), (500, 600)])
GIVEN_UP = {
    (120, 140): LossReason.EVICTED,
    (260, 300): LossReason.CORRUPT,
    (640, 660): LossReason.CLOUD_RESTORED,
}
ALARMS = [
    Alarm(1000 + at, "s/c0", "high 5", Phase(1 + at % 3), 10, 20 + at, 1.5, 5.0, 6.5, None, None, 5.0, "Cel",
          Severity(1 + at % 2))
    for at in range(5)
]  # fmt: skip
STARTS_MAX = 3


@dataclass(frozen=True)
class Filled:
    """A gateway that was killed, its file whole and without a WAL."""

    root: Path
    epoch: int


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    gateway = Gateway(tmp_path_factory.mktemp("filled"))
    recorder = gateway.start(SET)
    view, epoch, outbox = recorder.view(), recorder.epoch, recorder._outbox
    for tick in range(0, TAKEN // 4, ATOM // 4):
        recorder.take(ticks(SET, ATOM // 4, start=tick))
        recorder.commit()
    view.adopt_generation(7, [])
    view.acked(epoch, ACKED)
    view.keep("kept", b"\1\2")
    recorder.commit()
    with outbox.database.transaction() as connection:
        for (first, end), reason in GIVEN_UP.items():
            outbox.remove(outbox.current().number, [(first, end)])
            outbox.add_tombstone(Tombstone(epoch, first, end, reason, end - first, 1, 2))
        add_alarms(connection, epoch, ALARMS)
    gateway.kill()
    with closing(sqlite3.connect(gateway.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Filled(gateway.root, epoch)


@dataclass
class Cloud:
    """What it has at last."""

    stored: RangeSet
    given_up: RangeSet
    reasons: set[LossReason]
    alarms: set[int]
    starts: int = 1


def played(gateway: Gateway, epoch: int) -> Cloud:
    """The agent starts, and again when it ends itself, until all that it holds is delivered."""
    cloud = Cloud(ACKED.copy(), RangeSet(), set(), set())
    for _ in range(STARTS_MAX):
        with suppress(AgentError):
            deliver(gateway.start(SET), epoch, cloud)
            gateway.kill()
            return cloud
        gateway.kill()
        cloud.starts += 1
    raise AssertionError(f"it ended itself {STARTS_MAX} times")


def deliver(recorder: Recorder, epoch: int, cloud: Cloud) -> None:
    """All that waits, to a cloud that takes everything; new readings meanwhile."""
    view = recorder.view()
    view.generation_seen()
    recorder.take(ticks(SET, 2, start=1000))
    recorder.commit()
    for atom in waiting(view):
        try:
            decode(atom.data)
        except WireError as error:
            view.set_aside(atom.epoch, atom.first, str(error))
        else:
            if atom.epoch == epoch:
                cloud.stored.add(atom.first, atom.end)
    recorder.commit()
    view.kept("kept")
    view.series_sets([SET.id])
    stones, alarms = view.tombstones(1000), view.alarms(1000)
    for stone in stones:
        if stone.epoch == epoch and stone.end <= TAKEN:
            cloud.given_up.add(stone.first, stone.end)
            cloud.reasons.add(stone.reason)
    cloud.alarms |= {alarm.stamp_us for _, alarm in alarms}
    for offer in view.offers():
        view.acked(offer.epoch, cloud.stored if offer.epoch == epoch else RangeSet([(0, offer.next_seq)]))
    view.tombstones_acked([stone.key for stone in stones])
    view.alarms_acked([alarm.key for _, alarm in alarms])
    recorder.commit()
    assert view.tombstones(1) == []
    assert view.alarms(1) == []
    assert [offer.offered.count for offer in view.offers()] == [0] * len(view.offers())
    recorder.stats()


def damaged(filled: Filled, to: Path, change: Callable[[bytearray], None]) -> Gateway:
    shutil.copytree(filled.root, to)
    gateway = Gateway(to)
    content = bytearray(gateway.database.read_bytes())
    change(content)
    gateway.database.write_bytes(content)
    return gateway


def flip(at: int, bit: int) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[at] ^= 1 << bit

    return change


def fault(filled: Filled, to: Path, at: int, bit: int) -> str:
    """What one flipped bit did that it may not; "" for nothing. Within the readings' bytes it may cost their atom."""
    try:
        cloud = played(damaged(filled, to, flip(at, bit)), filled.epoch)
    except Exception as error:
        return f"byte {at}, bit {bit}: {error!r}"
    shutil.rmtree(to)
    missing = RangeSet([(0, TAKEN)]) - cloud.stored - cloud.given_up
    lost = cloud.given_up - ACKED - RangeSet(GIVEN_UP)
    if missing or lost.count > ATOM:
        return f"byte {at}, bit {bit}: {missing} are neither stored nor given up, {lost} are given up and were there"
    return ""


def pages(filled: Filled, *tables: str) -> list[int]:
    """Where these b-trees are."""
    with closing(sqlite3.connect(filled.root / "state" / "outbox.db")) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 0"))
    return [roots[table] for table in tables]


def sweep(filled: Filled, to: Path, seed: int, times: int) -> list[str]:
    """The faults of so many random bits."""
    chance = random.Random(seed)
    size = (filled.root / "state" / "outbox.db").stat().st_size
    small = pages(
        filled, "epochs", "settled", "meta", "tombstones", "alarms", "losses", "state", "series_sets",
        "sqlite_autoindex_tombstones_1", "sqlite_autoindex_alarms_1",
    )  # fmt: skip
    faults = []
    for number in range(times):
        page = chance.choice(small) if number % 4 else chance.randrange(size // PAGE_BYTES) + 1
        at, bit = (page - 1) * PAGE_BYTES + chance.randrange(PAGE_BYTES), chance.randrange(8)
        faults.append(fault(filled, to / str(number), at, bit))
    return [each for each in faults if each]


def test_a_bit_anywhere(filled: Filled, tmp_path: Path) -> None:
    assert sweep(filled, tmp_path, seed=1, times=150) == []


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_bits_one_at_a_time(filled: Filled, tmp_path: Path, seed: int) -> None:
    assert sweep(filled, tmp_path, seed, times=2500) == []


@pytest.mark.parametrize("at", range(100))
def test_each_byte_of_the_head(filled: Filled, tmp_path: Path, at: int) -> None:
    """Format, page size, free pages, schema version, encoding: SQLite refuses some of it and misreads the rest."""
    assert fault(filled, tmp_path / "it", at, 7 if at % 2 else 5) == ""


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE epochs SET low = 228",
        "UPDATE epochs SET next_seq = 288",
        "UPDATE epochs SET bytes = bytes | 1 << 40",
        "UPDATE epochs SET anchor = '[100000000, 1700000000000000, trve, 500]'",
        "UPDATE epochs SET rate = 9e999",
        "UPDATE epochs SET epoch = {other}",
        "UPDATE settled SET number = 5 WHERE first = 200",
        "UPDATE settled SET first = 192 WHERE first = 200",
        "UPDATE settled SET end = 448 WHERE end = 320",
        "UPDATE losses SET reason = 67 WHERE reason = 3",
        "UPDATE meta SET key = 'generatkon' WHERE key = 'generation'",
        "UPDATE meta SET value = 'x' WHERE key = 'generation'",
        "UPDATE meta SET value = NULL WHERE key = 'outbox'",
        "UPDATE alarms SET severity = 34",
        "UPDATE alarms SET score = 9e999",
        "UPDATE tombstones SET reason = 35 WHERE first = 260",
        "UPDATE atoms SET count = 28 WHERE id & (1 << 42) - 1 = 100",
        "UPDATE atoms SET count = 28 WHERE id & (1 << 42) - 1 = 320",
        "UPDATE atoms SET id = id + 16 WHERE id & (1 << 42) - 1 = 100",
        "UPDATE atoms SET epoch = {other} WHERE id & (1 << 42) - 1 = 320",
        "DELETE FROM meta WHERE key = 'generation'",
        "PRAGMA user_version = 20",
    ],
)
def test_a_row_that_lost_a_bit(filled: Filled, tmp_path: Path, statement: str) -> None:
    """SQLite finds nothing wrong with any of these."""
    gateway = damaged(filled, tmp_path / "it", lambda content: None)
    with closing(sqlite3.connect(gateway.database, isolation_level=None)) as connection:
        connection.execute(statement.format(other=filled.epoch ^ 1 << 40))
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert is_whole(played(gateway, filled.epoch))


def is_whole(cloud: Cloud) -> bool:
    """Was nothing lost by the damage, and did all that waited arrive?"""
    missing = RangeSet([(0, TAKEN)]) - cloud.stored - cloud.given_up
    lost = cloud.given_up - ACKED - RangeSet(GIVEN_UP)
    return not missing and not lost and len(cloud.alarms) == len(ALARMS)


def in_page(
    filled: Filled, tree: str, what: bytes, change: Callable[[bytearray, int], None]
) -> Callable[[bytearray], None]:
    """A change at these bytes in the page of a table or an index."""
    (page,) = pages(filled, tree)

    def apply(content: bytearray) -> None:
        change(content, content.index(what, (page - 1) * PAGE_BYTES, page * PAGE_BYTES))

    return apply


@pytest.mark.parametrize("tree", ["tombstones", "sqlite_autoindex_tombstones_1"])
@pytest.mark.parametrize("at", range(8, 12))
def test_a_tombstone_whose_range_lost_a_bit(filled: Filled, tmp_path: Path, tree: str, at: int) -> None:
    """In its row or in its index: the one that agrees with its count is believed."""

    def change(content: bytearray, place: int) -> None:
        content[place + at] ^= 1

    row = filled.epoch.to_bytes(8, "big") + (260).to_bytes(2, "big") + (300).to_bytes(2, "big")
    cloud = played(damaged(filled, tmp_path / "it", in_page(filled, tree, row, change)), filled.epoch)
    assert is_whole(cloud)
    assert set(GIVEN_UP.values()) <= cloud.reasons


def test_tombstones_that_are_gone_from_their_table_are_in_its_index(filled: Filled, tmp_path: Path) -> None:
    """The table's page has a cell count of 0."""

    def change(content: bytearray) -> None:
        (page,) = pages(filled, "tombstones")
        content[(page - 1) * PAGE_BYTES + 3 : (page - 1) * PAGE_BYTES + 5] = bytes(2)

    cloud = played(damaged(filled, tmp_path / "it", change), filled.epoch)
    assert is_whole(cloud)
    assert set(GIVEN_UP.values()) <= cloud.reasons


@pytest.mark.parametrize(("at", "bit"), [(0, 0), (0, 1), (0, 3), (3, 0), (4, 0), (4, 1), (5, 1), (6, 3)])
def test_the_head_of_a_page_of_atoms(filled: Filled, tmp_path: Path, at: int, bit: int) -> None:
    """Its type, its count of cells, where they begin: none of them hides an atom."""
    with closing(sqlite3.connect(filled.root / "state" / "outbox.db")) as connection:
        found = connection.execute("SELECT pageno FROM dbstat WHERE name = 'atoms' AND pagetype = 'leaf'").fetchall()
    for (page,) in found:
        to = tmp_path / str(page)
        assert is_whole(played(damaged(filled, to, flip((page - 1) * PAGE_BYTES + at, bit)), filled.epoch))


def test_a_column_whose_name_is_no_text(filled: Filled, tmp_path: Path) -> None:
    """Python can't say what it is called, and reads its rows all the same."""

    def change(content: bytearray) -> None:
        at = content.index(b"CREATE TABLE tombstones")
        content[content.index(b"span_first_us", at)] ^= 0x80

    cloud = played(damaged(filled, tmp_path / "it", change), filled.epoch)
    assert not RangeSet([(0, TAKEN)]) - cloud.stored - cloud.given_up
    assert set(GIVEN_UP.values()) <= cloud.reasons


def test_an_outbox_that_forgot_its_cloud_does_not_blame_it(filled: Filled, tmp_path: Path) -> None:
    gateway = damaged(filled, tmp_path / "it", lambda content: None)
    with closing(sqlite3.connect(gateway.database, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = 0 WHERE key = 'generation'")
    view = gateway.start(SET).view()
    view.adopt_generation(7, [(filled.epoch, RangeSet([(120, 140)])), (filled.epoch, RangeSet([(0, 20)]))])
    told = {stone.first: stone.reason for stone in view.tombstones(9)}
    assert told[0] is LossReason.CORRUPT
