"""The outbox file's tables, as migrations. `docs/formats/outbox.md` explains every column.

sqlite-utils costs 15 MB of RAM, so this module is imported only when a file must be made or brought up to date.
"""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

migrations = Migrations("outbox")


@migrations()
def tables(db: Database) -> None:
    """Version 1."""
    for statement in (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID",
        """CREATE TABLE epochs (
            number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL,
            predecessor INTEGER NOT NULL, predecessor_next_seq INTEGER,
            next_seq INTEGER NOT NULL, low INTEGER NOT NULL, journal_lsn INTEGER NOT NULL,
            atoms INTEGER NOT NULL, cells INTEGER NOT NULL, bytes INTEGER NOT NULL,
            rate REAL NOT NULL, anchor TEXT
        ) STRICT""",
        """CREATE TABLE settled (
            number INTEGER NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL, PRIMARY KEY (number, first)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE atoms (
            id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, count INTEGER NOT NULL,
            span_first_us INTEGER NOT NULL, span_last_us INTEGER NOT NULL, data BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE series_sets (id INTEGER PRIMARY KEY, definition TEXT NOT NULL) STRICT",
        """CREATE TABLE tombstones (
            id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL,
            reason INTEGER NOT NULL, count INTEGER NOT NULL,
            span_first_us INTEGER NOT NULL, span_last_us INTEGER NOT NULL,
            UNIQUE (epoch, first, end, reason)
        ) STRICT""",
        "CREATE TABLE losses (reason INTEGER PRIMARY KEY, count INTEGER NOT NULL) STRICT",
        """CREATE TABLE aside (
            id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL,
            reason TEXT NOT NULL, data BLOB NOT NULL
        ) STRICT""",
        "CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT",
        # For people with `sqlite-utils rows outbox.db backlog`: what waits, by epoch and class.
        """CREATE VIEW backlog AS
            SELECT printf('%016x', epoch) AS epoch, id >> 42 & 3 AS priority, count(*) AS atoms, sum(count) AS cells,
                   sum(length(data)) AS bytes, min(id & (1 << 42) - 1) AS first
            FROM atoms GROUP BY id >> 42 ORDER BY min(id)""",
    ):
        db.execute(statement)


@migrations()
def alarms(db: Database) -> None:
    """Version 2: changes of alarms that the cloud has not acknowledged."""
    db.execute(
        """CREATE TABLE alarms (
            number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, id INTEGER NOT NULL, phase INTEGER NOT NULL,
            stamp_us INTEGER NOT NULL, onset_us INTEGER NOT NULL, series TEXT NOT NULL, rule TEXT NOT NULL,
            score REAL NOT NULL, threshold REAL NOT NULL, value REAL, expected REAL, low REAL, high REAL,
            unit TEXT NOT NULL, severity INTEGER NOT NULL, UNIQUE (id, phase, stamp_us)
        ) STRICT"""
    )


@migrations()
def history(db: Database) -> None:
    """Version 3: atoms that stay after their acknowledgement; `backlog` shows what is owed to the cloud alone."""
    for column in ("kept_atoms", "kept_bytes"):
        db.execute(f"ALTER TABLE epochs ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    db.execute("DROP VIEW backlog")
    db.execute(
        """CREATE VIEW backlog AS
            SELECT printf('%016x', atoms.epoch) AS epoch, id >> 42 & 3 AS priority, count(*) AS atoms,
                   sum(count) AS cells, sum(length(data)) AS bytes, min(id & (1 << 42) - 1) AS first
            FROM atoms JOIN epochs ON epochs.number = id >> 44
            WHERE (id & (1 << 42) - 1) >= low AND NOT EXISTS (
                SELECT 1 FROM settled
                WHERE settled.number = id >> 44 AND settled.first <= (id & (1 << 42) - 1)
                    AND settled.end > (id & (1 << 42) - 1)
            )
            GROUP BY id >> 42 ORDER BY min(id)"""
    )


@migrations()
def thinning(db: Database) -> None:
    """Version 4: how much of what is owed is roll-ups."""
    db.execute("ALTER TABLE epochs ADD COLUMN rollup_bytes INTEGER NOT NULL DEFAULT 0")


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring the file to `version`, one migration after another, each in its own transaction."""
    database = Database(connection)
    migrations.apply(database)
    connection.execute(f"PRAGMA user_version = {version:d}")
