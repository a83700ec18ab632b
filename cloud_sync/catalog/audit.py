"""The audit as a whole: for what changes something outside a transaction of the catalog, and for who reads it.

A change that the catalog itself keeps calls `audit_rows.record` in its own transaction instead: then there is no change
without a row, and no row without a change.
"""

from __future__ import annotations

from cloud_sync.catalog import audit_rows
from cloud_sync.catalog.audit_rows import AuditRow
from cloud_sync.catalog.database import Database


class Audit:
    """Any thread may call; raises CatalogDown."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, actor: str, action: str, subject: str, detail: str = "") -> None:
        """Add one row. `actor`: `Caller.actor` or ACTOR_LOCAL; `action`: `noun.verb`; no secret in any of them."""
        with self._database.write() as connection:
            audit_rows.record(connection, actor, action, subject, detail)

    def record_once(self, actor: str, action: str, subject: str, detail: str) -> None:
        """Add one row unless there is one of this change: for what several may notice, each perhaps again."""
        with self._database.write() as connection:
            if not audit_rows.is_recorded(connection, action, subject, detail):
                audit_rows.record(connection, actor, action, subject, detail)

    def rows(self, limit: int, before_id: int | None = None) -> list[AuditRow]:
        """The newest `limit` changes (of those before an id), newest first."""
        with self._database.read() as connection:
            return audit_rows.rows(connection, limit, before_id)

    def first_broken(self) -> int | None:
        """The first row that was changed or is missing; None when all are as they were written."""
        with self._database.read() as connection:
            return audit_rows.first_broken(connection)
