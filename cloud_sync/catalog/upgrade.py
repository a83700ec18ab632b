"""Bringing the tables of an older version up to this one, in the transaction that opens the catalog."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateColumn

from cloud_sync.catalog import alarm_rows, audit_rows
from cloud_sync.catalog.schema import STORED, TOMBSTONED, active_alarm, coverage, epoch, meta, metadata
from cloud_sync.catalog.tombstone_rows import recount

OLDEST = 1  # the first version that can be brought up


def upgrade(connection: Connection, version: int) -> None:
    """Make what later versions added: tables, columns, and the sums that columns hold."""
    found = sa.inspect(connection).get_table_names()
    metadata.create_all(connection)
    _add_columns(connection)
    if active_alarm.name not in found:
        alarm_rows.find_active(connection)
    audit_rows.seal(connection)
    if version < 2:
        for state, name in ((STORED, "stored"), (TOMBSTONED, "tombstoned")):
            counted = sa.select(sa.func.coalesce(sa.func.sum(coverage.c.end - coverage.c.first), 0)).where(
                coverage.c.epoch_id == epoch.c.id, coverage.c.state == state
            )
            connection.execute(epoch.update().values({name: counted.scalar_subquery()}))
        connection.execute(recount)


def _add_columns(connection: Connection) -> None:
    found = sa.inspect(connection)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                definition = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f'ALTER TABLE "{table.name}" ADD COLUMN {definition}')


def mark(connection: Connection, version: int) -> None:
    """The tables are of this version now."""
    connection.execute(meta.update().values(schema_version=version))
