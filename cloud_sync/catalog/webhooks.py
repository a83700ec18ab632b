"""Webhooks: where to tell what, and what waits to be told.

An alarm is queued in the transaction that stores it; silences and gaps are looked for, and `webhook_told` keeps which
of them each webhook knows. What is queued is deleted once its receiver has taken it: a restart loses nothing, and a
crash in between tells it twice, with the same id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cloud_sync.catalog import audit_rows
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.database import Database
from cloud_sync.catalog.database_clock import database_time, now_us
from cloud_sync.catalog.ledger import accounts
from cloud_sync.catalog.schema import gateway, identity, webhook, webhook_delivery, webhook_told
from cloud_sync.errors import ConfigInvalid, NotFound
from wire.clock import US_PER_S

EVENTS = ("alarm", "silence", "gap")
WEBHOOKS_MAX = 20
WAITING_MAX = 10_000  # of one webhook; then the oldest goes, and is counted
KEPT_US = 3 * 86_400 * US_PER_S  # a receiver that is away for longer misses what is older, counted
LEASE_US = 60 * US_PER_S  # what one replica took and did not settle, another sends

_hooks = sa.select(webhook).order_by(webhook.c.id)
_counts = sa.select(webhook_delivery.c.webhook_id, sa.func.count()).group_by(webhook_delivery.c.webhook_id)


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send, and how to sign."""

    id: str
    url: str
    secret: str
    allow_private: bool


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one webhook. `failures`: tries in a row that its receiver did not take."""

    target: Target
    event_id: str
    body: str
    failures: int


@dataclass(frozen=True, slots=True)
class Terms:
    """What a webhook wants to know, and where it may lead."""

    url: str
    events: tuple[str, ...]
    silent_after_s: int
    allow_private: bool


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """A webhook without its secret. `dropped`: never told, because too many or too old. Times are 0 where none."""

    id: str
    terms: Terms
    waiting: int
    failures: int
    dropped: int
    taken_us: int
    error: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell. Type and key name it for ever: told again, it has the same id."""

    type: str
    key: str
    at_us: int
    data: Mapping[str, object]

    @property
    def id(self) -> str:
        """As receivers see it."""
        return "evt_" + hashlib.sha256(f"{self.type} {self.key}".encode()).hexdigest()[:32]

    @property
    def body(self) -> str:
        """What is posted."""
        at = datetime.fromtimestamp(max(self.at_us, 0) / US_PER_S, UTC).isoformat(timespec="milliseconds")
        document = {"type": self.type, "timestamp": at.replace("+00:00", "Z"), "data": dict(self.data)}
        return json.dumps(document, separators=(",", ":"))


def greeting(at_us: int) -> Event:
    """What `webhook test` sends."""
    return Event("test", str(at_us), at_us, {"text": "Tidegate says hello"})


class Webhooks:
    """Any thread may call; raises CatalogDown beside what is named."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, target_id: str, secret: str, terms: Terms, actor: str = ACTOR_LOCAL) -> None:
        """Tell this receiver from now on. Raises ConfigInvalid when there are too many."""
        with self._database.write() as connection:
            if connection.execute(sa.select(sa.func.count()).select_from(webhook)).scalar_one() >= WEBHOOKS_MAX:
                raise ConfigInvalid(f"there are {WEBHOOKS_MAX} webhooks, the most. Try: cloud-sync webhook remove ID")
            connection.execute(
                webhook.insert().values(
                    id=target_id,
                    url=terms.url,
                    secret=secret,
                    events=",".join(terms.events),
                    silent_after_s=terms.silent_after_s,
                    allow_private=terms.allow_private,
                    created_us=now_us,
                )
            )
            audit_rows.record(connection, actor, "webhook.add", target_id, terms.url)

    def remove(self, target_id: str, actor: str = ACTOR_LOCAL) -> None:
        """Forget it, and what waits for it. Raises NotFound."""
        with self._database.write() as connection:
            row = _hook(connection, target_id)
            for table in (webhook_delivery, webhook_told):
                connection.execute(table.delete().where(table.c.webhook_id == row.id))
            connection.execute(webhook.delete().where(webhook.c.id == row.id))
            audit_rows.record(connection, actor, "webhook.remove", str(row.id), str(row.url))

    def target(self, target_id: str) -> Target:
        """One, to be tried. Raises NotFound."""
        with self._database.read() as connection:
            return _target(_hook(connection, target_id))

    def all(self) -> list[WebhookRow]:
        """By id."""
        with self._database.read() as connection:
            waiting = {row[0]: int(row[1]) for row in connection.execute(_counts)}
            return [_webhook_row(row, waiting.get(row.id, 0)) for row in connection.execute(_hooks)]

    def look(self) -> int:
        """Queue what silences and gaps began and ended since the last look; returns how many events."""
        with self._database.write() as connection:
            hooks = connection.execute(_hooks.with_for_update()).all()
            if not hooks:
                return 0
            at_us = database_time(connection)
            seen = _last_seen(connection)
            gaps = {name: each.gap for name, each in accounts(connection, None).items() if each.gap}
            queued = 0
            for row in hooks:
                now: dict[tuple[str, str], Event] = {}
                for name, last_us in seen.items():
                    if at_us - last_us > row.silent_after_s * US_PER_S:
                        now["silence", name] = _event("silence", name, at_us, {"last_seen_ms": last_us // 1000})
                for name, count in gaps.items():
                    now["gap", name] = _event("gap", name, at_us, {"readings": count})
                queued += self._compare(connection, row, now, at_us)
            return queued

    def take(self) -> list[Delivery]:
        """The oldest event of each webhook that may be tried now; nobody else gets it for a minute."""
        with self._database.write() as connection:
            at_us = database_time(connection)
            due = connection.execute(_hooks.where(webhook.c.due_us <= at_us).with_for_update()).all()
            found = []
            for row in due:
                of_hook = webhook_delivery.c.webhook_id == row.id
                old = connection.execute(
                    webhook_delivery.delete().where(of_hook, webhook_delivery.c.queued_us < at_us - KEPT_US)
                ).rowcount
                oldest = sa.select(webhook_delivery).where(of_hook).order_by(webhook_delivery.c.id).limit(1)
                first = connection.execute(oldest).one_or_none()
                values: dict[str, Any] = {"dropped": webhook.c.dropped + old} if old else {}
                if first is not None:
                    values["due_us"] = at_us + LEASE_US
                    found.append(Delivery(_target(row), first.event_id, first.body, row.failures))
                if values:
                    connection.execute(webhook.update().where(webhook.c.id == row.id).values(values))
            return found

    def taken(self, delivery: Delivery) -> None:
        """The receiver has it."""
        own = webhook_delivery.c.webhook_id == delivery.target.id
        with self._database.write() as connection:
            connection.execute(webhook_delivery.delete().where(own, webhook_delivery.c.event_id == delivery.event_id))
            values = {"due_us": 0, "failures": 0, "error": "", "taken_us": now_us}
            connection.execute(webhook.update().where(webhook.c.id == delivery.target.id).values(values))

    def failed(self, delivery: Delivery, error: str, again_s: float) -> None:
        """It has not; try after so many seconds."""
        with self._database.write() as connection:
            values = {"failures": webhook.c.failures + 1, "error": error[:200], "due_us": now_us + int(again_s * 1e6)}
            connection.execute(webhook.update().where(webhook.c.id == delivery.target.id).values(values))

    def _compare(self, connection: Connection, row: Row[Any], now: Mapping[tuple[str, str], Event], at_us: int) -> int:
        """Queue what differs from what this webhook was told, and note that it will be."""
        wanted = set(str(row.events).split(","))
        known = {
            (told.kind, told.subject): told.since_us
            for told in connection.execute(sa.select(webhook_told).where(webhook_told.c.webhook_id == row.id))
        }
        began = [event for key, event in now.items() if key not in known and key[0] in wanted]
        ended = [key for key in known if key not in now]
        for kind, subject in ended:
            told = (webhook_told.c.webhook_id == row.id, webhook_told.c.kind == kind, webhook_told.c.subject == subject)
            connection.execute(webhook_told.delete().where(*told))
        for event in began:
            kind, subject = event.type.partition(".")[0], str(event.data["gateway"])
            values = {"webhook_id": row.id, "kind": kind, "subject": subject, "since_us": at_us}
            connection.execute(webhook_told.insert().values(values))
        over = [_event(kind, subject, at_us, {}, known[kind, subject]) for kind, subject in ended]
        enqueue(connection, self._database, row, [*began, *over], at_us)
        return len(began) + len(over)


def wanting(connection: Connection, kind: str) -> list[Row[Any]]:
    """Webhooks that want to know of this kind of event."""
    return [row for row in connection.execute(_hooks) if kind in str(row.events).split(",")]


def enqueue(connection: Connection, database: Database, row: Row[Any], events: Iterable[Event], at_us: int) -> None:
    """Let the events wait for one webhook, in this transaction; one that waits already waits once."""
    rows = [{"webhook_id": row.id, "event_id": event.id, "body": event.body, "queued_us": at_us} for event in events]
    if not rows:
        return
    number = sa.select(sa.func.coalesce(sa.func.max(webhook_delivery.c.id), 0))
    first = int(connection.execute(number).scalar_one()) + 1
    numbered = [{**values, "id": first + place} for place, values in enumerate(rows)]
    connection.execute(database.insert(webhook_delivery).on_conflict_do_nothing(), numbered)
    own = webhook_delivery.c.webhook_id == row.id
    waiting = connection.execute(sa.select(sa.func.count()).where(own)).scalar_one()
    if waiting > WAITING_MAX:
        oldest = (
            sa.select(webhook_delivery.c.id).where(own).order_by(webhook_delivery.c.id).limit(waiting - WAITING_MAX)
        )
        ids = list(connection.execute(oldest).scalars())
        connection.execute(webhook_delivery.delete().where(webhook_delivery.c.id.in_(ids)))
        dropped = webhook.update().where(webhook.c.id == row.id)
        connection.execute(dropped.values(dropped=webhook.c.dropped + len(ids)))


def _event(kind: str, name: str, at_us: int, more: Mapping[str, object], since_us: int | None = None) -> Event:
    """The begin of a silence or gap, or its end, when it is known since when it was told."""
    phase = "raised" if since_us is None else "cleared"
    return Event(f"{kind}.{phase}", f"{name} {since_us or at_us}", at_us, {"gateway": name, **more})


def _last_seen(connection: Connection) -> dict[str, int]:
    """Of gateways that are expected: neither revoked nor left."""
    out = sa.exists().where(identity.c.gateway == gateway.c.id, identity.c.revoked_us > 0)
    expected = sa.select(gateway.c.id, gateway.c.last_seen_us).where(~out)
    return {row.id: row.last_seen_us for row in connection.execute(expected)}


def _hook(connection: Connection, target_id: str) -> Row[Any]:
    row = connection.execute(_hooks.where(webhook.c.id == target_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no webhook {target_id[:80]!r}. Try: cloud-sync webhook list")
    return row


def _target(row: Row[Any]) -> Target:
    return Target(row.id, row.url, row.secret, row.allow_private)


def _webhook_row(row: Row[Any], waiting: int) -> WebhookRow:
    terms = Terms(row.url, tuple(row.events.split(",")), row.silent_after_s, row.allow_private)
    return WebhookRow(row.id, terms, waiting, row.failures, row.dropped, row.taken_us, row.error)
