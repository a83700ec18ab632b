"""Alarms in the outbox file: the migration that made room for them, and a round trip."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from sqlite_utils import Database as SqliteUtils

from edge_agent.outbox.alarm_rows import ALARM_COLUMNS, ALARMS_MAX, add_alarms, alarm_of, forget_alarms
from edge_agent.outbox.database import APPLICATION_ID, VERSION, Database
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.schema import migrations
from wire.alarm import Alarm, Phase, Severity

ALARM = Alarm(
    (1 << 63) - 1, "s/c", "high 5", Phase.GREW, -3, 7, 1.5, 5.0, 6.5, None, None, 5.0, "Cel", Severity.CRITICAL
)  # fmt: skip


def rows(database: Database) -> list[tuple[int, Alarm]]:
    return [alarm_of(row) for row in database.connection.execute(f"SELECT {ALARM_COLUMNS} FROM alarms ORDER BY number")]


def test_a_file_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA page_size = 1024")
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    migrations.apply(SqliteUtils(old), stop_before="alarms")
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO state VALUES ('kept', x'01')")
    assert not old.execute("SELECT name FROM sqlite_master WHERE name = 'alarms'").fetchall()
    old.close()
    database = Database(path, OutboxOptions())
    assert database.connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert Outbox(database).states("ke") == {"kept": b"\1"}
    with database.transaction() as connection:
        add_alarms(connection, 9, [ALARM])
    assert rows(database) == [(9, ALARM)]
    database.close()


def test_a_change_is_kept_once_and_forgotten_by_its_key(tmp_path: Path) -> None:
    database = Database(tmp_path / "outbox.db", OutboxOptions())
    wild = replace(ALARM, stamp_us=8, score=float("nan"), threshold=float("inf"), value=float("nan"), low=1.0)
    with database.transaction() as connection:
        add_alarms(connection, 9, [ALARM, ALARM, wild])
    (first, second) = rows(database)
    assert first == (9, ALARM)
    assert second[1].score == 0.0
    assert 1e308 < second[1].threshold < float("inf")
    assert (second[1].value, second[1].low) == (None, 1.0)
    with database.transaction() as connection:
        forget_alarms(connection, [ALARM.key])
    assert [alarm.stamp_us for _, alarm in rows(database)] == [8]
    database.close()


def test_the_oldest_go_when_the_cloud_stays_away(tmp_path: Path) -> None:
    database = Database(tmp_path / "outbox.db", OutboxOptions())
    with database.transaction() as connection:
        lost = add_alarms(connection, 9, [replace(ALARM, stamp_us=at) for at in range(ALARMS_MAX + 5)])
        assert lost == 5
        assert add_alarms(connection, 9, [ALARM]) == 0, "it is there already"
        assert add_alarms(connection, 9, [replace(ALARM, stamp_us=-at) for at in (1, 2)]) == 2
    assert Outbox(database).alarms_lost() == 7
    kept = [alarm.stamp_us for _, alarm in rows(database)]
    assert kept == [*range(7, ALARMS_MAX + 5), -1, -2]
    database.close()
