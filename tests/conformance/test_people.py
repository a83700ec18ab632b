"""Who may ask over HTTP: tokens, links and sessions, on each database."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from cloud_sync.auth.credentials import Credential, Kind
from cloud_sync.auth.roles import Role
from cloud_sync.catalog import people as module
from cloud_sync.catalog.catalog import Catalog
from cloud_sync.catalog.people import KEPT_US, SESSION_S, People
from cloud_sync.catalog.schema import audit, meta
from cloud_sync.catalog.schema import credential as table
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import CatalogDown, CredentialRefused, NotFound
from tests.conformance.catalogs import DialClock, Open, S
from tests.conformance.test_access import UNSEAL

HOUR = 3600 * S


@pytest.fixture
def sql(catalog: Catalog) -> SqlCatalog:
    assert isinstance(catalog, SqlCatalog)
    return catalog


@pytest.fixture
def people(sql: SqlCatalog) -> People:
    return sql.people


def forged(shown: Credential) -> Credential:
    return Credential(shown.kind, shown.id, shown.secret[:-1] + ("0" if shown.secret[-1] != "0" else "1"))


@pytest.mark.parametrize("role", Role)
def test_a_token_says_who_asks_until_it_expires(people: People, clock: DialClock, role: Role) -> None:
    token = people.create_token("grafana", role, 3600)
    assert token.kind is Kind.TOKEN
    caller = people.caller(token)
    assert (caller.id, caller.name, caller.role) == (token.id, "grafana", role)
    assert caller.expires_us == clock.now_us + HOUR
    clock.now_us += HOUR - 1
    people.caller(token)
    clock.now_us += 1
    with pytest.raises(CredentialRefused, match="has expired"):
        people.caller(token)
    assert people.all()[0].state == "expired"


@pytest.mark.parametrize(
    "changed",
    [
        forged,
        lambda shown: Credential(shown.kind, "0" * 12, shown.secret),
        lambda shown: Credential(Kind.SESSION, shown.id, shown.secret),  # a token's secret opens no other door
        lambda shown: Credential(Kind.LINK, shown.id, shown.secret),
    ],
)
def test_what_is_not_quite_the_token(people: People, changed: Callable[[Credential], Credential]) -> None:
    token = people.create_token("grafana", Role.ADMIN, 3600)
    with pytest.raises(CredentialRefused, match="knows no such"):
        people.caller(changed(token))
    with pytest.raises(CredentialRefused, match="knows no such"):
        people.open_session(changed(token), "somewhere")
    people.end(token.id)
    with pytest.raises(CredentialRefused, match="knows no such"):  # nor does it learn what became of it
        people.caller(changed(token))


def test_a_link_opens_one_session_of_an_admin(people: People, clock: DialClock) -> None:
    link = people.create_link()
    with pytest.raises(CredentialRefused, match="knows no such link"):
        people.open_session(forged(link), "")
    session, caller = people.open_session(link, "192.0.2.1")
    assert (session.kind, caller.role, caller.expires_us) == (Kind.SESSION, Role.ADMIN, clock.now_us + SESSION_S * S)
    assert people.caller(session) == caller
    with pytest.raises(CredentialRefused, match="works once"):
        people.open_session(link, "192.0.2.2")
    clock.now_us += SESSION_S * S
    with pytest.raises(CredentialRefused, match="expired"):
        people.caller(session)


def test_a_link_that_was_not_used_in_time(people: People, clock: DialClock) -> None:
    link, other = people.create_link(60), people.create_link(60)
    people.end(other.id)
    with pytest.raises(CredentialRefused, match="ended already"):
        people.open_session(other, "")
    clock.now_us += 60 * S
    with pytest.raises(CredentialRefused, match="has expired"):
        people.open_session(link, "")


def test_a_token_ends_with_its_sessions(people: People, clock: DialClock) -> None:
    token = people.create_token("screen", Role.READONLY, 3600)
    sessions = [people.open_session(token, "")[0] for _ in range(2)]
    assert people.caller(sessions[0]).expires_us == clock.now_us + HOUR  # never longer than the token
    people.end(sessions[0].id)
    with pytest.raises(CredentialRefused, match="session was ended"):
        people.caller(sessions[0])
    people.caller(sessions[1])
    people.end(token.id)
    for ended in (token, sessions[1]):
        with pytest.raises(CredentialRefused, match="was ended"):
            people.caller(ended)
    assert {row.state for row in people.all()} == {"ended"}
    with pytest.raises(NotFound):
        people.end("nosuch\0")


def test_sessions_are_bounded_and_forgotten(
    people: People, sql: SqlCatalog, clock: DialClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SESSIONS_MAX", 3)
    token, other = (people.create_token(name, Role.READONLY, 10**9) for name in "ab")
    kept = people.open_session(other, "")[0]
    sessions = []
    for _ in range(5):
        clock.now_us += S
        sessions.append(people.open_session(token, "")[0])
    with pytest.raises(CredentialRefused):
        people.caller(sessions[1])
    for open_still in (*sessions[2:], kept):
        people.caller(open_still)
    clock.now_us += SESSION_S * S + KEPT_US + S
    people.create_link()
    assert sorted(row.kind for row in people.all()) == ["api-token", "api-token", "link"]


def test_use_is_noted_once_an_hour(people: People, clock: DialClock) -> None:
    token = people.create_token("grafana", Role.READONLY, 10**6)
    started = clock.now_us
    for minutes in (0, 10, 59, 61):
        clock.now_us = started + minutes * 60 * S
        people.caller(token)
    assert people.all()[0].seen_us == started + 61 * 60 * S


def test_what_is_kept_and_what_the_audit_says(people: People, sql: SqlCatalog) -> None:
    token = people.create_token("grafana", Role.OPERATOR, 3600, "api-token abc (root)")
    session, caller = people.open_session(token, "192.0.2.1")
    people.end(session.id, caller.actor)
    told = [(row.actor, row.action, row.subject) for row in sql.audit.rows(9)]
    assert told == [
        (f"session {session.id} (grafana)", "session.end", session.id),
        (f"api-token {token.id} (grafana)", "session.open", session.id),
        ("api-token abc (root)", "api-token.create", token.id),
    ]
    with sql._database.read() as connection:
        kept = repr([*connection.execute(sa.select(table)), *sql.audit.rows(9)])
    for shown in (token, session):
        assert shown.secret not in kept
        assert shown.secret not in repr(shown)


def test_audit_rows_by_page(sql: SqlCatalog) -> None:
    for number in range(5):
        sql.audit.record("me", "thing.change", str(number))
    first = sql.audit.rows(2)
    assert [row.subject for row in first] == ["4", "3"]
    assert [row.subject for row in sql.audit.rows(9, first[-1].id)] == ["2", "1", "0"]
    assert sql.audit.first_broken() is None


def test_a_change_that_several_notice_has_one_row(sql: SqlCatalog) -> None:
    for actor in ("a", "b"):
        sql.audit.record_once(actor, "thing.change", "it", "version 1\0")  # text that PostgreSQL does not take as it is
    sql.audit.record_once("a", "thing.change", "it", "version 2")
    assert [(row.actor, row.detail[:9]) for row in sql.audit.rows(9)] == [("a", "version 2"), ("a", "version 1")]


def test_a_catalog_of_the_version_before_gets_the_table(sql: SqlCatalog, reopen: Open) -> None:
    with sql._database.write() as connection:
        table.drop(connection)
        for unseal in UNSEAL[connection.dialect.name]:
            connection.exec_driver_sql(unseal)
        connection.execute(meta.update().values(schema_version=2))
    newer = reopen()
    assert isinstance(newer, SqlCatalog)
    newer.people.caller(newer.people.create_token("x", Role.READONLY, 60))
    with pytest.raises(CatalogDown, match="only added to"), newer._database.write() as connection:
        connection.execute(audit.delete())
