"""Who may ask over HTTP: API tokens, one-time links, and the sessions that either of them opened.

Every call is one transaction, and what changes something leaves a row in the audit table within it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cloud_sync.auth.credentials import Credential, Kind
from cloud_sync.auth.roles import Role
from cloud_sync.catalog import audit_rows
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.database import Database, storable
from cloud_sync.catalog.database_clock import database_time, now_us
from cloud_sync.catalog.schema import credential as table
from cloud_sync.errors import CatalogDown, CredentialRefused, NotFound
from wire.clock import US_PER_S
from wire.join import matches

LINK_S = 86_400
SESSION_S = 7 * 86_400
SESSIONS_MAX = 100  # of one token, or of all links; a new one ends the oldest
KEPT_US = 30 * 86_400 * US_PER_S  # links and sessions that are over are forgotten after that
SEEN_US = 3_600 * US_PER_S  # how often it is written down that a credential is in use

_LOGIN_HELP = "Try: cloud-sync admin-link, or cloud-sync api-token create"
_USED = f"this link was used or ended already, it works once. {_LOGIN_HELP}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    kind: str
    id: str
    name: str
    role: Role
    expires_us: int
    parent: str = ""  # of a session that a token opened: the token's id

    @property
    def principal(self) -> str:
        """Whose limits are used up: a token's sessions share them with it."""
        return self.parent or self.id

    @property
    def actor(self) -> str:
        """As the audit names them."""
        return f"{self.kind} {self.id} ({self.name})"


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A token, link or session, without its secret. `seen_us`: last use, to the hour; 0: none."""

    id: str
    kind: str
    role: Role
    name: str
    parent: str
    created_us: int
    expires_us: int
    seen_us: int
    state: str  # good, expired, ended


_parent = table.alias("parent")
_found = (
    sa.select(table, sa.func.coalesce(_parent.c.ended_us, 0).label("parent_ended_us"), now_us.label("at_us"))
    .select_from(table.outerjoin(_parent, _parent.c.id == table.c.parent))
    .where(table.c.id == sa.bindparam("credential_id"))
)


class People:
    """See the module. Any thread may call; raises CatalogDown beside what is named."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create_token(self, name: str, role: Role, ttl_s: int, actor: str = ACTOR_LOCAL) -> Credential:
        """A new API token; its text is told once."""
        return self._create(Kind.TOKEN, name, role, ttl_s, actor)

    def create_link(self, ttl_s: int = LINK_S, actor: str = ACTOR_LOCAL) -> Credential:
        """What opens one session of an admin, once."""
        return self._create(Kind.LINK, "admin link", Role.ADMIN, ttl_s, actor)

    def open_session(self, shown: Credential, address: str) -> tuple[Credential, Caller]:
        """A session for a link, which is used up by it, or for a token, with which it ends.

        Raises CredentialRefused.
        """
        with self._database.write() as connection:
            row = _good(connection, shown)
            made = Credential.new(Kind.SESSION)
            parent = ""
            if shown.kind is Kind.LINK:
                unused = table.update().where(table.c.id == row.id, table.c.ended_us == 0)
                if not connection.execute(unused.values(ended_us=row.at_us)).rowcount:  # another was faster
                    raise CredentialRefused(_USED)
            else:
                parent = str(row.id)
            expires_us = row.at_us + SESSION_S * US_PER_S
            if parent:
                expires_us = min(expires_us, row.expires_us)
            _make_room(connection, parent, row.at_us)
            _insert(connection, made, str(row.name), Role(row.role), row.at_us, expires_us, parent)
            caller = Caller(Kind.SESSION.word, made.id, str(row.name), Role(row.role), expires_us, parent)
            by = f"{shown.kind.word} {row.id} ({row.name})"
            audit_rows.record(connection, by, "session.open", made.id, f"{caller.role.word} from {address}")
            return made, caller

    def caller(self, shown: Credential) -> Caller:
        """Whose this is. Raises CredentialRefused when it is not, or no longer, good."""
        with self._database.read() as connection:
            row = _good(connection, shown)
        if row.at_us - row.seen_us >= SEEN_US:
            # On a full disk people still look.
            with contextlib.suppress(CatalogDown), self._database.write() as connection:
                connection.execute(table.update().where(table.c.id == row.id).values(seen_us=row.at_us))
        return Caller(shown.kind.word, str(row.id), str(row.name), Role(row.role), row.expires_us, str(row.parent))

    def end(self, credential_id: str, actor: str = ACTOR_LOCAL) -> str:
        """Revoke a token with its sessions, a link, or one session; its kind. Raises NotFound."""
        with self._database.write() as connection:
            wanted = sa.select(table.c.kind).where(table.c.id == storable(credential_id)).with_for_update()
            kind = connection.execute(wanted).scalar_one_or_none()
            if kind is None:
                raise NotFound(f"there is no token or session {credential_id[:80]!r}. Try: cloud-sync api-token list")
            ended = table.update().where(table.c.id == credential_id, table.c.ended_us == 0)
            connection.execute(ended.values(ended_us=now_us))
            audit_rows.record(connection, actor, f"{kind}.end", credential_id)
            return str(kind)

    def all(self) -> list[CredentialRow]:
        """Every one that is known, newest first."""
        with self._database.read() as connection:
            at_us = database_time(connection)
            ended = {row.id for row in connection.execute(sa.select(table.c.id).where(table.c.ended_us > 0))}
            found = connection.execute(sa.select(table).order_by(table.c.created_us.desc(), table.c.id)).all()
        return [_row(row, at_us, row.id in ended or row.parent in ended) for row in found]

    def _create(self, kind: Kind, name: str, role: Role, ttl_s: int, actor: str) -> Credential:
        made = Credential.new(kind)
        with self._database.write() as connection:
            at_us = database_time(connection)
            _forget(connection, at_us)
            _insert(connection, made, storable(name), role, at_us, at_us + ttl_s * US_PER_S)
            audit_rows.record(connection, actor, f"{kind.word}.create", made.id, f"{name}, {role.word}, {ttl_s} s")
        return made


def _good(connection: Connection, shown: Credential) -> Row[Any]:
    """Its row. Raises CredentialRefused; the reason is for those only who know the secret."""
    row = connection.execute(_found, {"credential_id": shown.id}).one_or_none()
    if row is None or not matches(shown.secret, row.secret_sha256) or row.kind != shown.kind.word:
        raise CredentialRefused(f"this cloud knows no such {shown.kind.word}. {_LOGIN_HELP}")
    if row.ended_us or row.parent_ended_us:
        raise CredentialRefused(
            _USED if shown.kind is Kind.LINK else f"this {shown.kind.word} was ended. {_LOGIN_HELP}"
        )
    if row.at_us >= row.expires_us:
        raise CredentialRefused(f"this {shown.kind.word} has expired. {_LOGIN_HELP}")
    return row


def _insert(
    connection: Connection, made: Credential, name: str, role: Role, at_us: int, expires_us: int, parent: str = ""
) -> None:
    connection.execute(
        table.insert().values(
            id=made.id,
            kind=made.kind.word,
            secret_sha256=made.secret_sha256,
            role=int(role),
            name=name,
            parent=parent,
            created_us=at_us,
            expires_us=expires_us,
        )
    )


def _make_room(connection: Connection, parent: str, at_us: int) -> None:
    """For one more session."""
    _forget(connection, at_us)
    of_parent = (table.c.kind == Kind.SESSION.word, table.c.parent == parent)
    newest = sa.select(table.c.id).where(*of_parent).order_by(table.c.created_us.desc()).limit(SESSIONS_MAX - 1)
    kept = list(connection.execute(newest).scalars())
    connection.execute(table.delete().where(*of_parent, table.c.id.not_in(kept)))


def _forget(connection: Connection, at_us: int) -> None:
    over = sa.or_(
        table.c.expires_us < at_us - KEPT_US, sa.and_(table.c.ended_us > 0, table.c.ended_us < at_us - KEPT_US)
    )
    connection.execute(table.delete().where(table.c.kind != Kind.TOKEN.word, over))


def _row(row: Row[Any], at_us: int, ended: bool) -> CredentialRow:
    state = "ended" if ended else "expired" if at_us >= row.expires_us else "good"
    return CredentialRow(
        row.id, row.kind, Role(row.role), row.name, row.parent, row.created_us, row.expires_us, row.seen_us, state
    )
