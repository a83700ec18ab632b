"""A PostgreSQL server that refuses, is away, or could lose a commit: one clear line, and never a password in it."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_sync.catalog.catalog import PackEntry
from cloud_sync.catalog.database import Database
from cloud_sync.catalog.postgresql import open_postgresql, require_durable
from cloud_sync.catalog.schema import gateway
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import CatalogDown, CloudError, ConfigInvalid
from tests.conformance.test_catalog import SETS, entry
from tests.servers import PostgreSQL
from tests.unit.cloud_sync.gateway import hello
from wire.clock import SystemClock
from wire.sync.outcomes import AlreadyStored, CatalogOutcome, Stored

CLOCK = SystemClock()


@pytest.fixture
def url(postgresql_server: PostgreSQL) -> str:
    return postgresql_server.empty()


def refused(url: str, kind: type[CloudError] = ConfigInvalid) -> str:
    with pytest.raises(kind) as caught:
        SqlCatalog.open_postgresql(url, CLOCK)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_commits_wait_for_the_disk(url: str) -> None:
    database = open_postgresql(url, CLOCK)
    with database.write() as connection:
        assert connection.exec_driver_sql("SHOW fsync").scalar_one() == "on"
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "10s"
    database.close()


@pytest.mark.parametrize(("fsync", "synchronous_commit"), [("off", "on"), ("on", "off")])
def test_a_server_that_may_lose_commits_is_refused(fsync: str, synchronous_commit: str) -> None:
    with pytest.raises(ConfigInvalid, match="power cut"):
        require_durable(fsync, synchronous_commit)


@pytest.mark.parametrize("synchronous_commit", ["on", "local", "remote_write", "remote_apply"])
def test_a_server_that_flushes_its_own_log_is_taken(synchronous_commit: str) -> None:
    require_durable("on", synchronous_commit)


def test_synchronous_commit_off_is_seen_on_a_real_server(url: str) -> None:
    assert "synchronous_commit=off" in refused(f"{url}%20-csynchronous_commit%3Doff")


def test_no_tables_yet(url: str) -> None:
    assert "cloud-sync init" in refused(url)
    SqlCatalog.open_postgresql(url, CLOCK, create=True).close()
    SqlCatalog.open_postgresql(url, CLOCK).close()


def test_another_schema_version(url: str) -> None:
    SqlCatalog.open_postgresql(url, CLOCK, create=True).close()
    run(url, "UPDATE meta SET schema_version = 99")
    assert "version 99" in refused(url)


def test_tables_of_something_else(url: str) -> None:
    run(url, "CREATE TABLE notes (x int)")
    assert "notes" in refused(url)


def test_no_such_database_or_user(postgresql_server: PostgreSQL) -> None:
    assert 'database "nowhere" does not exist' in refused(postgresql_server.url("nowhere"))
    assert 'role "nobody-here" does not exist' in refused(postgresql_server.url().replace("tidegate@", "nobody-here@"))


def test_a_wrong_password_is_said_and_not_shown(postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    postgresql_server.execute("DROP ROLE IF EXISTS locked", "CREATE ROLE locked LOGIN PASSWORD 'right'")
    locked = postgresql_server.url().replace("tidegate@", "locked@")
    assert "PGPASSFILE" in refused(locked)
    monkeypatch.setenv("PGPASSWORD", "wrong-secret")
    assert "password authentication failed" in (said := refused(locked))
    assert "wrong-secret" not in said
    monkeypatch.delenv("PGPASSWORD")
    assert "other-secret" not in refused(locked.replace("locked@", "locked:other-secret@"))


def test_a_user_who_may_not_make_tables(url: str, postgresql_server: PostgreSQL) -> None:
    postgresql_server.execute("DROP ROLE IF EXISTS guest", "CREATE ROLE guest LOGIN")
    for place in (url, postgresql_server.url()):
        with pytest.raises(ConfigInvalid, match="GRANT CREATE, USAGE ON SCHEMA public TO guest"):
            SqlCatalog.open_postgresql(place.replace("tidegate@", "guest@"), CLOCK, create=True)


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "postgresql", "/a/file", ""])
def test_what_is_no_url_of_postgresql(url: str) -> None:
    assert "postgresql://USER@HOST" in (said := refused(url))
    assert "secret" not in said


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused(f"postgresql://u:secret@127.0.0.1:{unused.getsockname()[1]}/d", CatalogDown)


def test_an_error_of_a_statement_shows_no_values(url: str) -> None:
    database = open_postgresql(url, CLOCK)
    with pytest.raises(CatalogDown) as caught, database.write() as connection:
        connection.execute(gateway.select().where(gateway.c.id == "a-value"))
    assert "a-value" not in str(caught.value)
    database.close()


def test_a_restart_is_said_once_and_leaves_nothing_behind(
    url: str, postgresql_server: PostgreSQL, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = SqlCatalog.open_postgresql(url, CLOCK, create=True)
    catalog.put_series_sets("gw-a", SETS)
    with caplog.at_level(logging.WARNING):
        postgresql_server.kill(signal.SIGQUIT)
        for _ in range(3):
            with pytest.raises(CatalogDown):
                catalog.hello("gw-a", hello())
        postgresql_server.start()
        for first in range(0, 30, 10):
            assert commit(catalog, entry((first, first + 10))) == [Stored()]
    catalog.close()
    assert [record.message.split(" error")[0].split(" after")[0] for record in caplog.records] == [
        "catalog lost, nothing is acknowledged until it is back",
        "catalog is back",
    ]


def test_a_restart_between_two_calls_costs_nothing(url: str, postgresql_server: PostgreSQL) -> None:
    catalog = SqlCatalog.open_postgresql(url, CLOCK, create=True)
    catalog.put_series_sets("gw-a", SETS)
    postgresql_server.kill(signal.SIGQUIT)
    postgresql_server.start()
    assert commit(catalog, entry((0, 10))) == [Stored()]
    catalog.close()


def test_readers_see_one_state_and_change_nothing(url: str) -> None:
    database = open_postgresql(url, CLOCK)
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE notes (x int)")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0
        with database.write() as other:
            other.exec_driver_sql("INSERT INTO notes VALUES (1)")
        assert connection.exec_driver_sql("SELECT count(*) FROM notes").scalar_one() == 0
    with pytest.raises(CatalogDown, match="read-only"), database.read() as connection:
        connection.exec_driver_sql("INSERT INTO notes VALUES (2)")
    database.close()


def commit(catalog: SqlCatalog, *entries: PackEntry) -> list[CatalogOutcome]:
    return catalog.commit_pack(catalog.open_pack(), 1000, entries)


def run(url: str, statement: str) -> None:
    database = open_postgresql(url, CLOCK)
    with database.write() as connection:
        connection.exec_driver_sql(statement)
    database.close()


# -- two replicas ---------------------------------------------------------------------------------------------------


def at_once(*calls: Callable[[], object]) -> None:
    """Run the calls on threads of their own and raise what any of them raised."""
    failures: list[Exception] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_an_empty_database_is_prepared_by_one_of_many(url: str) -> None:
    found: list[int] = []

    def start() -> None:
        catalog = SqlCatalog.open_postgresql(url, CLOCK, create=True)
        found.append(catalog.generation())
        catalog.close()

    at_once(*[start] * 4)
    assert len(set(found)) == 1


def test_the_same_messages_through_two_replicas_are_stored_once(url: str, postgresql_server: PostgreSQL) -> None:
    """Both take the same gateways' messages in opposite orders, while others say Hello and bring new definitions."""
    replicas = [SqlCatalog.open_postgresql(url, CLOCK, create=True) for _ in range(2)]
    gateways = [f"gw-{letter}" for letter in "abcdef"]
    for name in gateways[:3]:
        replicas[0].put_series_sets(name, SETS)
    outcomes: list[tuple[str, int, CatalogOutcome]] = []

    def ingest(catalog: SqlCatalog, order: list[str]) -> None:
        for first in range(0, 200, 10):
            made = [entry((first, first + 10), gateway=name, epoch=9 + first % 20) for name in order]
            ticket = catalog.open_pack()
            for name, outcome in zip(order, catalog.commit_pack(ticket, 1000, made)):
                outcomes.append((name, first, outcome))

    def greet(catalog: SqlCatalog) -> None:
        for _ in range(20):
            for name in gateways:
                catalog.hello(name, hello(9, 19))
            catalog.put_series_sets(gateways[0], SETS)

    calls: list[Callable[[], object]] = []
    for catalog, order in zip(replicas, (gateways, gateways[::-1])):
        calls += [lambda c=catalog, o=order: ingest(c, o), lambda c=catalog: greet(c)]  # type: ignore[misc]
    since = postgresql_server.log_size
    at_once(*calls)
    assert "deadlock" not in postgresql_server.log_text(since)
    for name in gateways:
        for first in range(0, 200, 10):
            told = sorted(type(o).__name__ for g, f, o in outcomes if (g, f) == (name, first))
            assert told == [AlreadyStored.__name__, Stored.__name__], (name, first)
        assert len(replicas[0].messages(name, [SETS[0].id], 0, 2**62)) == 20
        assert sum(line.stored for line in replicas[1].ledger(name)) == 200
    for catalog in replicas:
        catalog.close()


def test_row_locks_make_a_second_commit_wait(url: str) -> None:
    """While one transaction holds a gateway's rows, another replica's commit of that gateway does not go past it."""
    catalog = SqlCatalog.open_postgresql(url, CLOCK, create=True)
    catalog.put_series_sets("gw-a", SETS)
    done = threading.Event()
    other: Database = open_postgresql(url, CLOCK)
    with other.write() as connection:
        connection.exec_driver_sql("SELECT 1 FROM gateway WHERE id = 'gw-a' FOR UPDATE")
        thread = threading.Thread(target=lambda: (commit(catalog, entry((0, 10))), done.set()))
        thread.start()
        assert not done.wait(0.3)
    thread.join()
    assert done.is_set()
    catalog.close()
    other.close()
