"""What each page shows, as plain values: all wording and arithmetic is done here, templates only place it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from cloud_sync.console import words
from cloud_sync.http_api.models import Epoch, Gateway, Ledger
from cloud_sync.query.blocks import gap_name
from cloud_sync.query.latest import Latest
from cloud_sync.query.plan import Line
from wire.reading import CellState

CHART_LINES_MAX = 24  # drawn at once; more is a page nobody can read
LINES_PER_CHART_MAX = 8  # as many as there are distinguishable colours
QUIET_AFTER_MS = 10_000  # a value older than this shows its age in words


@dataclass(frozen=True, slots=True)
class Window:
    """How much time the charts show, and in what steps (about 300 across)."""

    name: str
    label: str
    span_ms: int
    step_ms: int


WINDOWS = {
    window.name: window
    for window in (
        Window("5m", "5 min", 300_000, 1_000),
        Window("15m", "15 min", 900_000, 3_000),
        Window("1h", "1 hour", 3_600_000, 12_000),
        Window("6h", "6 hours", 21_600_000, 60_000),
        Window("24h", "24 hours", 86_400_000, 300_000),
    )
}
WINDOW_DEFAULT = "5m"


@dataclass(frozen=True, slots=True)
class FleetRow:
    """One gateway of the fleet list."""

    id: str
    href: str
    state: str
    heard: str
    heard_at: str
    since: str  # "offline since ..." or ""
    taken: str
    stored: str
    pending: str
    tombstoned: str
    version: str
    alarms: str  # that last
    gap: str  # readings that are nowhere; "" for none
    cloned: bool


def fleet_row(gateway: Gateway, now_ms: int, alarms: int) -> FleetRow:
    """A gateway in words."""
    heard_at = words.time_text(gateway.last_seen_ms)
    return FleetRow(
        id=gateway.id,
        href=f"/gateways/{quote(gateway.id, safe='')}",
        state=gateway.state,
        heard=words.ago_text(gateway.last_seen_ms, now_ms),
        heard_at=heard_at,
        since=f"since {heard_at} UTC" if gateway.state == "offline" else "",
        taken=words.count_text(gateway.taken),
        stored=words.count_text(gateway.stored),
        pending=words.count_text(gateway.pending),
        tombstoned=words.count_text(gateway.tombstoned),
        version=gateway.agent_version,
        alarms=words.count_text(alarms),
        gap=words.count_text(gateway.gap) if gateway.gap else "",
        cloned=gateway.cloned,
    )


def fleet_summary(gateways: int, online: int, pending: int) -> str:
    """`3 gateways, 2 online, 1,204 readings still on gateways`."""
    plural = "" if gateways == 1 else "s"
    held = f"{words.count_text(pending)} readings still on gateways" if pending else "nothing pending"
    return f"{words.count_text(gateways)} gateway{plural}, {words.count_text(online)} online, {held}"


@dataclass(frozen=True, slots=True)
class LatestRow:
    """One line of the table of newest values."""

    name: str
    sensor: str
    channel: str
    value: str
    unit: str
    age: str
    at: str
    notes: tuple[str, ...]
    quiet: bool


def latest_row(latest: Latest, now_ms: int) -> LatestRow:
    """A newest reading in words; an old value stands with its own age."""
    definition = latest.line.definitions[-1]
    notes = list(words.quality_text(latest.quality))
    if latest.time_us is not None and latest.state != CellState.VALUE:
        notes.insert(0, words.reason_text(gap_name(latest.state)))
    time_ms = None if latest.value_time_us is None else latest.value_time_us // 1000
    return LatestRow(
        name=latest.line.name,
        sensor=definition.sensor,
        channel=definition.channel,
        value=words.value_text(latest.value, definition),
        unit=words.unit_text(latest.line.unit) if latest.value is not None else "",
        age=words.ago_text(time_ms, now_ms) if time_ms is not None else "not in the last day",
        at=words.time_text(time_ms) if time_ms is not None else "",
        notes=tuple(notes),
        quiet=time_ms is None or now_ms - time_ms > QUIET_AFTER_MS,
    )


@dataclass(frozen=True, slots=True)
class ChartLine:
    """One line of a chart."""

    name: str
    colour: int
    decimals: int


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines of one unit on one axis."""

    unit: str
    unit_text: str
    lines: tuple[ChartLine, ...]


def charts(lines: list[Line]) -> list[Chart]:
    """Series grouped by unit, in the order they came; a unit with many lines takes several charts."""
    by_unit: dict[str, list[Line]] = {}
    for line in lines[:CHART_LINES_MAX]:
        by_unit.setdefault(line.unit, []).append(line)
    made = []
    for unit, members in by_unit.items():
        for first in range(0, len(members), LINES_PER_CHART_MAX):
            part = members[first : first + LINES_PER_CHART_MAX]
            drawn = (
                ChartLine(line.name, place, words.decimals(line.definitions[-1])) for place, line in enumerate(part)
            )
            made.append(Chart(unit, words.unit_text(unit), tuple(drawn)))
    return made


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One epoch of the ledger."""

    epoch: str
    taken: str
    stored: str
    tombstoned: str
    pending: str
    after: str  # what the epoch before it is called, and where that ended
    end: str  # "" while it goes on, and where its last Seq is known
    clock: str
    clock_unsure: bool
    losses: tuple[str, ...]


def ledger_rows(ledger: Ledger) -> list[LedgerRow]:
    """Newest epoch first."""
    return [_ledger_row(epoch) for epoch in reversed(ledger.epochs)]


def _ledger_row(epoch: Epoch) -> LedgerRow:
    by_reason: dict[str, int] = {}
    for record in epoch.tombstones:
        by_reason[record.reason] = by_reason.get(record.reason, 0) + record.count
    if epoch.synchronised is None:
        clock = "no data yet"
    elif epoch.synchronised:
        clock = f"± {(epoch.uncertainty_us or 0) / 1000:,.0f} ms"
    else:
        clock = "not synchronised"
    return LedgerRow(
        epoch=epoch.epoch,
        taken=words.count_text(epoch.taken),
        stored=words.count_text(epoch.stored),
        tombstoned=words.count_text(epoch.tombstoned),
        pending=words.count_text(epoch.pending),
        after="the first of its outbox" if epoch.predecessor is None else f"after {epoch.predecessor}, {_ended(epoch)}",
        end="end unknown" if epoch.end == "unknown" else "",
        clock=clock,
        clock_unsure=epoch.synchronised is False,
        losses=(
            *(f"{words.count_text(count)} {words.reason_text(reason)}" for reason, count in sorted(by_reason.items())),
            *((f"{words.count_text(epoch.gap)} in a gap",) if epoch.gap else ()),
        ),
    )


def _ended(epoch: Epoch) -> str:
    before = epoch.predecessor_next_seq
    return "whose end is unknown" if before is None else f"which ended at {words.count_text(before)}"


def api_path(gateway: str, names: list[str], window: Window, end_ms: int | None, **more: str) -> str:
    """The chart's question as an API call."""
    query: list[tuple[str, str]] = [("gateway", gateway)]
    query += [("series", name) for name in names]
    if end_ms is None:
        query.append(("start", f"-{window.name}"))
    else:
        query += [("start", words.rfc3339(end_ms - window.span_ms)), ("end", words.rfc3339(end_ms))]
    return "/v1/query?" + urlencode([*query, *more.items()], quote_via=quote, safe="/:")
