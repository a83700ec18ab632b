"""The ring: what is in it after torn writes, flips, foreign records and laps."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import JournalFull, StateUnusable
from edge_agent.outbox.journal import COMMITTED_AT, HEAD_BYTES, LOST_AT, Journal
from edge_agent.outbox.record import MAGIC, Layout
from tests.unit.edge_agent.outbox.parts import series_set, ticks
from wire.clock import Anchor
from wire.reading import Tick
from wire.series import SeriesDef, SeriesSet, ValueType

SIZE = 64 * 1024
ANCHOR = Anchor(1_000_000, 1_700_000_000_000_000, True, 250)
SET = series_set(5)
LAYOUT = Layout(SET)


def ring(path: Path, outbox: int = 5, boot: int = 6, after: int = 0, size: int = SIZE) -> Journal:
    return Journal(path, outbox, boot, size, after)


def held(journal: Journal) -> list[Tick]:
    return [entry.tick for entry in journal.read(journal.mark)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.ring"


def test_what_was_appended_is_read_by_the_next_process(path: Path) -> None:
    taken = ticks(SET, 20)
    journal = ring(path)
    for tick in taken:
        journal.append(LAYOUT, tick, ANCHOR)
    journal.close()
    after = ring(path)
    assert after.continued
    assert held(after) == taken
    assert [entry.anchor for entry in after.read(after.mark)] == [ANCHOR] * 20
    assert list(Journal.scan(path, 5, 12)) == taken[12:]
    assert list(Journal.scan(path, 4, 0)) == []


def test_committed_records_are_not_read_again_and_numbers_go_on(path: Path) -> None:
    journal = ring(path)
    for tick in ticks(SET, 10):
        journal.append(LAYOUT, tick, ANCHOR)
    journal.committed(journal.mark)
    journal.append(LAYOUT, ticks(SET, 1, start=10)[0], ANCHOR)
    journal.close()
    after = ring(path, after=10)
    assert [entry.lsn for entry in after.read(after.mark)] == [11]
    assert Journal.head(path).committed == 10  # type: ignore[union-attr]


def test_every_kind_of_cell_survives(path: Path) -> None:
    mixed = SeriesSet(
        (
            SeriesDef("s", "i", "1", value_type=ValueType.INT),
            SeriesDef("s", "f", "1", value_type=ValueType.FLOAT32),
            SeriesDef("s", "d", "1", value_type=ValueType.FLOAT64),
        )
    )
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8DEADBEEF0001))[0]
    taken = [
        Tick(mixed.id, -(1 << 40), (-(1 << 63), 1.5, nan)),
        Tick(mixed.id, 1, ((1 << 63) - 1, -0.0, float("-inf")), b"\0\1\xff"),
        Tick(mixed.id, 2, (0, 0.0, 5e-324), None, b"\1\2\3"),
        Tick(mixed.id, 3, (0, 0.0, 0.1), b"\2\0\0", b"\0\0\4"),
    ]
    journal = ring(path)
    for tick in taken:
        journal.append(Layout(mixed), tick, ANCHOR)
    found = held(journal)
    assert repr(found) == repr(taken)
    assert struct.pack("<d", found[0].raw[2]) == struct.pack("<d", nan)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), max_size=60), st.integers(1, 40))
def test_laps_keep_what_is_not_committed(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, int]], width: int
) -> None:
    """Append and commit in any rhythm; at any moment a new process reads exactly what is not committed."""
    path = tmp_path_factory.mktemp("ring") / "journal.ring"
    of = series_set(width)
    layout = Layout(of)
    journal = ring(path, size=32 * 1024)
    waiting: list[Tick] = []
    count = 0
    for appended, kept in plan:
        for tick in ticks(of, appended, start=count):
            try:
                journal.append(layout, tick, ANCHOR)
            except JournalFull:
                break
            waiting.append(tick)
            count += 1
        mark = journal.mark
        if len(waiting) > kept:
            journal.committed(mark)
            waiting = []
        journal.close()
        journal = ring(path, after=mark.lsn - len(waiting), size=32 * 1024)
        assert held(journal) == waiting
    journal.close()


def test_a_torn_tail_is_not_read_and_is_overwritten(path: Path) -> None:
    taken = ticks(SET, 8)
    journal = ring(path)
    for tick in taken:
        journal.append(LAYOUT, tick, ANCHOR)
    size = LAYOUT.records[0].size
    step = -(-size // 8) * 8
    journal.close()
    data = bytearray(path.read_bytes())
    for torn in (1, 4, 12, size // 2, size - 1):
        copy = bytearray(data)
        start = HEAD_BYTES + 7 * step
        copy[start + torn : start + size] = b"\xee" * (size - torn)
        path.write_bytes(copy)
        after = ring(path)
        assert held(after) == taken[:7], torn
        after.append(LAYOUT, taken[7], ANCHOR)
        assert held(after) == taken
        after.close()


def test_any_flipped_bit_costs_at_most_its_record(path: Path) -> None:
    taken = ticks(SET, 6)
    journal = ring(path)
    for tick in taken:
        journal.append(LAYOUT, tick, ANCHOR)
    journal.close()
    data = path.read_bytes()
    step = -(-LAYOUT.records[0].size // 8) * 8
    for at in range(HEAD_BYTES, HEAD_BYTES + 6 * step):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        hit = (at - HEAD_BYTES) // step
        found = list(Journal.scan(path, 5, 0))
        padding = (at - HEAD_BYTES) % step >= LAYOUT.records[0].size
        assert found == (taken if padding else taken[:hit] + taken[hit + 1 :]), at
    path.write_bytes(data)


def test_garbage_is_not_taken_for_records(path: Path) -> None:
    journal = ring(path)
    for tick in ticks(SET, 3):
        journal.append(LAYOUT, tick, ANCHOR)
    journal.close()
    data = bytearray(path.read_bytes())
    data[HEAD_BYTES + 4096 :] = (MAGIC + b"\xff" * 12) * ((len(data) - HEAD_BYTES - 4096) // 16)
    path.write_bytes(data)
    assert held(ring(path)) == ticks(SET, 3)


@pytest.mark.parametrize(("outbox", "boot"), [(7, 6), (5, 7)])
def test_a_foreign_ring_is_made_anew(path: Path, outbox: int, boot: int) -> None:
    journal = ring(path)
    journal.append(LAYOUT, ticks(SET, 1)[0], ANCHOR)
    journal.close()
    after = ring(path, outbox, boot)
    assert not after.continued
    assert held(after) == []


@pytest.mark.parametrize("damage", [b"", b"short", bytes(HEAD_BYTES + SIZE), b"X" * (HEAD_BYTES + SIZE)])
def test_a_file_that_is_no_ring_is_made_anew(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    assert Journal.head(path) is None
    with pytest.raises(StateUnusable, match="journal"):
        list(Journal.scan(path, 5, 0))
    journal = ring(path)
    journal.append(LAYOUT, ticks(SET, 1)[0], ANCHOR)
    assert held(journal) == ticks(SET, 1)


@pytest.mark.parametrize("at", [COMMITTED_AT, LOST_AT])
def test_a_ring_whose_head_counts_the_impossible_is_made_anew(path: Path, at: int) -> None:
    """No such number may reach the database: its integers end at 2^63, and no start would get past the error."""
    ring(path).close()
    data = bytearray(path.read_bytes())
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    assert Journal.head(path) is None
    assert ring(path).lost == (0, 0, 0)


def test_another_size_waits_until_the_ring_is_empty(path: Path) -> None:
    journal = ring(path)
    journal.append(LAYOUT, ticks(SET, 1)[0], ANCHOR)
    journal.close()
    after = ring(path, size=2 * SIZE)
    assert after.capacity == SIZE
    assert held(after) == ticks(SET, 1)
    after.close()
    assert ring(path, size=2 * SIZE, after=1).capacity == 2 * SIZE


def test_a_full_ring_refuses_and_keeps_what_it_has(path: Path) -> None:
    journal = ring(path)
    taken = ticks(SET, SIZE // (-(-LAYOUT.records[0].size // 8) * 8))
    for tick in taken:
        journal.append(LAYOUT, tick, ANCHOR)
    with pytest.raises(JournalFull, match="ticks fill the ring"):
        journal.append(LAYOUT, taken[0], ANCHOR)
    assert held(journal) == taken
    assert journal.fill > 0.99
    journal.committed(journal.mark)
    journal.append(LAYOUT, ticks(SET, 1)[0], ANCHOR)
    assert held(journal) == ticks(SET, 1)


def test_a_tick_that_does_not_fit_its_set_is_refused(path: Path) -> None:
    journal = ring(path)
    for raw, states in (((1, 2), None), ((1, 2, 3, 4, 1 << 63), None), ((1, 2, 3, 4, 1.5), None), ((1,) * 5, b"\0")):
        with pytest.raises(ValueError, match="tick of"):
            journal.append(LAYOUT, Tick(SET.id, 0, raw, states), ANCHOR)
    assert held(journal) == []


def test_losses_are_remembered_by_the_ring(path: Path) -> None:
    journal = ring(path)
    journal.lose(10, 500, 900)
    journal.lose(5, 400, 700)
    journal.close()
    after = ring(path)
    assert after.lost == (15, 400, 900)
    after.forget_loss(10)
    assert after.lost[0] == 5
    after.forget_loss(5)
    assert after.lost == (0, 0, 0)


def test_no_room_for_the_ring_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateUnusable, match="journal_bytes"):
        ring(tmp_path / "missing" / "journal.ring")


def test_append_is_cheap(path: Path) -> None:
    """The budget is 20 microseconds a reading for everything; a tick of 50 must take few here."""
    of = series_set(50)
    layout = Layout(of)
    journal = ring(path, size=4 << 20)
    taken = ticks(of, 2000)
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        for tick in taken:
            journal.append(layout, tick, ANCHOR)
        best = min(best, (time.process_time() - start) / len(taken))
        journal.committed(journal.mark)
    assert best < 60e-6, f"{best * 1e6:.1f} us"  # 4 measured on x86; a bound that a slow machine keeps
