"""The engine under the catalog: transactions, the database's clock, and what it must promise before it is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cloud_sync.catalog.database_clock import SQLITE_FUNCTION
from cloud_sync.errors import CatalogDown, ConfigInvalid
from cloud_sync.outage import Outage
from wire.clock import NS_PER_US, Clock

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
SYNCHRONOUS_FULL = 2  # PRAGMA synchronous; sqlite.org/pragma.html

_PREPARE_LOCK = 0x7469_6465_6761_7465  # an advisory lock's number: "tidegate"
_MAY_CREATE = "SELECT current_schema(), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"

PARAMETERS_MAX = 5_000  # in one IN list; SQLite allows 32,766 per statement, PostgreSQL 65,535


class Database:
    """Transactions on one database. Calls may come from any thread; each takes a connection of its own."""

    def __init__(self, engine: Engine, reader: Engine, turn: AbstractContextManager[Any], outage: Outage) -> None:
        """`reader` begins transactions that see one state; `turn` is held by each that writes."""
        self._engine = engine
        self._reader = reader
        self._turn = turn
        self._outage = outage
        self.refused = False  # the last transaction that writes failed: on a full disk reading still works

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with self._watched(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction whose every statement sees what others have committed before it.

        Rows that decide must be locked by it: whole gateways first, in order of id, so that no two can wait for each
        other. On SQLite it holds the database's only write lock. `CatalogDown` from its end: outcome unknown.
        """
        with (
            self._turn,
            self._watched(writes=True),
            self._engine.connect().execution_options(tidegate_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _watched(self, *, writes: bool = False) -> Iterator[None]:
        try:
            with mapped():
                yield
        except CatalogDown as error:
            self.refused |= writes
            self._outage.failed(error)
            raise
        if writes or not self.refused:
            self.refused = False
            self._outage.worked()

    def prepare(self, connection: Connection) -> None:
        """Let no other process look for tables or make them before this transaction ends."""
        if self._engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_PREPARE_LOCK)))

    def require_creatable(self, connection: Connection) -> None:
        """Raise ConfigInvalid when tables cannot be made."""
        if self._engine.dialect.name == "postgresql":
            schema, allowed = connection.exec_driver_sql(_MAY_CREATE).one()
            if not allowed:
                user = self._engine.url.username or "the user"
                raise ConfigInvalid(
                    f"{user} may not make tables in schema {schema or '(none)'}. "
                    f"Try: GRANT CREATE, USAGE ON SCHEMA {schema or 'public'} TO {user}"
                )

    def insert(self, table: sa.Table) -> Any:
        """INSERT that can say ON CONFLICT in the engine's dialect."""
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)

    def close(self) -> None:
        """Release all connections."""
        self._engine.dispose()


def open_sqlite(path: Path, clock: Clock) -> Database:
    """A database in one file, created when missing: WAL, synchronous=FULL, foreign keys on.

    Raises ConfigInvalid when the file is no database, is shorter than it says, or does not fsync its commits.
    """
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        connection.create_function(SQLITE_FUNCTION, 0, lambda: clock.wall_ns() // NS_PER_US)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=2000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("tidegate_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    try:
        _check_sqlite(engine, path)
    except BaseException:
        engine.dispose()
        raise
    turn = threading.Lock()  # a turn taken here costs less than polling the database's own lock
    return Database(engine, engine, turn, Outage("catalog", clock))


def storable(claimed: str) -> str:
    """What somebody says, as a database can keep it: PostgreSQL has no NUL in text."""
    return claimed.replace("\0", "\ufffd")


def portions(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut what goes into an IN list, so that no statement has too many parameters."""
    return (values[at : at + PARAMETERS_MAX] for at in range(0, len(values), PARAMETERS_MAX))


def _check_sqlite(engine: Engine, path: Path) -> None:
    journalled = _size(path.with_name(path.name + "-wal")) > 0  # then pages may rightly be missing in the file
    restore = f"restore {path} from a backup, then run: cloud-sync restored --data {path.parent}"
    try:
        with engine.connect() as connection:
            promises = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "page_count", "page_size")
            }
    except SQLAlchemyError as error:
        raise ConfigInvalid(f"{path} cannot be opened as a database: {cause(error)}. Try: {restore}") from error
    size, claimed = _size(path), promises["page_count"] * promises["page_size"]
    if size < claimed and not journalled:
        raise ConfigInvalid(f"{path} is truncated: {size} of {claimed} bytes are there. Try: {restore}")
    require_durable(promises["journal_mode"], promises["synchronous"], path)


def require_durable(journal_mode: str, synchronous: int, path: Path) -> None:
    """Raise ConfigInvalid unless a commit of this SQLite file survives a power cut."""
    if journal_mode != "wal" or synchronous < SYNCHRONOUS_FULL:
        raise ConfigInvalid(
            f"{path} has journal_mode={journal_mode}, synchronous={synchronous}: a power cut could lose a commit. "
            f"Needed: wal and {SYNCHRONOUS_FULL} or more. Try: a folder on a local disk"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def mapped() -> Iterator[None]:
    """Errors of the database as `CatalogDown`."""
    try:
        yield
    except SQLAlchemyError as error:
        raise CatalogDown(f"catalog: {cause(error)}") from error


def cause(error: SQLAlchemyError) -> str:
    """What the database said, in one line."""
    return " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
