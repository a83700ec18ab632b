"""The simulated card: what SQLite meets on it, and what a power cut leaves."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.disk import Disk, State, watching

ROWS = 40


@pytest.fixture
def make_disk() -> Iterator[Callable[[Path], Disk]]:
    with watching() as make:
        yield make


def connect(folder: Path, synchronous: str = "FULL") -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "t.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE IF NOT EXISTS t (x)")
    return connection


def rows_after_cut(disk: Disk, card: Path, seed: int) -> int:
    image = card.with_name(f"image-{seed}")
    shutil.copytree(card, image)
    disk.after_power_cut(image, card, random.Random(seed))
    reader = sqlite3.connect(image / "t.db")
    try:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        count: int = reader.execute("SELECT count(*) FROM t").fetchone()[0]
        return count
    except sqlite3.OperationalError:
        return 0  # not even the table
    finally:
        reader.close()


@pytest.mark.parametrize(("synchronous", "loses"), [("FULL", False), ("NORMAL", True), ("OFF", True)])
def test_a_power_cut_takes_what_was_not_fsynced(
    make_disk: Callable[[Path], Disk], tmp_path: Path, synchronous: str, loses: bool
) -> None:
    card = tmp_path / "card"
    card.mkdir()
    disk = make_disk(tmp_path)
    connection = connect(card, synchronous)
    for row in range(ROWS):
        connection.execute("INSERT INTO t VALUES (?)", (row,))
    counts = [rows_after_cut(disk, card, seed) for seed in range(12)]
    connection.close()
    assert max(counts) == ROWS
    assert (min(counts) < ROWS) is loses


def test_a_failing_card_refuses_and_is_mended(make_disk: Callable[[Path], Disk], tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    connection = connect(tmp_path)
    for state in (State.FAILING, State.READ_ONLY):
        disk.state = state
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(OSError, match=r"Input/output error|Read-only file system"):
            (tmp_path / "new").touch()
        disk.mend()
        connection.execute("INSERT INTO t VALUES (1)")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    connection.close()


def test_a_full_card_takes_what_needs_no_room(make_disk: Callable[[Path], Disk], tmp_path: Path) -> None:
    disk = make_disk(tmp_path)
    connection = connect(tmp_path)
    disk.fill(0)
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    with (tmp_path / "room").open("w") as file, pytest.raises(OSError, match="No space left"):
        os.posix_fallocate(file.fileno(), 0, 4096)
    disk.mend()
    connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    connection.close()


def test_other_files_and_later_times_are_untouched(tmp_path: Path) -> None:
    before = os.posix_fallocate, os.open, os.unlink, os.replace
    (tmp_path / "card").mkdir()
    with watching() as make:
        make(tmp_path / "card").state = State.FAILING
        elsewhere = connect(tmp_path)
        elsewhere.execute("INSERT INTO t VALUES (1)")
        elsewhere.close()
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            connect(tmp_path / "card")
    connect(tmp_path / "card").close()
    assert (os.posix_fallocate, os.open, os.unlink, os.replace) == before
