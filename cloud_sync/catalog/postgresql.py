"""The catalog's database as a PostgreSQL server that several replicas of the service share."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import ArgumentError, OperationalError

from cloud_sync.catalog.database import Database, cause, mapped
from cloud_sync.errors import ConfigInvalid
from cloud_sync.outage import Outage
from wire.clock import Clock

CONNECTIONS_KEPT = 5
CONNECTIONS_MAX = 20  # queries run on their own threads; beyond that they wait for each other
CONNECTION_WAIT_S_MAX = 10
_CONNECT = {
    "connect_timeout": 5,
    "application_name": "cloud-sync",
    "target_session_attrs": "read-write",  # of several hosts in the URL the primary; a standby alone is refused
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms: a server whose machine is gone is noticed
}
_SESSION = (  # ms; an end to every wait
    "SET lock_timeout = 10000",
    "SET statement_timeout = 60000",
    "SET idle_in_transaction_session_timeout = 60000",
)
_REFUSALS = {  # what libpq or the server says, and what helps; there is no SQLSTATE for a failed connection
    "password authentication failed": "the password in PGPASSWORD, or in the file that PGPASSFILE names",
    "no password supplied": "PGPASSWORD, or a file named by PGPASSFILE",
    "no pg_hba.conf entry": "a line for this user and database in the server's pg_hba.conf",
    "authentication failed": "the user of the URL as the server's pg_hba.conf expects it",
    "does not exist": "createdb, createuser, or other names in the URL",
    "permission denied": "GRANT CONNECT ON DATABASE ... TO the URL's user",
}


def open_postgresql(url: str, clock: Clock) -> Database:
    """A database by its URL; user, password and TLS as libpq knows them (PGUSER, PGPASSWORD, PGPASSFILE, sslmode).

    Raises ConfigInvalid when the server refuses or may lose commits, CatalogDown when it cannot be reached.
    """
    parsed = _parse(url)
    for noisy in ("psycopg", "sqlalchemy.pool"):  # not each connection that breaks: an `Outage` says it once
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    engine = sa.create_engine(
        parsed,
        connect_args={name: value for name, value in _CONNECT.items() if name not in parsed.query},
        hide_parameters=True,
        pool_size=CONNECTIONS_KEPT,
        max_overflow=CONNECTIONS_MAX - CONNECTIONS_KEPT,
        pool_timeout=CONNECTION_WAIT_S_MAX,
        pool_pre_ping=True,
        pool_use_lifo=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            for statement in _SESSION:
                cursor.execute(statement)
            cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
            require_durable(*cursor.fetchone())
        connection.commit()

    try:
        _try_connect(engine, parsed)
    except BaseException:
        engine.dispose()
        raise
    reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return Database(engine, reader, nullcontext(), Outage("catalog", clock))


def require_durable(fsync: str, synchronous_commit: str) -> None:
    """Raise ConfigInvalid unless a commit of this server survives a power cut."""
    if fsync != "on" or synchronous_commit == "off":
        raise ConfigInvalid(
            f"the PostgreSQL server has fsync={fsync}, synchronous_commit={synchronous_commit}: a power cut could lose "
            "a commit that was acknowledged. Needed: fsync=on and synchronous_commit other than off. "
            "Try: ALTER SYSTEM SET ...; SELECT pg_reload_conf()"
        )


def _parse(url: str) -> URL:
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in ("postgresql", "postgresql+psycopg"):
        kind = url.partition(":")[0][:40]  # not the whole: it may hold a password
        raise ConfigInvalid(f"--catalog {kind}:... is no URL of a database. Try: postgresql://USER@HOST:5432/DATABASE")
    return parsed.set(drivername="postgresql+psycopg")


def _try_connect(engine: Engine, url: URL) -> None:
    place = f"PostgreSQL {url.render_as_string(hide_password=True).partition('://')[2].partition('?')[0]}"
    with mapped():
        try:
            engine.connect().close()
        except OperationalError as error:
            said = cause(error)
            for words, help_ in _REFUSALS.items():
                if words in said:
                    raise ConfigInvalid(f"{place} refuses: {said}. Try: {help_}") from error
            raise
