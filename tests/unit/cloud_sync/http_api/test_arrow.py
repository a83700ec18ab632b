"""Arrow answers, read back by pyarrow, against the JSON of the same question; and the fleet's newest values."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from httpx import Client, Response

from tests.unit.cloud_sync.http_api.serving import bearer, served
from tests.unit.cloud_sync.query.seeding import CLIMATE, NOW_US, Cloud, tick
from wire.reading import CellState

S = 1_000_000
ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    gap = bytes([CellState.NO_ANSWER, 0, 0])
    ticks = [
        tick(CLIMATE, NOW_US - n * S, 2100 + n, 4000, 101_325, states=gap if n == 7 else b"") for n in range(60, 0, -1)
    ]
    cloud.push("press-3", 1, {CLIMATE: ticks})
    for n in range(4):
        cloud.hello(f"quiet-{n}", (2 + n, 0))
    with served(cloud) as base, Client(base_url=base, headers=bearer(cloud), trust_env=False) as reader:
        yield reader
    cloud.close()


def table(response: Response) -> pa.Table:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == ARROW
    return pa.ipc.open_stream(response.content).read_all()


def note(read: pa.Table, name: str) -> str:
    return str(read.schema.metadata[name.encode()].decode())


@pytest.mark.parametrize("how", [{"params": {"format": "arrow"}}, {"headers": {"accept": ARROW}}])
def test_rows_are_those_of_json(client: Client, how: dict[str, dict[str, str]]) -> None:
    asked = {"gateway": "press-3", "start": "-1h", "time_unit": "us"}
    plain = client.get("/v1/query", params=asked).json()
    read = table(client.get("/v1/query", params={**asked, **how.get("params", {})}, headers=how.get("headers")))
    assert read.column_names == ["time", "series", "unit", "value", "quality", "gap", "count", "min", "max"]
    assert read.schema.field("time").type == pa.timestamp("us", "UTC")
    assert {read.schema.field(name).type for name in ("series", "unit", "gap")} == {pa.string()}
    rows = read.set_column(0, "time", read["time"].cast(pa.int64())).to_pylist()
    assert len(rows) == 180
    for series in plain["series"]:
        own = [row for row in rows if row["series"] == series["name"]]
        assert [row["time"] for row in own] == series["times"]
        assert [row["value"] for row in own] == series["values"]
        assert [row["quality"] for row in own] == series["quality"]
        assert {row["unit"] for row in own} == {series["unit"]}
        assert [{"time": row["time"], "reason": row["gap"]} for row in own if row["gap"]] == series["gaps"]
    assert note(read, "cursor") == plain["cursor"]
    assert note(read, "next_page_token") == ""
    assert json.loads(note(read, "notices")) == []


def test_buckets_are_those_of_json(client: Client) -> None:
    asked = {"gateway": "press-3", "start": "-1h", "step": "1s", "time_unit": "us"}
    plain = client.get("/v1/query", params=asked).json()
    read = table(client.get("/v1/query", params={**asked, "format": "arrow"}))
    rows = read.set_column(0, "time", read["time"].cast(pa.int64())).to_pylist()
    for series in plain["series"]:
        own = [row for row in rows if row["series"] == series["name"]]
        for column, held in (("time", "times"), *((each, each) for each in ("count", "min", "max", "mean", "gaps"))):
            assert [row[column] for row in own] == series[held], column
    assert note(read, "step_us") == "1000000"
    assert note(read, "cursor") == plain["cursor"]


def test_pages_are_linked(client: Client) -> None:
    url, count = "/v1/query?gateway=press-3&format=arrow&page_size=50", 0
    for _ in range(10):
        answer = client.get(url)
        count += table(answer).num_rows
        if "link" not in answer.headers:
            break
        url = answer.headers["link"].split(">")[0].removeprefix("<")
    assert count == 180


def test_nothing_is_a_table_too(client: Client) -> None:
    for more in ({}, {"step": "1m"}):
        read = table(client.get("/v1/query", params={"gateway": "quiet-1", "format": "arrow", **more}))
        assert read.num_rows == 0


def test_nanoarrow_is_not_loaded_before_it_is_asked_for() -> None:
    program = "import sys, cloud_sync.http_api.app; print('nanoarrow' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert told.stdout.strip() == "False"


def test_the_fleets_newest_values(client: Client) -> None:
    own = client.get("/v1/gateways/press-3/latest").json()["latest"]
    assert len(own) == 3
    everything = client.get("/v1/latest").json()
    assert everything["next_page_token"] == ""
    assert {each["gateway"]: each["latest"] for each in everything["gateways"]} == {
        "press-3": own,
        **{f"quiet-{n}": [] for n in range(4)},
    }
    assert client.get("/v1/latest", params={"gateway": "press-3"}).json()["gateways"] == [
        {"gateway": "press-3", "latest": own}
    ]
    assert client.get("/v1/latest", params={"gateway": "nobody"}).status_code == 404
    first = client.get("/v1/latest", params={"page_size": 2}).json()
    assert [each["gateway"] for each in first["gateways"]] == ["press-3", "quiet-0"]
    second = client.get("/v1/latest", params={"page_size": 2, "page_token": first["next_page_token"]}).json()
    assert [each["gateway"] for each in second["gateways"]] == ["quiet-1", "quiet-2"]
