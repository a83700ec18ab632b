"""Changes of alarms as rows of the outbox: added with the readings that showed them, deleted when acknowledged."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from wire.alarm import Alarm, AlarmKey, Phase, Severity

ALARMS_MAX = 10_000  # kept for a cloud that is away, about 2 MB; then the oldest go
ALARM_COLUMNS = (
    "epoch, id, series, rule, phase, onset_us, stamp_us, score, threshold, value, expected, low, high, unit, severity"
)
_FIELDS = ALARM_COLUMNS.split(", ")[1:]
_MARKS = ", ".join("?" * (ALARM_COLUMNS.count(",") + 1))


def alarm_of(row: Sequence[Any]) -> tuple[int, Alarm]:
    """A row of ALARM_COLUMNS as (epoch, alarm)."""
    epoch, *fields = row
    values = dict(zip(_FIELDS, fields))
    values["phase"], values["severity"] = Phase(values["phase"]), Severity(values["severity"])
    return epoch, Alarm(**values)


def add_alarms(connection: sqlite3.Connection, epoch: int, alarms: Iterable[Alarm]) -> int:
    """Keep them until they are acknowledged; the same change again is the same row. For a transaction.

    Returns how many of the oldest had to go; they are counted in the file's meta `alarms_lost`.
    """
    connection.executemany(
        f"INSERT OR IGNORE INTO alarms ({ALARM_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608 - our own names
        [_row(epoch, alarm) for alarm in alarms],
    )
    oldest = "DELETE FROM alarms WHERE number <= (SELECT max(number) FROM alarms) - ?"
    lost = connection.execute(oldest, (ALARMS_MAX,)).rowcount
    if lost:
        connection.execute(
            "INSERT INTO meta VALUES ('alarms_lost', ?1) ON CONFLICT (key) DO UPDATE SET value = value + ?1", (lost,)
        )
    return lost


def forget_alarms(connection: sqlite3.Connection, keys: Iterable[AlarmKey]) -> None:
    """The cloud has them. For a transaction."""
    connection.executemany("DELETE FROM alarms WHERE id = ? AND phase = ? AND stamp_us = ?", keys)


def _row(epoch: int, alarm: Alarm) -> tuple[object, ...]:
    """Numbers that are not finite are left out or cut: neither JSON nor the protocol has them."""
    told = (alarm.value, alarm.expected, alarm.low, alarm.high)
    return (
        epoch,
        alarm.id,
        alarm.series,
        alarm.rule,
        int(alarm.phase),
        alarm.onset_us,
        alarm.stamp_us,
        _cut(alarm.score),
        _cut(alarm.threshold),
        *(number if number is not None and math.isfinite(number) else None for number in told),
        alarm.unit,
        int(alarm.severity),
    )


def _cut(number: float) -> float:
    most = sys.float_info.max
    return 0.0 if math.isnan(number) else min(max(number, -most), most)
