"""The API as a client sees it: over real routes, a real catalog, real packs."""

from __future__ import annotations

import csv
import gzip
import io
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from httpx import Client, Response

from cloud_sync.errors import CatalogDown, StoreDown
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.metrics import Metrics
from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.query.seeding import ANCHOR, CLIMATE, NOW_US, Cloud, tick
from wire.ranges import RangeSet
from wire.reading import CellState, LossReason, Tombstone
from wire.series import SeriesDef, SeriesSet, ValueType
from wire.sync.frames import EpochOffer, Hello

S = 1_000_000
EPOCH = 0x00DC_BA98_7654_3210
DOCS = Path(__file__).parents[4] / "docs/operating/http-api.md"


def filled(root: Path) -> Cloud:
    """Ten minutes of three series, five gaps, sixty cells given up and forty pending."""
    made = Cloud(root)
    for minute in range(10):
        first = NOW_US - (10 - minute) * 60 * S
        ticks = []
        for n in range(60):
            states = bytes([CellState.NO_ANSWER, 0, 0]) if minute == 4 and n < 5 else b""
            ticks.append(tick(CLIMATE, first + n * S, 2100 + n, 4000 + minute, 101_325, states=states))
        made.push("press-3", EPOCH, {CLIMATE: ticks})
    made.lose("press-3", Tombstone(EPOCH, 1800, 1860, LossReason.EVICTED, 60))
    made.hello("press-3", (EPOCH, 1900))
    return made


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """For tests that only read."""
    made = filled(tmp_path_factory.mktemp("cloud"))
    with served(made) as base, Client(base_url=base, headers=bearer(made), trust_env=False, timeout=30) as reader:
        yield reader
    made.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = filled(tmp_path)
    yield made
    made.close()


@pytest.fixture
def own_client(cloud: Cloud) -> Iterator[Client]:
    """For tests that change `cloud`."""
    with served(cloud) as base, Client(base_url=base, headers=bearer(cloud), trust_env=False, timeout=30) as made:
        yield made


def problem(response: Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"].startswith("urn:tidegate:problem:")
    assert body["title"]
    assert body["detail"]
    return dict(body)


def test_fleet_tells_state_and_counts(own_client: Client, cloud: Cloud) -> None:
    body = own_client.get("/v1/gateways").json()
    assert body["total_size"] == 1
    assert body["next_page_token"] == ""
    (gateway,) = body["gateways"]
    assert gateway["id"] == "press-3"
    assert gateway["state"] == "online"
    assert gateway["last_seen_ms"] == NOW_US // 1000
    assert (gateway["taken"], gateway["stored"], gateway["tombstoned"], gateway["pending"]) == (1900, 1800, 60, 40)
    cloud.clock.sleep(91)
    assert own_client.get("/v1/gateways/press-3").json()["state"] == "offline"


def test_lists_page_by_token(own_client: Client, cloud: Cloud) -> None:
    for n in range(7):
        cloud.hello(f"g{n}", (n + 1, 0))
    seen, token = [], ""
    for _ in range(5):
        body = own_client.get("/v1/gateways", params={"page_size": 3, "page_token": token}).json()
        seen += [gateway["id"] for gateway in body["gateways"]]
        token = body["next_page_token"]
        if not token:
            break
    assert seen == [*(f"g{n}" for n in range(7)), "press-3"]
    assert len(own_client.get("/v1/gateways", params={"page_size": 10**9}).json()["gateways"]) == 8
    names = own_client.get("/v1/gateways/press-3/series", params={"page_size": 2}).json()
    assert [each["name"] for each in names["series"]] == ["room/humidity", "room/pressure"]
    wrong = own_client.get("/v1/gateways", params={"page_token": names["next_page_token"]})
    assert problem(wrong)["type"].endswith("query-invalid")


def test_ids_are_hexadecimal_text(client: Client) -> None:
    (epoch,) = client.get("/v1/gateways/press-3/ledger").json()["epochs"]
    assert epoch["epoch"] == "00dcba9876543210"
    series = client.get("/v1/gateways/press-3/series").json()["series"]
    assert all(len(each["definitions"][0]["id"]) == 16 for each in series)


def test_the_ledger_adds_up_and_gives_reasons(client: Client) -> None:
    body = client.get("/v1/gateways/press-3/ledger").json()
    assert body["taken"] == body["stored"] + body["tombstoned"] + body["pending"] == 1900
    assert body["by_reason"] == {"evicted": 60}
    assert body["epochs"][0]["tombstones"] == [{"first": 1800, "end": 1860, "count": 60, "reason": "evicted"}]
    assert body["epochs"][0]["predecessor"] is None
    assert body["epochs"][0]["offset_us"] == ANCHOR.offset_us
    assert body["epochs"][0]["synchronised"] is True


def test_the_fleets_ledger_gaps_and_clones(cloud: Cloud, own_client: Client) -> None:
    told = Hello(b"one", "0.1.0", "", cloud.catalog.generation(), (EpochOffer(5, 30, RangeSet([(0, 20)])),))
    cloud.catalog.hello("gap-1", told)
    cloud.catalog.hello("gap-1", replace(told, machine=b"two", epochs=(EpochOffer(6, 0, RangeSet(), 5, None),)))
    (line,) = [each for each in own_client.get("/v1/ledger").json()["gateways"] if each["gateway"] == "gap-1"]
    assert (line["pending"], line["gap"], line["lost"], line["cloned"]) == (30, 10, 10, True)
    body = own_client.get("/v1/gateways/gap-1/ledger").json()
    assert [(each["first"], each["end"], each["count"]) for each in body["epochs"][0]["gaps"]] == [(20, 30, 10)]
    assert [each["machine"] for each in body["machines"]] == [b"one".hex(), b"two".hex()]
    metrics = own_client.get("/metrics").text
    assert 'tidegate_ledger_readings{state="gap"} 10.0' in metrics
    assert 'tidegate_gateways_alarming{why="gap"} 1.0' in metrics
    assert 'tidegate_gateways_alarming{why="clone"} 1.0' in metrics
    page = own_client.get("/gateways/gap-1").text
    assert "10 readings are in a gap" in page
    assert "Two machines use" in page
    assert "cloned" in own_client.get("/").text
    cloud.lose("gap-1", Tombstone(5, 20, 30, LossReason.HOLE, 10))
    assert own_client.get("/v1/gateways/gap-1/ledger").json()["gap"] == 0
    assert 'tidegate_gateways_alarming{why="gap"} 0.0' in own_client.get("/metrics").text
    assert "in a gap" not in own_client.get("/gateways/gap-1").text


def test_latest(client: Client) -> None:
    latest = {each["name"]: each for each in client.get("/v1/gateways/press-3/latest").json()["latest"]}
    assert latest["room/temperature"]["value"] == 21.59
    assert latest["room/temperature"]["value_time_ms"] == NOW_US // 1000 - 1000
    assert latest["room/pressure"]["gap"] is None


def test_rows_as_json(client: Client) -> None:
    start = NOW_US - 6 * 60 * S - 2 * S
    query = {"gateway": "press-3", "series": "room/temperature", "start": str(start), "end": str(start + 4 * S)}
    body = client.get("/v1/query", params=query).json()
    (series,) = body["series"]
    assert series["times"] == [start // 1000 + n * 1000 for n in range(4)]
    assert series["values"] == [21.58, 21.59, None, None]
    assert series["gaps"] == [{"time": time, "reason": "no_answer"} for time in series["times"][2:]]
    assert body["next_page_token"] == ""
    exact = client.get("/v1/query", params={**query, "time_unit": "us"}).json()
    assert exact["series"][0]["times"][0] == start
    assert exact["start"] == start


def test_pages_follow_a_relative_range_while_time_passes(own_client: Client, cloud: Cloud) -> None:
    query = {"gateway": "press-3", "start": "-5m", "page_size": "250"}
    values, token = 0, ""
    for _ in range(20):
        body = own_client.get("/v1/query", params={**query, "page_token": token}).json()
        values += sum(len(series["times"]) for series in body["series"])
        token = body["next_page_token"]
        cloud.clock.sleep(30)
        if not token:
            break
    assert values == 5 * 60 * 3


def test_buckets_as_json_and_csv(client: Client) -> None:
    query = {"gateway": "press-3", "series": "room/temperature", "start": "-10m", "end": "now", "step": "1m"}
    body = client.get("/v1/query", params=query).json()
    (series,) = body["series"]
    # NOW is 20 s before a whole minute: the first bucket starts before the range, which cuts it.
    assert series["count"] == [20, 60, 60, 60, 55, 60, 60, 60, 60, 60, 40]
    assert sum(series["gaps"]) == 5
    assert series["gap_reasons"] == {"no_answer": 5}
    assert (series["min"][1], series["max"][1]) == (21.0, 21.59)
    text = client.get("/v1/query", params={**query, "format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["count"]) for row in rows] == series["count"]
    assert rows[1]["time"] == "2026-05-28T20:17:00.000Z"
    assert [float(row["mean"]) for row in rows] == series["mean"]


def test_csv_streams_every_page_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_sync.http_api.readings.PAGE_SIZE_MAX", 70)
    response = client.get("/v1/query", params={"gateway": "press-3", "format": "csv"})
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert len(rows) == 1800
    assert len({(row["time"], row["series"]) for row in rows}) == 1800
    assert sum(row["gap"] == "no_answer" and row["value"] == "" for row in rows) == 5
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


def test_csv_pages_link_to_the_next(client: Client) -> None:
    url: str | None = "/v1/query?gateway=press-3&series=room/humidity&page_size=250&format=csv"
    values = []
    while url:
        response = client.get(url)
        values += [row["value"] for row in csv.DictReader(io.StringIO(response.text))]
        url = response.links["next"]["url"] if "next" in response.links else None
    assert values == [f"{40 + minute / 100!r}" for minute in range(10) for _ in range(60)]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("application/json;q=0.4, text/csv;q=0.5", "text/csv"),
        ("text/csv, application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/csv;q=none, */*", "application/json"),
        ("text/csv;q=\u00b2, */*", "application/json"),
        ("application/json;q=1e9, text/csv;q=0.001", "text/csv"),
    ],
)
def test_accept_chooses_the_format(client: Client, accept: str, kind: str) -> None:
    headers = {"accept": accept.encode("latin-1")}
    response = client.get("/v1/query", params={"gateway": "press-3", "step": "1m"}, headers=headers)
    assert response.headers["content-type"].startswith(kind)


def test_a_poll_brings_only_what_is_new(own_client: Client, cloud: Cloud) -> None:
    query = {"gateway": "press-3", "series": "room/temperature", "start": "-10m", "step": "1m"}
    first = own_client.get("/v1/query", params=query).json()
    again = own_client.get("/v1/query", params={**query, "after": first["cursor"]}).json()
    assert again["series"][0]["count"] == []
    assert again["cursor"] == first["cursor"]
    cloud.push("press-3", EPOCH + 1, {CLIMATE: [tick(CLIMATE, NOW_US - S // 2, 3000, 1, 1)]})
    fresh = own_client.get("/v1/query", params={**query, "after": again["cursor"]}).json()
    assert (fresh["series"][0]["count"], fresh["series"][0]["mean"]) == ([1], [30.0])
    rows = own_client.get("/v1/query", params={"gateway": "press-3", "after": first["cursor"]})
    assert problem(rows)["detail"].startswith("after belongs to another question")


def test_numbers_that_json_lacks_are_named(own_client: Client, cloud: Cloud) -> None:
    level = SeriesSet((SeriesDef('=tank, "A"', "level", "", value_type=ValueType.FLOAT64),))
    numbers = [float("nan"), float("inf"), float("-inf"), 1e-7]
    cloud.push("tank", 1, {level: [tick(level, NOW_US - (4 - n) * S, each) for n, each in enumerate(numbers)]})
    response = own_client.get("/v1/query", params={"gateway": "tank"})
    body = json.loads(response.text, parse_constant=pytest.fail)
    assert body["series"][0]["values"] == ["NaN", "Infinity", "-Infinity", 1e-7]
    assert body["series"][0]["gaps"] == []
    text = own_client.get("/v1/query", params={"gateway": "tank", "format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["value"] for row in rows] == ["nan", "inf", "-inf", "1e-07"]
    assert rows[0]["series"] == '=tank, "A"/level'
    assert own_client.get("/v1/gateways/tank/latest").json()["latest"][0]["value"] == 1e-7


@pytest.mark.parametrize(
    ("path", "status", "kind", "says"),
    [
        ("/v1/gateways/nobody", 404, "not-found", "/v1/gateways lists"),
        ("/v1/gateways/nobody/ledger", 404, "not-found", "nobody"),
        ("/v1/query?gateway=nobody", 404, "not-found", "nobody"),
        ("/v1/query", 400, "parameter-invalid", "gateway"),
        ("/v1/query?gateway=press-3&strat=-1h", 400, "parameter-invalid", "strat: unknown here"),
        ("/v1/query?gateway=press-3&format=xml", 400, "parameter-invalid", "format"),
        ("/v1/query?gateway=press-3&page_size=many", 400, "parameter-invalid", "page_size"),
        ("/v1/query?gateway=press-3&page_size=-1", 400, "query-invalid", "negative"),
        ("/v1/query?gateway=press-3&start=tomorrow", 400, "query-invalid", "RFC 3339"),
        ("/v1/query?gateway=press-3&step=0", 400, "query-invalid", "duration"),
        ("/v1/query?gateway=press-3&start=-365d&step=1s", 400, "query-invalid", "larger step"),
        ("/v1/query?gateway=press-3&start=now&end=-1h", 400, "query-invalid", "not after start"),
        ("/v1/query?gateway=press-3&series=room/temp", 400, "query-invalid", "room/temperature"),
        ("/v1/query?gateway=press-3&page_token=abc", 400, "query-invalid", "page_token"),
        ("/v1/query?gateway=press-3&after=abc", 400, "query-invalid", "after"),
        ("/v2/anything", 404, "not-found", "/v2/anything"),
        ("/assets/../catalog.sqlite", 404, "not-found", ""),
    ],
)
def test_problems_say_what_helps(client: Client, path: str, status: int, kind: str, says: str) -> None:
    response = client.get(path)
    assert response.status_code == status
    body = problem(response)
    assert body["type"] == f"urn:tidegate:problem:{kind}"
    assert says in body["detail"]


def test_a_wrong_method_is_a_problem_that_names_the_right_one(client: Client) -> None:
    response = client.post("/v1/query")
    assert problem(response)["type"].endswith("method-not-allowed")
    assert response.headers["allow"] == "GET"


def test_damage_and_outages_have_their_own_status(own_client: Client, cloud: Cloud) -> None:
    for key in list(cloud.store.list()):
        cloud.store.delete(key)
    response = own_client.get("/v1/query", params={"gateway": "press-3"})
    assert response.status_code == 200
    assert "packs/" in response.json()["notices"][0]
    for step in ({}, {"step": "1m"}):
        response = own_client.get("/v1/query", params={"gateway": "press-3", "format": "csv", **step})
        assert response.status_code == 503
        assert problem(response)["type"].endswith("object-missing")
        assert "packs/" in problem(response)["detail"]
    cloud.catalog.close()
    (cloud.root / "catalog.sqlite").rename(cloud.root / "away")
    (cloud.root / "catalog.sqlite").mkdir()
    for path in ("/ready", "/v1/gateways", "/v1/query?gateway=press-3"):
        response = own_client.get(path)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert problem(response)["type"].endswith("catalog-down")
    assert own_client.get("/health").json() == {"status": "ok"}


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("part", ["catalog", "object store"])
def test_not_ready_while_writes_are_refused(cloud: Cloud, part: str, caplog: pytest.LogCaptureFixture) -> None:
    ingestor = Ingestor(cloud.catalog, cloud.store, cloud.clock, Metrics())
    write = cloud.catalog.put_series_sets if part == "catalog" else ingestor.put_series_sets
    with (
        served(cloud, ingestor.require_writable) as base,
        Client(base_url=base, headers=bearer(cloud), trust_env=False, timeout=30) as client,
    ):
        assert client.get("/ready").status_code == client.get("/v1/gateways").status_code == 200
        with full_disk():
            with pytest.raises((CatalogDown, StoreDown)):
                write("press-3", [SeriesSet((SeriesDef("attic", "temperature", "Cel"),))])
            for _ in range(2):
                assert client.get("/v1/gateways").status_code == 200, "reading still works"
                refused = client.get("/ready")
                assert refused.status_code == 503
                assert problem(refused)["type"].endswith("catalog-down" if part == "catalog" else "store-down")
        assert client.get("/ready").status_code == 200
    said = [record.getMessage() for record in caplog.records if record.name == "cloud_sync.outage"]
    assert [line.split(",")[0].partition(" after_s")[0] for line in said] == [f"{part} lost", f"{part} is back"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8080",
        "tidegate",
        "",
        "[::1",
        "evil.example:10.0.0.1",
    ],
)
def test_a_foreign_host_is_refused(client: Client, host: str) -> None:
    response = client.get("/v1/gateways", headers={"host": host})
    assert response.status_code == 421
    assert problem(response)["type"].endswith("host-unknown")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", "[::1]", "127.0.0.2:80", "10.0.0.1"]
)
def test_addresses_are_served(client: Client, host: str) -> None:
    assert client.get("/v1/gateways", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/gateways/press-3", "/v1/gateways", "/nowhere", "/v1/query", "/metrics"])
def test_every_answer_is_guarded(client: Client, path: str) -> None:
    headers = client.get(path, headers={"origin": "http://evil.example"}).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert not any(name.startswith("access-control-") for name in headers)


def test_gzip_only_where_it_is_taken(client: Client) -> None:
    def raw(accept: str) -> tuple[str, bytes]:
        query = {"gateway": "press-3", "start": "-10m"}
        with client.stream("GET", "/v1/query", params=query, headers={"accept-encoding": accept}) as response:
            return response.headers.get("content-encoding", ""), b"".join(response.iter_raw())

    coding, packed = raw("br, gzip")
    plain = raw("identity")
    assert coding == "gzip"
    assert plain[0] == ""
    assert gzip.decompress(packed) == plain[1]
    assert len(packed) < len(plain[1]) / 5
    assert raw("gzip;q=0")[0] == ""


def test_metrics_count_by_route(client: Client) -> None:
    before = client.get("/metrics").text
    client.get("/v1/gateways/press-3")
    client.get("/v1/gateways/nobody")
    text = client.get("/metrics").text
    for status in ("200", "404"):
        name = f'tidegate_http_request_seconds_count{{route="/v1/gateways/{{gateway}}",status="{status}"}} '
        assert _value(text, name) == _value(before, name) + 1
    assert 'tidegate_query_cache_lookups_total{result="miss"}' in text


def _value(text: str, name: str) -> float:
    return sum(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))


def test_every_route_and_parameter_is_documented(client: Client) -> None:
    text = DOCS.read_text(encoding="utf-8")
    schema = client.get("/v1/openapi.json").json()
    sections = {part.split("\n", 1)[0]: part for part in text.split("\n### ")[1:]}
    declared = {f"{method.upper()} {path}": told for path, of in schema["paths"].items() for method, told in of.items()}
    pages = {
        "GET /",
        "GET /gateways/{gateway}",
        "GET /assets/{name}",
        "GET /v1/openapi.json",
        "GET /login",
        "POST /login",
    }
    assert set(sections) == set(declared) | pages | {"POST /logout"}
    for name, route in declared.items():
        assert route["summary"]
        assert route["description"]
        for parameter in route.get("parameters", []):
            if parameter["in"] == "query":
                assert f"`{parameter['name']}`" in sections[name], (name, parameter["name"])
                assert parameter.get("description"), (name, parameter["name"])
