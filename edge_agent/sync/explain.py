"""Why nothing is moving, in plain words, with what to do: `edge-agent sync explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.config.values import show_span
from edge_agent.sync.policy import Hold
from wire.sync.status import SyncStatus

CREDIT_SMALL_BYTES = 64 * 1024  # below it the cloud is holding back
SILENCE_S = 5.0  # without an answer to something sent, before it is worth a word
# What gRPC, the operating system and the cloud say, and what it asks of the reader. The first that fits counts.
CAUSES = (
    ("no_name", ("DNS", "errors resolving", "Name or service"), "check the host in [cloud] url: getent hosts HOST"),
    ("no_route", ("unreachable", "No route to host", "Network is down"), "is the link up? ip route get HOST"),
    ("refused", ("Connection refused",), "does cloud-sync run there, and on this port? nc -vz HOST PORT"),
    ("no_answer", ("no connection within", "timed out", "Timeout"), "a firewall, or a link without way: ping HOST"),
    ("cloud_busy", ("RESOURCE_EXHAUSTED",), "the cloud has too many streams or epochs: see its log"),
    ("cloud_store", ("not stored",), "the cloud cannot store now: see /ready and the log of cloud-sync"),
    ("cloud_stops", ("stopping",), "the cloud restarts; the agent finds it again"),
    (
        "protocol",
        ("INVALID_ARGUMENT", "protocol"),
        "the two versions do not fit: compare edge-agent and cloud-sync version",
    ),
    ("stall", ("unanswered",), "the link swallows data, or the cloud hangs: see its log"),
)


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is known. Seconds and bytes; `cells` are committed and not acknowledged, `ticks` not yet committed."""

    address: str
    status: SyncStatus
    holds: Sequence[Hold]
    rejected: bool
    retry_in_s: float | None
    now_s: float
    cells: int
    ticks: int
    commit_s: float
    rate_max: float


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` is stable; `advice` is what to do, empty where nothing needs to be done."""

    code: str
    text: str
    advice: str = ""


def explain(situation: Situation) -> tuple[bool, list[Finding]]:
    """Are readings moving, and why (not): what holds most comes first."""
    found = [Finding(hold.code, hold.text + _until(hold), hold.advice) for hold in situation.holds]
    held = any(hold.bulk for hold in situation.holds)
    if not situation.status.connected and not (held and situation.retry_in_s is None):
        found += _no_stream(situation)
    if not situation.cells:
        return False, [*found, _nothing_waits(situation)]
    if held or not situation.status.connected:
        return False, [*found, Finding("waiting", f"{situation.cells:,} readings wait here; none of them is lost")]
    return _on_stream(situation, found)


def _until(hold: Hold) -> str:
    return "" if hold.until_s is None else f" (in {show_span(hold.until_s)})"


def _nothing_waits(situation: Situation) -> Finding:
    if situation.ticks:
        text = f"what was read is not committed yet; that happens every {show_span(situation.commit_s)}"
        return Finding("journal", text)
    return Finding("nothing_waits", "nothing waits: the cloud has everything that was taken")


def _no_stream(situation: Situation) -> list[Finding]:
    status, again = situation.status, situation.retry_in_s
    if again is None:
        return [Finding("connecting", f"connecting to {situation.address}")]
    if not status.last_error:
        return []
    found = []
    if situation.rejected:
        found.append(Finding("certificate", status.last_error, "nothing else helps: it does not heal by itself"))
    else:
        code, advice = cause_of(status.last_error)
        host, _, port = situation.address.rpartition(":")
        advice = advice.replace("HOST", host).replace("PORT", port)
        found.append(Finding(code, f"no connection to {situation.address}: {status.last_error}", advice))
    text = f"the next try is in {show_span(max(0.0, again))}"
    return [*found, Finding("back_off", text, "at once: edge-agent sync now")]


def _on_stream(situation: Situation, found: list[Finding]) -> tuple[bool, list[Finding]]:
    status = situation.status
    silent_s = 0.0 if status.silent_since is None else situation.now_s - status.silent_since
    if silent_s >= SILENCE_S:
        text = (
            f"{status.in_flight_bytes:,} bytes are unanswered, and the cloud has been silent for {show_span(silent_s)}"
        )
        return False, [*found, Finding("silence", text, "the agent connects anew by itself; see the cloud's log")]
    merging_s = 0.0 if status.merging_until is None else status.merging_until - situation.now_s
    if not status.in_flight and merging_s > 0:
        text = f"{situation.cells:,} readings wait to be merged, {show_span(merging_s)} more ([cloud] batch)"
        return False, [*found, Finding("merging", text, "at once: edge-agent sync now")]
    if status.credit_bytes < CREDIT_SMALL_BYTES:
        text = f"the cloud is loaded: it lets only {status.credit_bytes:,} bytes stand unacknowledged"
        found.append(Finding("credit", text, "see the load of cloud-sync"))
    if situation.rate_max:
        found.append(
            Finding("rate_cap", f"readings keep to {situation.rate_max:,.0f} bytes per second ([cloud] rate_max)")
        )
    text = f"{situation.cells:,} readings are on their way, {status.rate_bytes_per_s:,.0f} bytes per second"
    return True, [Finding("moving", text), *found]


def cause_of(error: str) -> tuple[str, str]:
    """A stable code and an advice for what a lost connection said."""
    for code, words, advice in CAUSES:
        if any(word in error for word in words):
            return code, advice
    return "link", "the agent tries again by itself"
