"""Alarms of gateways: every change as it was told, and one line for each alarm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import epoch_rows, webhooks
from cloud_sync.catalog.catalog import AlarmRow
from cloud_sync.catalog.database import Database, portions, storable
from cloud_sync.catalog.database_clock import database_time
from cloud_sync.catalog.schema import active_alarm, alarm, epoch
from wire.alarm import Alarm, Phase, Severity

_ends = alarm.alias("ends")


def _ended(table: sa.FromClause) -> sa.Exists:
    """Whether the alarm of a row of `table` was cleared."""
    return sa.exists().where(
        _ends.c.gateway == table.c.gateway, _ends.c.alarm_id == table.c.alarm_id, _ends.c.phase == int(Phase.CLEARED)
    )


_changes = (
    sa.select(alarm, epoch.c.epoch, epoch.c.offset_us, epoch.c.synchronised)
    .join(epoch, epoch.c.id == alarm.c.epoch_id)
    .where(
        alarm.c.onset_us + epoch.c.offset_us >= sa.bindparam("start_us"),
        alarm.c.onset_us + epoch.c.offset_us < sa.bindparam("end_us"),
    )
    .order_by((alarm.c.onset_us + epoch.c.offset_us).desc(), alarm.c.alarm_id, alarm.c.stamp_us, alarm.c.phase)
    .limit(sa.bindparam("limit"))
)
_lasting = _changes.join(
    active_alarm, (active_alarm.c.gateway == alarm.c.gateway) & (active_alarm.c.alarm_id == alarm.c.alarm_id)
).where(~_ended(active_alarm))
_of_gateway = alarm.c.gateway == sa.bindparam("gateway")
_counts = (
    sa.select(active_alarm.c.gateway, sa.func.count()).where(~_ended(active_alarm)).group_by(active_alarm.c.gateway)
)


def record_alarms(database: Database, gateway: str, alarms: Sequence[tuple[int, Alarm]]) -> None:
    """See `Catalog.record_alarms`."""
    with database.write() as connection:
        rows = epoch_rows.lock_epochs(database, connection, list(dict.fromkeys((gateway, told) for told, _ in alarms)))
        values = [_values(gateway, rows[gateway, told].id, change) for told, change in alarms]
        key = (alarm.c.alarm_id, alarm.c.phase, alarm.c.stamp_us)
        inserted = connection.execute(database.insert(alarm).on_conflict_do_nothing().returning(*key), values)
        fresh = {tuple(row) for row in inserted}
        _tell(database, connection, gateway, [change for _, change in alarms if change.key in fresh])
        told = {change.id for _, change in alarms}
        begun = [{"gateway": gateway, "alarm_id": id_} for id_ in sorted(told)]
        connection.execute(database.insert(active_alarm).on_conflict_do_nothing(), begun)
        for ids in portions(sorted(told)):
            connection.execute(
                active_alarm.delete().where(
                    active_alarm.c.gateway == gateway, active_alarm.c.alarm_id.in_(ids), _ended(active_alarm)
                )
            )


def _tell(database: Database, connection: Connection, gateway: str, changes: Sequence[Alarm]) -> None:
    """Queue what begins and what ends for the webhooks that want to know."""
    telling = [change for change in changes if change.phase in (Phase.RAISED, Phase.CLEARED)]
    hooks = webhooks.wanting(connection, "alarm") if telling else []
    if not hooks:
        return
    at_us = database_time(connection)
    events = []
    for change in telling:
        data = {"gateway": gateway, "alarm": f"{change.id:016x}", "series": change.series, "rule": change.rule}
        data |= {"severity": change.severity.name.lower(), "cause": change.cause}
        key = f"{gateway} {change.id:016x} {change.onset_us}"
        events.append(webhooks.Event(f"alarm.{change.phase.name.lower()}", key, at_us, data))
    for row in hooks:
        webhooks.enqueue(connection, database, row, events, at_us)


def find_active(connection: Connection) -> None:
    """Fill the table of what lasts from the changes: for a catalog that was made before there was one."""
    lasting = sa.select(alarm.c.gateway, alarm.c.alarm_id).where(~_ended(alarm)).distinct()
    connection.execute(active_alarm.insert().from_select(["gateway", "alarm_id"], lasting))


def alarms(
    connection: Connection, gateway: str | None, start_us: int, end_us: int, limit: int, active: bool
) -> list[AlarmRow]:
    """See `Catalog.alarms`."""
    bounds: dict[str, object] = {"start_us": start_us, "end_us": end_us, "limit": limit}
    statement = _lasting if active else _changes
    if gateway is not None:
        statement, bounds["gateway"] = statement.where(_of_gateway), gateway
    return _merged(connection.execute(statement, bounds))


def active_alarms(connection: Connection) -> dict[str, int]:
    """See `Catalog.active_alarms`."""
    return dict(map(tuple, connection.execute(_counts)))


def _merged(changes: Iterable[sa.Row[tuple[object, ...]]]) -> list[AlarmRow]:
    """One line an alarm: its latest words, its largest score, and when it was cleared."""
    lines: dict[tuple[str, int], AlarmRow] = {}
    for row in changes:
        name = (row.gateway, row.alarm_id)
        before = lines.get(name)
        stamp_us = row.stamp_us + row.offset_us
        cleared = row.phase == Phase.CLEARED
        words = _alarm(row)
        if before is not None and (cleared or words.score < before.alarm.score):
            words = before.alarm  # what it was about, not how it ended
        lines[name] = AlarmRow(
            gateway=row.gateway,
            epoch=row.epoch,
            alarm=words,
            onset_us=row.onset_us + row.offset_us,
            changed_us=stamp_us if before is None else max(stamp_us, before.changed_us),
            cleared_us=stamp_us if cleared else None if before is None else before.cleared_us,
            synchronised=row.synchronised,
        )
    return list(lines.values())


def _alarm(row: sa.Row[tuple[object, ...]]) -> Alarm:
    return Alarm(
        id=row.alarm_id,
        series=row.series,
        rule=row.rule,
        phase=Phase(row.phase),
        onset_us=row.onset_us,
        stamp_us=row.stamp_us,
        score=row.score,
        threshold=row.threshold,
        value=row.value,
        expected=row.expected,
        low=row.low,
        high=row.high,
        unit=row.unit,
        severity=Severity(row.severity),
    )


def _values(gateway: str, epoch_id: int, change: Alarm) -> dict[str, object]:
    return {
        "gateway": gateway,
        "alarm_id": change.id,
        "phase": int(change.phase),
        "stamp_us": change.stamp_us,
        "epoch_id": epoch_id,
        "series": storable(change.series),
        "rule": storable(change.rule),
        "severity": int(change.severity),
        "onset_us": change.onset_us,
        "score": change.score,
        "threshold": change.threshold,
        "value": change.value,
        "expected": change.expected,
        "low": change.low,
        "high": change.high,
        "unit": storable(change.unit),
    }
