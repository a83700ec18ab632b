"""The columns of the outbox' tables: one bit in a name leaves a file that is whole to SQLite and useless to us."""

from __future__ import annotations

import sqlite3

COLUMNS = {
    "meta": "key value",
    "epochs": "number epoch predecessor predecessor_next_seq next_seq low journal_lsn atoms cells bytes rate anchor "
    "kept_atoms kept_bytes rollup_bytes",
    "settled": "number first end",
    "atoms": "id epoch count span_first_us span_last_us data",
    "series_sets": "id definition",
    "tombstones": "id epoch first end reason count span_first_us span_last_us",
    "losses": "reason count",
    "aside": "id epoch first count reason data",
    "state": "key value",
    "alarms": "number epoch id phase stamp_us onset_us series rule score threshold value expected low high unit "
    "severity",
}  # of schema VERSION, as the migrations of `schema` make them


def fault_of_columns(connection: sqlite3.Connection) -> str:
    """What is not as it was made; empty where all is. No row is read."""
    for table, columns in COLUMNS.items():
        found = " ".join(row[1] for row in connection.execute(f"PRAGMA table_info({table})"))
        if found != columns:
            return f"table {table} has the columns {found or 'of none'}, made were {columns}"
    return ""
