"""The engine under the catalog: transactions, the database's clock, and what it must promise before it is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from cloud_sync.errors import CatalogDown, ConfigInvalid
from wire.clock import NS_PER_US, Clock

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
SYNCHRONOUS_FULL = 2  # PRAGMA synchronous; sqlite.org/pragma.html

PARAMETERS_MAX = 5_000  # in one IN list; SQLite allows 32,766 per statement, PostgreSQL 65,535

now_us: sa.Function[int] = sa.func.wall_us(type_=sa.BigInteger)  # the database's clock, inside statements


class Database:
    """Transactions on one database. Calls may come from any thread; each takes a connection of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._writer = threading.Lock()  # a turn taken here costs less than polling the database's own lock

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and changes nothing."""
        with _mapped(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start. `CatalogDown` from its end: outcome unknown."""
        with (
            self._writer,
            _mapped(),
            self._engine.connect().execution_options(tidegate_write=True) as connection,
            connection.begin(),
        ):
            yield connection

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
        connection.create_function("wall_us", 0, lambda: clock.wall_ns() // NS_PER_US)
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
    return Database(engine)


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
        raise ConfigInvalid(f"{path} cannot be opened as a database: {_cause(error)}. Try: {restore}") from error
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
def _mapped() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise CatalogDown(f"catalog: {_cause(error)}") from error


def _cause(error: SQLAlchemyError) -> str:
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)
