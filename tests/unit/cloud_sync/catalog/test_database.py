"""A catalog that cannot keep its promise is not used."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.catalog.database import open_sqlite, require_durable
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import CatalogDown, ConfigInvalid
from tests.unit.cloud_sync.gateway import EPOCH, DialClock, hello
from wire.alarm import Alarm, Phase, Severity
from wire.reading import LossReason, Tombstone


def test_commits_are_fsynced(tmp_path: Path) -> None:
    database = open_sqlite(tmp_path / "catalog.sqlite", DialClock())
    with database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    database.close()


@pytest.mark.parametrize(("journal_mode", "synchronous"), [("wal", 1), ("wal", 0), ("delete", 2), ("memory", 3)])
def test_a_database_that_may_lose_commits_is_refused(journal_mode: str, synchronous: int) -> None:
    with pytest.raises(ConfigInvalid, match="power cut"):
        require_durable(journal_mode, synchronous, Path("catalog.sqlite"))


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite").write_bytes(b"something else " * 1000)
    with pytest.raises(ConfigInvalid, match=r"cannot be opened.*backup"):
        SqlCatalog.open(tmp_path / "catalog.sqlite", DialClock())


@pytest.mark.parametrize("keep", [5000, 20_000])
def test_a_truncated_database_is_said_so(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "catalog.sqlite"
    SqlCatalog.open(path, DialClock()).close()
    with path.open("r+b") as file:
        file.truncate(keep)
    with pytest.raises(ConfigInvalid, match=r"truncated|cannot be opened"):
        SqlCatalog.open(path, DialClock())


def test_another_schema_version(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    SqlCatalog.open(path, DialClock()).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    connection.close()
    with pytest.raises(ConfigInvalid, match="version 99"):
        SqlCatalog.open(path, DialClock())


def test_a_catalog_without_the_table_of_active_alarms_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    catalog = SqlCatalog.open(path, DialClock())
    raised = Alarm(7, "s/c", "high 5", Phase.RAISED, 0, 0, 1.0, 5.0, 6.0, None, None, 5.0, "Cel", Severity.WARNING)
    over = replace(raised, id=8)
    catalog.record_alarms("gw-a", [(1, raised), (1, over), (1, replace(over, phase=Phase.CLEARED, stamp_us=9))])
    catalog.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE active_alarm")
        connection.execute("UPDATE meta SET schema_version = 1")
    connection.close()
    catalog = SqlCatalog.open(path, DialClock())
    assert catalog.active_alarms() == {"gw-a": 1}
    assert [row.alarm for row in catalog.alarms(None, 0, 1 << 60, 9, active=True)] == [raised]
    catalog.close()


def test_tables_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (x)")
    connection.close()
    with pytest.raises(ConfigInvalid, match="notes"):
        SqlCatalog.open(path, DialClock())


def test_errors_of_the_database_are_ours(tmp_path: Path) -> None:
    catalog = SqlCatalog.open(tmp_path / "catalog.sqlite", DialClock())
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    connection.execute("DROP TABLE coverage")
    connection.close()
    with pytest.raises(CatalogDown, match="coverage"):
        catalog.hello("gw-a", hello())
    catalog.close()


def test_a_catalog_of_version_1_is_brought_up(tmp_path: Path) -> None:
    """Tables and columns that are missing are made; the sums are those of what was stored."""
    path = tmp_path / "catalog.sqlite"
    catalog = SqlCatalog.open(path, DialClock())
    catalog.hello("gw-a", hello())
    catalog.record_tombstones("gw-a", [Tombstone(EPOCH, 5, 15, LossReason.EVICTED, 10)])
    catalog.record_tombstones("gw-a", [Tombstone(EPOCH, 20, 20, LossReason.POWER_CUT, 3)])
    expected = replace(catalog.accounts()["gw-a"], machines=0, gap=0)
    catalog.close()
    connection = sqlite3.connect(path)
    for table in ("machine", "claim", "gap"):
        connection.execute(f"DROP TABLE {table}")
    for column in ("predecessor_next_seq", "stored", "tombstoned", "unnumbered"):
        connection.execute(f"ALTER TABLE epoch DROP COLUMN {column}")
    connection.execute("UPDATE meta SET schema_version = 1")
    connection.commit()
    connection.close()
    for _ in range(2):
        catalog = SqlCatalog.open(path, DialClock())
        assert catalog.accounts() == {"gw-a": expected}
        assert expected.tombstoned == 10
        catalog.close()
