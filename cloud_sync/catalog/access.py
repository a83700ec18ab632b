"""Who may connect: requests to join, those that wait for approval, and the certificate that each gateway has.

Every call is one transaction, and what changes something leaves a row in the audit table within it. A gateway that has
no row (its certificate was made by `cert issue` for a cloud without this catalog) is trusted by its signature alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cloud_sync.catalog import audit_rows, identity_rows
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.database import Database, storable
from cloud_sync.catalog.database_clock import database_time, now_us
from cloud_sync.catalog.identity_rows import LEFT, REPLACE_HELP, Issued, Sign
from cloud_sync.catalog.schema import gateway as gateway_table
from cloud_sync.catalog.schema import identity, join_request, join_token
from cloud_sync.errors import AccessDenied, JoinRefused, NotFound
from wire.clock import US_PER_S
from wire.join import matches


class RequestState(IntEnum):
    """Of a request to join."""

    PENDING = 0
    APPROVED = 1
    JOINED = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who asks to join. `key_sha256` is of the public key, in DER."""

    gateway: str
    key_sha256: bytes
    code: str
    machine: bytes
    agent_version: str


@dataclass(frozen=True, slots=True)
class Joined:
    """What a device gets that may join."""

    gateway: str
    certificate: bytes
    labels: dict[str, str]
    config: str


@dataclass(frozen=True, slots=True)
class IdentityRow:
    """A gateway's standing, for people. Times are 0 where there is none."""

    gateway: str
    state: str  # pending, approved, active, revoked, left
    code: str
    since_us: int
    not_after_us: int
    serial: str
    labels: dict[str, str]
    reason: str


_changed = sa.select(identity.c.gateway, identity.c.changed_us).where(identity.c.changed_us > sa.bindparam("since"))


class Access:
    """See the module. Any thread may call; raises CatalogDown beside what is named."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def join(self, token_id: str, secret: str, who: Candidate, sign: Sign) -> Joined | None:
        """Count one use and give a certificate; None while somebody has to approve. Again for the same key: the same.

        Raises JoinRefused with the reason.
        """
        with self._database.write() as connection:
            token = connection.execute(
                sa.select(join_token).where(join_token.c.id == storable(token_id)).with_for_update()
            ).one_or_none()
            if token is None or not matches(secret, token.secret_sha256):
                raise JoinRefused("this cloud knows no such token. Try: a new one, cloud-sync token create")
            if token.revoked_us:
                raise JoinRefused("the token was revoked. Try: a new one, cloud-sync token create")
            request = connection.execute(
                sa.select(join_request).where(
                    join_request.c.token_id == token_id, join_request.c.key_sha256 == who.key_sha256
                )
            ).one_or_none()
            gateway, state = (request.gateway, request.state) if request else self._admit(connection, token, who)
            if state == RequestState.PENDING:
                return None
            return self._issue(connection, token, gateway, who, sign)

    def approve(self, which: str, actor: str = ACTOR_LOCAL) -> str:
        """Let the one request with this code or gateway id join; returns the gateway. Raises NotFound."""
        with self._database.write() as connection:
            found = connection.execute(
                sa.select(join_request)
                .where(join_request.c.state == RequestState.PENDING)
                .where(sa.or_(join_request.c.code == which, join_request.c.gateway == which))
            ).all()
            if len(found) != 1:
                raise NotFound(
                    f"{len(found)} gateways wait under the code or id {which[:80]!r}, exactly 1 is needed. "
                    "Try: cloud-sync gateway list"
                )
            row = found[0]
            connection.execute(
                join_request.update()
                .where(join_request.c.token_id == row.token_id, join_request.c.key_sha256 == row.key_sha256)
                .values(state=RequestState.APPROVED)
            )
            audit_rows.record(connection, actor, "gateway.approve", row.gateway, f"code {row.code}")
            return str(row.gateway)

    def revoke(self, gateway: str, reason: str, actor: str = ACTOR_LOCAL) -> None:
        """No certificate of this gateway is good any more, and what it asked for is refused. Raises NotFound."""
        with self._database.write() as connection:
            waiting = connection.execute(join_request.delete().where(*_waiting(gateway))).rowcount
            seen = connection.execute(sa.select(gateway_table.c.id).where(gateway_table.c.id == gateway)).one_or_none()
            known = connection.execute(identity_rows.BY_GATEWAY, {"gateway": gateway}).one_or_none()
            if known is None and seen is None and not waiting:
                raise NotFound(f"there is no gateway {gateway[:80]!r}. Try: cloud-sync gateway list")
            if known is not None or seen is not None:
                identity_rows.end(self._database, connection, gateway, reason)
            audit_rows.record(connection, actor, "gateway.revoke", gateway, reason)

    def leave(self, gateway: str, serial: str) -> None:
        """The gateway gives its identity back. Raises AccessDenied."""
        with self._database.write() as connection:
            identity_rows.authorise(identity_rows.locked(connection, gateway), gateway, serial)
            identity_rows.end(self._database, connection, gateway, LEFT)
            audit_rows.record(connection, f"gateway {gateway}", "gateway.leave", gateway)

    def authorise(self, gateway: str, serial: str) -> None:
        """Raise AccessDenied unless this certificate of this gateway is good now.

        The first use of a new certificate ends the one before it.
        """
        with self._database.read() as connection:
            row = connection.execute(identity_rows.BY_GATEWAY, {"gateway": gateway}).one_or_none()
        identity_rows.authorise(row, gateway, serial)
        if row is not None and row.serial_before and serial == row.serial:
            with self._database.write() as connection:
                used = identity.update().where(identity.c.gateway == gateway, identity.c.serial == serial)
                connection.execute(used.values(serial_before="", changed_us=now_us))

    def register(self, gateway: str, key_sha256: bytes, issued: Issued, actor: str = ACTOR_LOCAL) -> None:
        """Note a certificate that was made here for this gateway; it ends the ones before it."""
        with self._database.write() as connection:
            identity_rows.put(
                self._database, connection, gateway, key_sha256, issued, revoked_us=0, reason="", serial_before=""
            )
            audit_rows.record(connection, actor, "gateway.issue", gateway, f"serial {issued.serial}")

    def renew(self, gateway: str, serial: str, key_sha256: bytes, sign: Sign) -> bytes:
        """A new certificate in place of the one with this serial; for the same key again, the same one.

        Raises AccessDenied; also when the certificate was renewed for another key before: two have it.
        """
        with self._database.write() as connection:
            row = identity_rows.locked(connection, gateway)
            identity_rows.authorise(row, gateway, serial)
            if row is not None and serial != row.serial:
                if key_sha256 == row.key_sha256:
                    return str(row.certificate).encode()
                raise AccessDenied(identity_rows.copied(gateway))
            issued = sign(gateway)
            identity_rows.put(self._database, connection, gateway, key_sha256, issued, serial_before=serial)
            audit_rows.record(connection, f"gateway {gateway}", "gateway.renew", gateway, f"serial {issued.serial}")
            return issued.pem

    def changed(self, gateways: Collection[str], since_us: int) -> tuple[list[str], int]:
        """Which of these had a change of their standing after `since_us`, and up to when this answer is."""
        with self._database.read() as connection:
            rows = connection.execute(_changed, {"since": since_us}).all()
        newest = max((row.changed_us for row in rows), default=since_us)
        return [row.gateway for row in rows if row.gateway in gateways], newest

    def identities(self) -> list[IdentityRow]:
        """Every gateway that joined, left, was revoked or waits, by id."""
        with self._database.read() as connection:
            waiting = connection.execute(
                sa.select(join_request).where(join_request.c.state != RequestState.JOINED)
            ).all()
            found = [_identity_row(row) for row in connection.execute(sa.select(identity))]
        found += [
            IdentityRow(row.gateway, RequestState(row.state).name.lower(), row.code, row.requested_us, 0, "", {}, "")
            for row in waiting
        ]
        return sorted(found, key=lambda row: (row.gateway, row.since_us))

    def certificates(self) -> dict[str, bytes]:
        """The certificate (PEM) of each gateway that may connect, as far as it is known here."""
        query = sa.select(identity.c.gateway, identity.c.certificate)
        query = query.where(identity.c.revoked_us == 0, identity.c.certificate != "")
        with self._database.read() as connection:
            return {row.gateway: str(row.certificate).encode() for row in connection.execute(query)}

    def _admit(self, connection: Connection, token: Row[Any], who: Candidate) -> tuple[str, RequestState]:
        """A new request: may it be made? Counts the use."""
        at_us = database_time(connection)
        if at_us >= token.expires_us:
            hours = (at_us - token.expires_us) / (3600 * US_PER_S)
            raise JoinRefused(f"the token expired {hours:.1f} hours ago. Try: a new one, cloud-sync token create")
        if token.uses >= token.uses_max:
            raise JoinRefused(
                f"the token was used {token.uses} times of {token.uses_max}. Try: cloud-sync token create --uses N"
            )
        gateway = str(token.gateway) or who.gateway
        if not token.gateway:
            self._require_free(connection, gateway)
        state = RequestState.APPROVED if token.approved else RequestState.PENDING
        connection.execute(join_token.update().where(join_token.c.id == token.id).values(uses=join_token.c.uses + 1))
        connection.execute(
            join_request.insert().values(
                token_id=token.id,
                key_sha256=who.key_sha256,
                code=who.code,
                gateway=gateway,
                machine=who.machine,
                agent_version=storable(who.agent_version),
                state=state,
                requested_us=at_us,
            )
        )
        audit_rows.record(connection, f"token {token.id}", "gateway.request", gateway, f"code {who.code}")
        return gateway, state

    def _require_free(self, connection: Connection, gateway: str) -> None:
        taken = [
            sa.select(identity.c.gateway).where(identity.c.gateway == gateway),
            sa.select(gateway_table.c.id).where(gateway_table.c.id == gateway),
            sa.select(join_request.c.gateway).where(*_waiting(gateway)),
        ]
        if any(connection.execute(query.limit(1)).one_or_none() for query in taken):
            raise JoinRefused(
                f"the gateway id {gateway} is taken. Try: edge-agent join --name ANOTHER, or to put this device in "
                f"its place: {REPLACE_HELP.format(gateway)}"
            )

    def _issue(self, connection: Connection, token: Row[Any], gateway: str, who: Candidate, sign: Sign) -> Joined:
        row = identity_rows.locked(connection, gateway)
        labels = json.loads(str(token.labels))
        ours = row is not None and row.key_sha256 == who.key_sha256
        this = (join_request.c.token_id == token.id, join_request.c.key_sha256 == who.key_sha256)
        state = connection.execute(sa.select(join_request.c.state).where(*this)).scalar_one()
        if row is not None and ours:
            if row.revoked_us:
                raise JoinRefused(f"gateway {gateway} was revoked. Try: {REPLACE_HELP.format(gateway)}")
            return Joined(gateway, str(row.certificate).encode(), labels, str(token.config))
        if state == RequestState.JOINED:
            raise JoinRefused(f"this join is over: gateway {gateway} has another key now. Try: a new token")
        issued = sign(gateway)
        identity_rows.put(
            self._database,
            connection,
            gateway,
            who.key_sha256,
            issued,
            revoked_us=0,
            reason="",
            serial_before="",
            labels=str(token.labels),
            config=str(token.config),
        )
        connection.execute(join_request.update().where(*this).values(state=RequestState.JOINED))
        audit_rows.record(connection, f"token {token.id}", "gateway.join", gateway, f"serial {issued.serial}")
        return Joined(gateway, issued.pem, labels, str(token.config))


def _waiting(gateway: str) -> tuple[sa.ColumnElement[bool], ...]:
    return join_request.c.gateway == gateway, join_request.c.state != RequestState.JOINED


def _identity_row(row: Row[Any]) -> IdentityRow:
    state = "active" if not row.revoked_us else LEFT if row.reason == LEFT else "revoked"
    labels = json.loads(row.labels)
    return IdentityRow(row.gateway, state, "", row.changed_us, row.not_after_us, row.serial, labels, row.reason)
