"""Alarms of gateways: every change as it was told, and one line for each alarm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import epoch_rows
from cloud_sync.catalog.catalog import AlarmRow
from cloud_sync.catalog.database import Database
from cloud_sync.catalog.schema import alarm, epoch
from wire.alarm import Alarm, Phase, Severity

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
_changes_of_gateway = _changes.where(alarm.c.gateway == sa.bindparam("gateway"))


def record_alarms(database: Database, gateway: str, alarms: Sequence[tuple[int, Alarm]]) -> None:
    """See `Catalog.record_alarms`."""
    with database.write() as connection:
        rows = epoch_rows.lock_epochs(database, connection, list(dict.fromkeys((gateway, told) for told, _ in alarms)))
        values = [_values(gateway, rows[gateway, told].id, change) for told, change in alarms]
        connection.execute(database.insert(alarm).on_conflict_do_nothing(), values)


def alarms(connection: Connection, gateway: str | None, start_us: int, end_us: int, limit: int) -> list[AlarmRow]:
    """See `Catalog.alarms`."""
    bounds = {"start_us": start_us, "end_us": end_us, "limit": limit}
    if gateway is None:
        return _merged(connection.execute(_changes, bounds))
    return _merged(connection.execute(_changes_of_gateway, {**bounds, "gateway": gateway}))


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
        "series": change.series.replace("\0", "\ufffd"),
        "rule": change.rule.replace("\0", "\ufffd"),
        "severity": int(change.severity),
        "onset_us": change.onset_us,
        "score": change.score,
        "threshold": change.threshold,
        "value": change.value,
        "expected": change.expected,
        "low": change.low,
        "high": change.high,
        "unit": change.unit.replace("\0", "\ufffd"),
    }
