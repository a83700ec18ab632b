"""Where an assigned release is on its way on a gateway, and why it is there: one word and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloud_sync.catalog.assignments import ReportRow, Standing
from wire.clock import US_PER_S

OFFLINE_S = 120.0  # since the last Hello or report; only a word for people
ENDED = frozenset({"active", "refused", "rolled_back"})
MOVING = {
    "assigned": "it has been told, and downloads",
    "downloaded": "it has every file, and tries it",
    "tested": "it passed every gate",
    "shadow": "it runs beside the active model, on the same readings",
    "staged": "it is about to be swapped in",
    "delayed": "it is tried again",
}


@dataclass(frozen=True, slots=True)
class Place:
    """`state`: waiting, a stage of `MOVING`, active, refused, rolled_back, or unassigned. `why` is for people."""

    standing: Standing
    state: str
    reason: str
    why: str

    @property
    def has_ended(self) -> bool:
        """Nothing more will happen by itself."""
        return self.state in ENDED or self.state == "unassigned"

    def document(self) -> dict[str, Any]:
        """For JSON."""
        one = self.standing
        return {
            "gateway": one.gateway,
            "family": one.family,
            "assigned": one.desired.name if one.desired else None,
            "running": printable(one.running) or None,
            "state": self.state,
            "reason": self.reason,
            "why": self.why,
            "assigned_at": time_text(one.changed_us) if one.changed_us else None,
            "last_seen_at": time_text(one.last_seen_us) if one.last_seen_us else None,
        }


def place_of(one: Standing) -> Place:
    """By the last report of the family, and by what the gateway said when it last connected."""
    report = one.last.report if one.last else None
    if one.desired is None:
        return Place(one, "unassigned", "", "nobody has assigned this family; it came by stick or by hand")
    name = one.desired.name
    if report is None or report.release != name:
        if one.running == name:
            return Place(one, "active", "", "it runs")
        return Place(one, "waiting", "", _waiting(one))
    if report.stage in ("refused", "rolled_back"):
        verb = "refused it" if report.stage == "refused" else "went back from it"
        reason = printable(report.reason)
        return Place(one, report.stage, reason, f"the gateway {verb}: {printable(report.text) or reason}")
    if report.stage in ("probation", "committed"):
        return Place(one, "active", "", "it runs, on probation" if report.stage == "probation" else "it runs and stays")
    stage = printable(report.stage)
    why = ": ".join(part for part in (MOVING.get(stage, stage), printable(report.text)) if part)
    return Place(one, stage, printable(report.reason), why)


def _waiting(one: Standing) -> str:
    assert one.desired is not None
    if not one.last_seen_us:
        return "the gateway has never connected"
    text = f"the gateway has not answered; it last connected at {time_text(one.last_seen_us)}"
    if one.desired.from_us:
        text += f"; it may install from {time_text(one.desired.from_us)} on"
    return text


def history(rows: Sequence[ReportRow]) -> list[dict[str, Any]]:
    """Reports for JSON, newest first."""
    return [
        {
            "received_at": time_text(row.received_us),
            "at": time_text(row.report.at_us),
            **{name: printable(getattr(row.report, name)) for name in ("family", "release", "stage", "reason", "text")},
        }
        for row in rows
    ]


def printable(text: str) -> str:
    """What a gateway says, without what would command a terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def time_text(at_us: int) -> str:
    """ISO 8601, whole seconds, UTC; also for what a gateway without a clock says."""
    try:
        return datetime.fromtimestamp(at_us // US_PER_S, UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return "no time"
