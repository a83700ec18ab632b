"""`/v1/live` over a real server: what arrives is told, once, and streams end when the service stops."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from httpx import Client

from cloud_sync.auth.roles import Role
from cloud_sync.http_api import gate, live
from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, Cloud, tick

S = 1_000_000


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(live, "PERIOD_S", 0.02)
    made = Cloud(tmp_path)
    push(made, 100, 3)
    yield made
    made.close()


@pytest.fixture
def client(cloud: Cloud) -> Iterator[Client]:
    with served(cloud) as base, Client(base_url=base, headers=bearer(cloud), trust_env=False, timeout=10) as made:
        yield made


def push(cloud: Cloud, ago_s: int, count: int) -> None:
    """Ticks of consecutive seconds."""
    ticks = [tick(CLIMATE, NOW_US - (ago_s - n) * S, 2100 + n, 4000, 101_325) for n in range(count)]
    cloud.push("press-3", 1, {CLIMATE: ticks})


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Id and data of each event; comments are passed over."""
    name = ""
    for line in lines:
        if line.startswith("id: "):
            name = line[4:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def count(data: dict[str, Any]) -> int:
    return sum(sum(series["count"]) for series in data["series"])


def test_the_window_comes_first_then_what_is_new(client: Client, cloud: Cloud) -> None:
    with client.stream("GET", "/v1/live", params={"gateway": "press-3", "time_unit": "us"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = events(answer.iter_lines())
        name, data = next(told)
        assert (count(data), data["cursor"]) == (9, name)
        push(cloud, 50, 2)
        newer, data = next(told)
        assert count(data) == 6
        assert min(time for series in data["series"] for time in series["times"]) == NOW_US - 50 * S
        assert newer == data["cursor"] != name


def test_a_reader_comes_back_and_misses_nothing(client: Client, cloud: Cloud) -> None:
    asked = {"gateway": "press-3", "series": "room/humidity"}
    with client.stream("GET", "/v1/live", params=asked) as answer:
        name, _ = next(events(answer.iter_lines()))
    push(cloud, 40, 4)
    with client.stream("GET", "/v1/live", params=asked, headers={"last-event-id": name}) as answer:
        _, data = next(events(answer.iter_lines()))
        assert count(data) == 4


def test_silence_is_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.1)
    with client.stream("GET", "/v1/live", params={"gateway": "press-3"}) as answer:
        comments = (line for line in answer.iter_lines() if line.startswith(":"))
        assert [next(comments), next(comments)] == [": nothing new"] * 2


def test_streams_are_few_and_places_come_back(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CLIENTS_MAX", 3)
    asked = {"gateway": "press-3"}
    with ExitStack() as held:
        for _ in range(3):
            assert held.enter_context(client.stream("GET", "/v1/live", params=asked)).status_code == 200
        refused = client.get("/v1/live", params=asked)
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:tidegate:problem:busy"
    deadline, status = time.monotonic() + 5, 503
    while status != 200:
        assert time.monotonic() < deadline, "no place came back"
        with client.stream("GET", "/v1/live", params=asked) as answer:
            status = answer.status_code


def test_one_token_does_not_take_all_streams(cloud: Cloud, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do the sessions that it opens."""
    monkeypatch.setattr(live, "CLIENTS_OF_ONE_MAX", 2)
    asked, token = {"gateway": "press-3"}, cloud.catalog.people.create_token("greedy", Role.READONLY, 10**6)
    sessions = [cloud.catalog.people.open_session(token, "here")[0] for _ in range(2)]
    names = gate.cookie_name(cloud.catalog.generation(), "http")
    ways = [{"authorization": f"Bearer {token}"}, *({"cookie": f"{names}={session}"} for session in sessions)]
    with ExitStack() as held, Client(base_url=client.base_url, trust_env=False, timeout=10) as other:
        for way in ways[:2]:
            assert held.enter_context(other.stream("GET", "/v1/live", params=asked, headers=way)).status_code == 200
        refused = other.get("/v1/live", params=asked, headers=ways[2])
        assert (refused.status_code, "2 live streams of this token or session" in refused.text) == (503, True)
        assert held.enter_context(client.stream("GET", "/v1/live", params=asked)).status_code == 200


def test_streams_end_when_the_service_stops(cloud: Cloud) -> None:
    with ExitStack() as held:
        service = ExitStack()
        base = service.enter_context(served(cloud))
        client = held.enter_context(Client(base_url=base, headers=bearer(cloud), trust_env=False, timeout=10))
        lines = held.enter_context(client.stream("GET", "/v1/live", params={"gateway": "press-3"})).iter_lines()
        next(lines)
        started = time.monotonic()
        service.close()
        assert time.monotonic() - started < 3
        assert all(not line.startswith("id") for line in lines)  # to its proper end: a cut would raise


def test_wrong_questions_are_refused_before_the_stream(client: Client) -> None:
    assert client.get("/v1/live", params={"gateway": "nobody"}).status_code == 404
    for wrong in ({"step": "soon"}, {"window": "-1"}, {"after": "x"}, {"series": "no/such"}, {"windw": "5m"}):
        answer = client.get("/v1/live", params={"gateway": "press-3", **wrong})
        assert answer.status_code == 400, wrong
