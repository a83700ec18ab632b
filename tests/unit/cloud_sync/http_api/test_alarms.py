"""`/v1/alarms` over a real server and a real catalog."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx import Client

from cloud_sync.query import alarms
from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, Cloud, tick
from wire.alarm import Severity

S = 1_000_000
HOUR = 3_600 * S


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    for number, gateway in enumerate(("a", "b"), 1):
        made.hello(gateway, (number, 0))
        made.push(gateway, number, {CLIMATE: [tick(CLIMATE, NOW_US, 2150, 4000, 101_325)]})
    yield made
    made.close()


@pytest.fixture
def client(cloud: Cloud) -> Iterator[Client]:
    with served(cloud) as base, Client(base_url=base, headers=bearer(cloud), trust_env=False) as made:
        yield made


def listed(client: Client, **parameters: object) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    token = ""
    for _ in range(100):
        answer = client.get("/v1/alarms", params={**parameters, "page_token": token})
        assert answer.status_code == 200, answer.text
        found += answer.json()["alarms"]
        token = answer.json()["next_page_token"]
        if not token:
            return found
    raise AssertionError("pages without end")


def test_an_alarm_tells_what_it_said_at_its_peak(client: Client, cloud: Cloud) -> None:
    name = cloud.alarm("a", 1, NOW_US - 60 * S, cleared_us=NOW_US - 20 * S, severity=Severity.CRITICAL)
    (alarm,) = listed(client)
    assert alarm == {
        "gateway": "a",
        "id": f"{name:016x}",
        "epoch": "0000000000000001",
        "series": "room/temperature",
        "rule": "value-novelty",
        "state": "cleared",
        "severity": "critical",
        "onset_ms": NOW_US // 1000 - 60_000,
        "changed_ms": NOW_US // 1000 - 20_000,
        "cleared_ms": NOW_US // 1000 - 20_000,
        "score": 4.0,
        "threshold": 1.0,
        "value": 31.5,
        "expected": 21.4,
        "low": 20.0,
        "high": 23.0,
        "unit": "Cel",
        "cause": "room/temperature: 31.5 Cel, expected 20 to 23 Cel, nearest known 21.4 (value-novelty, 4)",
        "clock_unsure": False,
    }


def test_filters(client: Client, cloud: Cloud) -> None:
    old = cloud.alarm("a", 1, NOW_US - 30 * 24 * HOUR)
    done = cloud.alarm("a", 1, NOW_US - 3 * HOUR, cleared_us=NOW_US - 2 * HOUR)
    open_ = cloud.alarm("b", 2, NOW_US - HOUR)
    ahead = cloud.alarm("b", 2, NOW_US + 5 * S)

    def ids(**parameters: object) -> list[int]:
        return [int(alarm["id"], 16) for alarm in listed(client, **parameters)]

    assert ids() == [ahead, open_, done]
    assert ids(active="true") == [ahead, open_, old]
    assert ids(gateway="a") == [done]
    assert ids(gateway="a", active="true", start="-7d") == []
    assert ids(start="-4h", end="-1h") == [done]
    assert ids(start="-1h", end="-59m") == [open_]
    assert client.get("/v1/alarms", params={"gateway": "nobody"}).status_code == 404
    for wrong in ({"start": "now", "end": "-1h"}, {"start": "later"}, {"activ": "true"}, {"page_size": -1}):
        assert client.get("/v1/alarms", params=wrong).status_code == 400, wrong


def test_pages_hold_every_alarm_once_and_whole(client: Client, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a read of the catalog ends in the middle of an alarm's changes."""
    made = {
        cloud.alarm("a" if n % 3 else "b", 1 if n % 3 else 2, NOW_US - n * S, cleared_us=NOW_US if n % 2 else None)
        for n in range(1, 24)
    }
    made |= {cloud.alarm(gateway, epoch, NOW_US - 40 * S) for gateway, epoch in (("a", 1), ("b", 2))}
    for changes in (7, 8, 9, 5_000):
        monkeypatch.setattr(alarms, "CHANGES_PER_READ", changes)
        for size in (1, 2, 5, 25, 1000):
            found = listed(client, page_size=size)
            assert len(found) == len(made)
            assert {int(alarm["id"], 16) for alarm in found} == made
            assert {alarm["score"] for alarm in found} == {4.0}
            assert [alarm["onset_ms"] for alarm in found] == sorted((a["onset_ms"] for a in found), reverse=True)
            assert sum(alarm["state"] == "cleared" for alarm in found) == 12
    monkeypatch.setattr(alarms, "CHANGES_PER_READ", 7)
    assert len(listed(client, page_size=4, active="true")) == len(made) - 12


def test_a_token_belongs_to_its_question(client: Client, cloud: Cloud) -> None:
    for n in range(3):
        cloud.alarm("a", 1, NOW_US - n * S)
    token = client.get("/v1/alarms", params={"page_size": 1}).json()["next_page_token"]
    assert client.get("/v1/alarms", params={"page_size": 2, "page_token": token}).status_code == 200
    for other in ({"gateway": "a"}, {"active": "true"}, {"start": "-1h"}):
        answer = client.get("/v1/alarms", params={**other, "page_token": token})
        assert answer.status_code == 400
        assert answer.json()["type"] == "urn:tidegate:problem:query-invalid"


def test_csv_holds_all_pages_unless_asked_for_one(client: Client, cloud: Cloud) -> None:
    cloud.alarm("a", 1, NOW_US - 90 * S, cleared_us=NOW_US - 20 * S)
    cloud.alarm("b", 2, NOW_US - 60 * S, value=None, score=2.0, peak=float("inf"), rule='stale, "quiet"')
    answer = client.get("/v1/alarms", headers={"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    newest, oldest = csv.DictReader(io.StringIO(answer.text))
    assert (newest["gateway"], newest["state"], newest["value"], newest["cleared"]) == ("b", "active", "", "")
    assert (newest["score"], newest["rule"]) == ("Infinity", 'stale, "quiet"')
    assert (oldest["onset"], oldest["cleared"]) == ("2026-05-28T20:25:10.000Z", "2026-05-28T20:26:20.000Z")
    assert oldest["cause"].startswith("room/temperature: 31.5 Cel, expected 20 to 23 Cel")
    first = client.get("/v1/alarms", params={"format": "csv", "page_size": 1})
    assert len(first.text.splitlines()) == 2
    following = client.get(first.headers["link"].split(">")[0].removeprefix("<"))
    assert following.text.splitlines()[1].startswith("2026-05-28T20:25:10.000Z,a,")
