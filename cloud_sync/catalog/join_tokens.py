"""Tokens that devices join with. Every call is one transaction, and what changes something leaves an audit row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from cloud_sync.catalog import audit_rows
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.database import Database
from cloud_sync.catalog.database_clock import database_time, now_us
from cloud_sync.catalog.schema import join_token
from cloud_sync.errors import NotFound
from wire.clock import US_PER_S
from wire.join import JoinToken


@dataclass(frozen=True, slots=True)
class TokenTerms:
    """What a token is good for. `gateway`: the only id, and then it may replace that gateway; empty: any free one."""

    ttl_s: int
    uses_max: int
    gateway: str
    approved: bool
    labels: Mapping[str, str]
    config: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token, without its secret."""

    id: str
    created_us: int
    expires_us: int
    uses: int
    uses_max: int
    gateway: str
    approved: bool
    labels: dict[str, str]
    state: str  # good, used up, expired, revoked


class JoinTokens:
    """Any thread may call; raises CatalogDown beside what is named."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, token: JoinToken, terms: TokenTerms, actor: str = ACTOR_LOCAL) -> None:
        """Note a token that was just made."""
        with self._database.write() as connection:
            at_us = database_time(connection)
            connection.execute(
                join_token.insert().values(
                    id=token.id,
                    secret_sha256=token.secret_sha256,
                    created_us=at_us,
                    expires_us=at_us + terms.ttl_s * US_PER_S,
                    uses_max=terms.uses_max,
                    gateway=terms.gateway,
                    approved=terms.approved,
                    labels=json.dumps(dict(terms.labels)),
                    config=terms.config,
                )
            )
            audit_rows.record(connection, actor, "token.create", token.id, f"uses {terms.uses_max}, {terms.ttl_s} s")

    def all(self) -> list[TokenRow]:
        """Every token, newest first."""
        with self._database.read() as connection:
            at_us = database_time(connection)
            found = connection.execute(sa.select(join_token).order_by(join_token.c.created_us.desc()))
            return [_token_row(row, at_us) for row in found]

    def revoke(self, token_id: str, actor: str = ACTOR_LOCAL) -> None:
        """Nobody joins with it any more; who has joined stays. Raises NotFound."""
        with self._database.write() as connection:
            changed = connection.execute(
                join_token.update().where(join_token.c.id == token_id).values(revoked_us=now_us)
            ).rowcount
            if not changed:
                raise NotFound(f"there is no token {token_id[:80]!r}. Try: cloud-sync token list")
            audit_rows.record(connection, actor, "token.revoke", token_id)


def _token_row(row: Row[Any], at_us: int) -> TokenRow:
    ends = ((row.revoked_us, "revoked"), (at_us >= row.expires_us, "expired"), (row.uses >= row.uses_max, "used up"))
    state = next((name for ended, name in ends if ended), "good")
    labels = json.loads(row.labels)
    return TokenRow(
        row.id, row.created_us, row.expires_us, row.uses, row.uses_max, row.gateway, row.approved, labels, state
    )
