"""Every reason why nothing moves has its words, its code and its advice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.sync.explain import Situation, cause_of, explain
from edge_agent.sync.policy import Hold
from wire.sync.status import SyncStatus

STATUS = SyncStatus(
    connected=True,
    in_flight=2,
    in_flight_bytes=9000,
    messages_sent=5,
    bytes_sent=90_000,
    replies=5,
    last_ack_at=99.0,
    last_error="",
    reconnect_at=None,
    rate_bytes_per_s=12_000.0,
    generation=1,
    credit_bytes=1 << 20,
    silent_since=99.0,
    merging_until=None,
)
MOVING = Situation("cloud.example:8443", STATUS, (), False, None, 100.0, 1204, 3, 5.0, 0.0)
OFF = replace(STATUS, connected=False, in_flight=0, in_flight_bytes=0, silent_since=None)
WINDOW = Hold("window", "outside the sync windows", "edge-agent sync now", until_s=3600.0)


def codes(situation: Situation) -> list[str]:
    return [finding.code for finding in explain(situation)[1]]


def test_what_moves_is_said_with_its_rate() -> None:
    moving, (finding,) = explain(MOVING)
    assert moving
    assert finding.text == "1,204 readings are on their way, 12,000 bytes per second"


def test_nothing_waits() -> None:
    assert codes(replace(MOVING, cells=0, ticks=0)) == ["nothing_waits"]
    assert codes(replace(MOVING, cells=0)) == ["journal"]


def test_a_hold_is_no_failed_connection() -> None:
    situation = replace(MOVING, status=OFF, holds=(WINDOW,))
    moving, (hold, waiting) = explain(situation)
    assert not moving
    assert hold.text == "outside the sync windows (in 1 h)"
    assert waiting.code == "waiting"


@pytest.mark.parametrize(
    ("error", "code", "advice"),
    [
        ("UNAVAILABLE: connect: Connection refused (111)", "refused", "nc -vz cloud.example 8443"),
        ("UNAVAILABLE: Network is unreachable (101)", "no_route", "ip route get cloud.example"),
        ("UNAVAILABLE: connect: No route to host (113)", "no_route", "ip route"),
        ("UNAVAILABLE: DNS resolution failed for cloud.example", "no_name", "getent hosts cloud.example"),
        ("UNAVAILABLE: errors resolving x:8443: [address lookup failed: Domain name not found]", "no_name", "getent"),
        ("no connection within 20 s", "no_answer", "ping"),
        ("the cloud ended the stream: RESOURCE_EXHAUSTED 20000 streams are open", "cloud_busy", "log"),
        ("the cloud ended the stream: UNAVAILABLE not stored: disk full", "cloud_store", "/ready"),
        ("the cloud ended the stream: UNAVAILABLE the service is stopping", "cloud_stops", "restarts"),
        ("9000 bytes unanswered, silence for 20 s", "stall", "log"),
        ("something new", "link", "again by itself"),
    ],
)
def test_a_lost_connection_is_explained(error: str, code: str, advice: str) -> None:
    found = explain(replace(MOVING, status=replace(OFF, last_error=error), retry_in_s=12.0))[1]
    assert [finding.code for finding in found] == [code, "back_off", "waiting"]
    assert error in found[0].text
    assert advice in found[0].advice
    assert "12 s" in found[1].text
    assert cause_of(error)[0] == code


def test_a_certificate_is_not_the_link() -> None:
    status = replace(OFF, last_error="the cloud refuses cert.pem")
    assert codes(replace(MOVING, status=status, rejected=True, retry_in_s=30.0))[0] == "certificate"


def test_on_an_open_stream() -> None:
    assert codes(replace(MOVING, now_s=120.0)) == ["silence"]
    merging = replace(STATUS, in_flight=0, silent_since=None, merging_until=130.0)
    moving, (finding,) = explain(replace(MOVING, status=merging))
    assert not moving
    assert "30 s more" in finding.text
    assert codes(replace(MOVING, status=replace(STATUS, credit_bytes=1), rate_max=5000.0)) == [
        "moving",
        "credit",
        "rate_cap",
    ]
    assert codes(replace(MOVING, status=OFF)) == ["connecting", "waiting"]
