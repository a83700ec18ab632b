"""Which release each gateway shall run, and what gateways report of it.

Every call is one transaction; what changes an assignment leaves a row in the audit table within it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import audit_rows
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.database import Database, storable
from cloud_sync.catalog.database_clock import now_us
from cloud_sync.catalog.schema import assignment, assignment_counter, gateway, identity, update_report
from cloud_sync.errors import AssignmentImpossible, NotFound
from wire.assignment import RELEASES_MAX, Assigned
from wire.sync.updates import Report

REPORTS_KEPT = 500  # of each gateway
ALL = "all"


@dataclass(frozen=True, slots=True)
class Desired:
    """What a gateway shall run. `counter` grows with each change."""

    counter: int
    releases: tuple[Assigned, ...]


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A report, and when it came by the database's clock."""

    gateway: str
    received_us: int
    report: Report


@dataclass(frozen=True, slots=True)
class Standing:
    """One family on one gateway. `running`: the release that its last Hello named, or empty."""

    gateway: str
    family: str
    desired: Assigned | None
    changed_us: int
    running: str
    last: ReportRow | None
    last_seen_us: int


_counter = sa.select(assignment_counter.c.counter).where(assignment_counter.c.gateway == sa.bindparam("gateway"))
_releases = sa.select(assignment).where(assignment.c.gateway == sa.bindparam("gateway")).order_by(assignment.c.family)
_changed = sa.select(assignment_counter.c.gateway, assignment_counter.c.changed_us).where(
    assignment_counter.c.changed_us > sa.bindparam("since")
)
_bump = (
    assignment_counter.update()
    .where(assignment_counter.c.gateway == sa.bindparam("b_gateway"))
    .values(counter=assignment_counter.c.counter + 1, changed_us=now_us)
)
_received = sa.select(sa.func.max(update_report.c.received_us)).where(
    update_report.c.gateway == sa.bindparam("gateway")
)
_newest = (
    sa.select(update_report.c.gateway, update_report.c.family, sa.func.max(update_report.c.received_us).label("newest"))
    .group_by(update_report.c.gateway, update_report.c.family)
    .subquery()
)
_last = sa.select(update_report).join(
    _newest,
    sa.and_(
        update_report.c.gateway == _newest.c.gateway,
        update_report.c.family == _newest.c.family,
        update_report.c.received_us == _newest.c.newest,
    ),
)
_surplus = (
    sa.select(update_report.c.received_us)
    .where(update_report.c.gateway == sa.bindparam("gateway"))
    .order_by(update_report.c.received_us.desc())
    .offset(REPORTS_KEPT)
    .limit(1)
)


class Assignments:
    """See the module. Any thread may call; raises CatalogDown beside what is named."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def choose(self, which: str) -> list[str]:
        """Gateways by an id, by a label that they joined with (`NAME=VALUE`), or all of them (`all`).

        Raises NotFound when there is none.
        """
        with self._database.read() as connection:
            labels = {row.gateway: json.loads(row.labels) for row in connection.execute(sa.select(identity))}
            known = {*labels, *connection.execute(sa.select(gateway.c.id)).scalars()}
        name, equals, value = which.partition("=")
        if equals:
            found = [one for one in known if labels.get(one, {}).get(name) == value]
        else:
            found = [one for one in known if which in (one, ALL)]
        if not found:
            raise NotFound(f"no gateway is or has the label {which[:80]!r}. Try: cloud-sync gateway list")
        return sorted(found)

    def assign(self, gateways: Sequence[str], release: Assigned, actor: str = ACTOR_LOCAL) -> int:
        """Let these gateways run a release of its family; how many of them it changes anything for.

        Raises AssignmentImpossible when one would have more families than an assignment can hold.
        """
        changed = 0
        with self._database.write() as connection:
            for one in gateways:
                changed += self._assign(connection, one, release, actor)
        return changed

    def _assign(self, connection: Connection, name: str, release: Assigned, actor: str) -> bool:
        self._lock(connection, name)
        before = {each.family: each for each in map(_assigned, connection.execute(_releases, {"gateway": name}))}
        if before.get(release.family) == release:
            return False
        if release.family not in before and len(before) >= RELEASES_MAX:
            raise AssignmentImpossible(f"gateway {name} has {len(before)} families, {RELEASES_MAX} are the most")
        told = {
            "release_counter": release.counter,
            "sha256": release.sha256,
            "length": release.length,
            "from_us": release.from_us,
            "until_us": release.until_us,
            "changed_us": now_us,
        }
        insert = self._database.insert(assignment).values(gateway=name, family=release.family, **told)
        keys = [assignment.c.gateway, assignment.c.family]
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=told))
        connection.execute(_bump, {"b_gateway": name})
        old = before[release.family].name if release.family in before else "nothing"
        audit_rows.record(connection, actor, "ota.assign", name, f"{release.name}, before it {old}")
        return True

    def _lock(self, connection: Connection, name: str) -> None:
        """Whoever changes a gateway's assignment takes its row first, and makes it if need be."""
        insert = self._database.insert(assignment_counter).values(gateway=name, counter=0, changed_us=0)
        same = {"counter": assignment_counter.c.counter}
        connection.execute(insert.on_conflict_do_update(index_elements=[assignment_counter.c.gateway], set_=same))

    def of(self, name: str) -> Desired | None:
        """What a gateway shall run; None while nobody said anything."""
        with self._database.read() as connection:
            counter = connection.execute(_counter, {"gateway": name}).scalar_one_or_none()
            if not counter:
                return None
            return Desired(counter, tuple(map(_assigned, connection.execute(_releases, {"gateway": name}))))

    def changed(self, gateways: Collection[str], since_us: int) -> tuple[list[str], int]:
        """Which of these have another assignment since `since_us`, and up to when this answer is."""
        with self._database.read() as connection:
            rows = connection.execute(_changed, {"since": since_us}).all()
        newest = max((row.changed_us for row in rows), default=since_us)
        return [row.gateway for row in rows if row.gateway in gateways], newest

    def record_reports(self, name: str, reports: Sequence[Report]) -> None:
        """Idempotent by (gateway, id). Keeps the newest REPORTS_KEPT of a gateway."""
        with self._database.write() as connection:
            self._lock(connection, name)
            newest_us = connection.execute(_received, {"gateway": name}).scalar_one() or 0
            at_us = max(int(connection.execute(sa.select(now_us)).scalar_one()), newest_us + 1)
            for place, report in enumerate(reports):
                told = {
                    "family": report.family,
                    "release": report.release,
                    "stage": report.stage,
                    "reason": report.reason,
                    "text": report.text,
                }
                insert = self._database.insert(update_report).values(
                    gateway=name,
                    id=report.id,
                    received_us=at_us + place,
                    at_us=report.at_us,
                    **{column: storable(text) for column, text in told.items()},
                )
                connection.execute(insert.on_conflict_do_nothing())
            surplus = connection.execute(_surplus, {"gateway": name}).scalar_one_or_none()
            if surplus is not None:
                old = sa.and_(update_report.c.gateway == name, update_report.c.received_us <= surplus)
                connection.execute(update_report.delete().where(old))

    def reports(self, name: str, limit: int) -> list[ReportRow]:
        """The newest of a gateway, newest first."""
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(update_report)
                .where(update_report.c.gateway == name)
                .order_by(update_report.c.received_us.desc())
                .limit(limit)
            )
            return [_report_row(row) for row in rows]

    def standings(self) -> list[Standing]:
        """Each family that a gateway has assigned, runs or reported about; by gateway and family."""
        found: dict[tuple[str, str], Standing] = {}
        with self._database.read() as connection:
            gateways = connection.execute(sa.select(gateway.c.id, gateway.c.last_seen_us, gateway.c.models)).all()
            seen = {row.id: row.last_seen_us for row in gateways}

            def at(name: str, family: str) -> Standing:
                return found.setdefault((name, family), Standing(name, family, None, 0, "", None, seen.get(name, 0)))

            for row in gateways:
                for family, release in json.loads(row.models).items():
                    found[row.id, family] = replace(at(row.id, family), running=str(release))
            for row in connection.execute(sa.select(assignment)):
                one = at(row.gateway, row.family)
                found[row.gateway, row.family] = replace(one, desired=_assigned(row), changed_us=row.changed_us)
            for row in connection.execute(_last):
                found[row.gateway, row.family] = replace(at(row.gateway, row.family), last=_report_row(row))
        return [found[key] for key in sorted(found)]


def _assigned(row: Any) -> Assigned:
    return Assigned(row.family, row.release_counter, row.sha256, row.length, row.from_us, row.until_us)


def _report_row(row: Any) -> ReportRow:
    report = Report(row.id, row.at_us, row.family, row.release, row.stage, row.reason, row.text)
    return ReportRow(row.gateway, row.received_us, report)
