"""What the pages say of alarms."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cloud_sync.catalog.catalog import AlarmRow, Catalog
from cloud_sync.console import words
from cloud_sync.query.alarms import AlarmQuestion, alarm_page
from cloud_sync.query.parameters import TIME_US_MAX, TIME_US_MIN

SHOWN_MAX = 20  # on one gateway's page; the API has the rest
EARLIER_US = 86_400_000_000  # cleared alarms are listed from a day before what the charts show


@dataclass(frozen=True, slots=True)
class AlarmView:
    """One line of the list of alarms, and one band on a chart."""

    series: str
    cause: str
    active: bool
    severity: str
    since: str
    since_at: str
    lasted: str  # "" while it lasts
    score: str
    onset_ms: int
    cleared_ms: int | None
    clock_unsure: bool


def alarm_views(catalog: Catalog, gateway: str, from_ms: int, to_ms: int, now_ms: int) -> tuple[list[AlarmView], bool]:
    """Those that last, then those that began by `to_ms`, and whether there are more than these. Blocks."""
    lasting, more = alarm_page(catalog, AlarmQuestion(gateway, active=True), SHOWN_MAX)
    start_us, end_us = max(TIME_US_MIN, from_ms * 1000 - EARLIER_US), min(TIME_US_MAX, to_ms * 1000 + EARLIER_US)
    recent, older = alarm_page(catalog, AlarmQuestion(gateway, start_us, end_us), 2 * SHOWN_MAX)
    rows = lasting + [row for row in recent if row.cleared_us is not None and row.onset_us <= to_ms * 1000]
    return [_view(row, now_ms) for row in rows[:SHOWN_MAX]], bool(more or older or len(rows) > SHOWN_MAX)


def alarms_text(count: int) -> str:
    """`2 active alarms`."""
    return f"{words.count_text(count)} active alarm{'' if count == 1 else 's'}"


def _view(row: AlarmRow, now_ms: int) -> AlarmView:
    alarm = row.alarm
    onset_ms = row.onset_us // 1000
    cleared_ms = None if row.cleared_us is None else row.cleared_us // 1000
    return AlarmView(
        series=alarm.series,
        cause=replace(alarm, unit=words.unit_text(alarm.unit)).cause,
        active=cleared_ms is None,
        severity=alarm.severity.name.lower(),
        since=words.ago_text(onset_ms, now_ms),
        since_at=words.time_text(onset_ms),
        lasted="" if cleared_ms is None else words.span_text((cleared_ms - onset_ms) / 1000),
        score=f"{alarm.score:.3g} (limit {alarm.threshold:.3g})",
        onset_ms=onset_ms,
        cleared_ms=cleared_ms,
        clock_unsure=not row.synchronised,
    )
