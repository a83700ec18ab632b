"""Who changed what, and when: rows that are only ever added, each with a hash over itself and the one before it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog.database import storable
from cloud_sync.catalog.database_clock import database_time
from cloud_sync.catalog.schema import audit, meta

_FIRST_HASH = bytes(32)
_newest = sa.select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)
_lock = sa.select(meta.c.id).with_for_update()  # the chain has one end: writers take turns


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One change. `at_us` is the database's clock."""

    id: int
    at_us: int
    actor: str
    action: str
    subject: str
    detail: str
    hash: bytes


_SEAL = {
    "sqlite": [
        f"CREATE TRIGGER IF NOT EXISTS audit_no_{verb} BEFORE {verb} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END"
        for verb in ("update", "delete")
    ]
    + [  # REPLACE deletes without that trigger
        "CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit "
        "WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'the audit is only added to'); END"
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql "
        "AS $$ BEGIN RAISE EXCEPTION 'the audit is only added to'; END $$",
        "DROP TRIGGER IF EXISTS audit_only_added_to ON audit",
        "CREATE TRIGGER audit_only_added_to BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    ],
}


def seal(connection: Connection) -> None:
    """Let the database refuse whatever does not add a row."""
    for statement in _SEAL[connection.dialect.name]:
        connection.exec_driver_sql(statement)


def record(connection: Connection, actor: str, action: str, subject: str, detail: str = "") -> None:
    """Add a row in the transaction that makes the change."""
    connection.execute(_lock)
    newest = connection.execute(_newest).one_or_none()
    id_, before = (1, _FIRST_HASH) if newest is None else (newest.id + 1, newest.hash)
    at_us = database_time(connection)
    texts = [storable(text) for text in (actor, action, subject, detail)]
    digest = _chain(before, id_, at_us, *texts)
    values = dict(zip(("actor", "action", "subject", "detail"), texts))
    connection.execute(audit.insert().values(id=id_, at_us=at_us, hash=digest, **values))


def is_recorded(connection: Connection, action: str, subject: str, detail: str) -> bool:
    """Whether there is a row of this change; later calls in the transaction see the same."""
    connection.execute(_lock)
    same = (audit.c.action == action, audit.c.subject == storable(subject), audit.c.detail == storable(detail))
    return connection.execute(sa.select(audit.c.id).where(*same).limit(1)).one_or_none() is not None


def rows(connection: Connection, limit: int, before_id: int | None = None) -> list[AuditRow]:
    """The newest `limit` (of those before an id), newest first."""
    newest = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
    if before_id is not None:
        newest = newest.where(audit.c.id < before_id)
    return [AuditRow(*row) for row in connection.execute(newest)]


def first_broken(connection: Connection) -> int | None:
    """The id of the first row that is not as it was written, or that one before it is missing; None when all are."""
    before, expected = _FIRST_HASH, 1
    for row in connection.execute(sa.select(audit).order_by(audit.c.id)):
        digest = _chain(before, row.id, row.at_us, row.actor, row.action, row.subject, row.detail)
        if row.id != expected or digest != row.hash:
            return expected
        before, expected = row.hash, row.id + 1
    return None


def _chain(before: bytes, id_: int, at_us: int, *texts: str) -> bytes:
    return hashlib.sha256(before + json.dumps([id_, at_us, *texts]).encode()).digest()
