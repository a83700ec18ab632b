"""Whatever is asked, the answer is an answer or a problem that says what helps: never a mistake of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from httpx import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud_sync.auth.roles import Role
from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, Cloud, tick

S = 1_000_000
PAGES = {"/": ["page"], "/gateways/{gateway}": ["window", "end"], "/assets/{name}": ["v"]}
GOOD = ["press-3", "room/temperature", "-1h", "now", "1s", "5m", "csv", "arrow", "json", "ms", "true"]
ODD = [
    *("", "0", "-1", "9" * 19, "9" * 5000, "1e308", "nan", "-inf", "1_000", "\u0661", "\0", "a\0b", "%00"),
    *("-99999999999d", "999999999999d", "0.0000001s", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"),
    *("2026-02-30T00:00:00Z", "2026-01-01T00:00:00+99:99", "-62135596800", "../../etc/passwd", "' OR 1=1 --", "[[[["),
    *("\U0001f600", "WzFd", "W10", "bnVsbA", "e30", "WzEsMiwzLDQsNV0"),  # base64 of JSON that is no token of ours
]
VALUES = st.one_of(st.sampled_from(GOOD), st.sampled_from(ODD), st.text(max_size=20))
HEADERS = st.one_of(
    st.sampled_from(["text/csv;q=1e9", "*/*;q=\u00b2", "a" * 3000, ";;;,,,q=", "WzFd"]),
    st.text(st.characters(min_codepoint=0xA0, max_codepoint=0xFF), max_size=20),
).map(lambda text: text.encode("latin-1"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    made = Cloud(tmp_path_factory.mktemp("cloud"))
    made.push("press-3", 1, {CLIMATE: [tick(CLIMATE, NOW_US - n * S, 2100, 4000, 101_325) for n in range(60, 0, -1)]})
    made.alarm("press-3", 1, NOW_US - 30 * S)
    with (
        served(made) as base,
        Client(base_url=base, headers=bearer(made, Role.ADMIN), trust_env=False, timeout=30) as reader,
    ):
        yield reader
    made.close()


@pytest.fixture(scope="module")
def routes(client: Client) -> dict[str, list[str]]:
    """Every path, and the parameters of its query."""
    paths: dict[str, Any] = client.get("/v1/openapi.json").json()["paths"]
    asked = {
        path: [each["name"] for each in about["get"].get("parameters", ()) if each["in"] == "query"]
        for path, about in paths.items()
        if "get" in about
    }
    assert {"page_size", "page_token"} <= set(asked["/v1/gateways"])
    return asked | PAGES


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_garbage_is_answered_never_a_mistake_of_ours(client: Client, routes: dict[str, list[str]], data: Any) -> None:
    path = data.draw(st.sampled_from(sorted(routes)))
    names = st.sampled_from([*routes[path], "gateway", "unheard-of"])
    query = data.draw(st.lists(st.tuples(names, VALUES), max_size=8))
    headers = data.draw(st.dictionaries(st.sampled_from(["accept", "accept-encoding", "last-event-id"]), HEADERS))
    place = data.draw(st.one_of(st.just("press-3"), VALUES))
    url = path.replace("{gateway}", quote(place, safe="")).replace("{name}", quote(place, safe=""))
    with client.stream("GET", url, params=query, headers=headers) as answer:
        assert answer.status_code in (200, 400, 404), url
        if answer.status_code != 200 and path not in PAGES:
            answer.read()
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["detail"]
