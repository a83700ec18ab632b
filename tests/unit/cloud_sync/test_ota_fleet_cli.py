"""`edge-ota assign | status | rollback | explain` against a data folder, with what gateways would report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_sync import ota_fleet_cli
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.assignments import Standing
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.rollout.standing import place_of
from tests.unit.cloud_sync.gateway import hello
from tests.unit.cloud_sync.test_ota_cli import place as place  # noqa: PLC0414 - a fixture
from tests.unit.cloud_sync.test_ota_cli import run
from wire.assignment import Assigned
from wire.clock import SystemClock
from wire.sync.updates import Report

FAMILY = "value-novelty"


@contextmanager
def catalog() -> Iterator[SqlCatalog]:
    opened = SqlCatalog.open(Path("data/catalog.sqlite"), SystemClock())
    try:
        yield opened
    finally:
        opened.close()


def told(line: str, code: int = 0) -> Any:
    return json.loads(run(f"{line} --data data --json", code).stdout)


def reports(*steps: tuple[str, str], counter: int = 1, first: int = 1) -> None:
    """What kiln-7 says, in order."""
    with catalog() as opened:
        opened.assignments.record_reports(
            "kiln-7",
            [
                Report(
                    first + place,
                    0,
                    FAMILY,
                    f"{FAMILY}/{counter}",
                    stage,
                    reason,
                    "words \x1b[31m of it" if reason else "",
                )
                for place, (stage, reason) in enumerate(steps)
            ],
        )


@pytest.fixture(autouse=True)
def published(place: Path) -> None:
    run("edge-ota key init --keys keys --data data --family value-novelty --threshold 1 --of 1")
    run("edge-ota model push models/value-novelty/1 --keys keys --data data")


def state() -> tuple[str, str]:
    (one,) = told("edge-ota status kiln-7")["places"]
    return one["state"], one["reason"]


def test_an_assignment_is_written_down_once_and_audited() -> None:
    first = told(f"edge-ota assign kiln-7 {FAMILY}/1")
    assert first == {"schema_version": 1, "release": f"{FAMILY}/1", "gateways": ["kiln-7"], "changed": 1}
    assert told(f"edge-ota assign all {FAMILY}/1")["changed"] == 0
    with catalog() as opened:
        desired = opened.assignments.of("kiln-7")
    assert desired is not None
    assert [one.name for one in desired.releases] == [f"{FAMILY}/1"]
    actions = [(row["actor"], row["action"], row["subject"]) for row in told("cloud-sync audit")["changes"]]
    assert actions[0] == (ACTOR_LOCAL, "ota.assign", "kiln-7")
    timed = told(f"edge-ota assign kiln-7 {FAMILY}/1 --from 2026-12-01T02:00+01:00 --until 2027-01-01")
    assert timed["changed"] == 1
    with catalog() as opened:
        desired = opened.assignments.of("kiln-7")
    assert desired is not None
    one = desired.releases[0]
    assert (one.from_us, one.until_us) == (1_796_086_800_000_000, 1_798_761_600_000_000)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (f"edge-ota assign nobody {FAMILY}/1", 1, "no gateway is or has the label 'nobody'"),
        (f"edge-ota assign site=kiel {FAMILY}/1", 1, "Try: cloud-sync gateway list"),
        (f"edge-ota assign kiln-7 {FAMILY}/9", 1, "Try: edge-ota model list"),
        ("edge-ota assign kiln-7 other/1", 1, "other"),
        (f"edge-ota assign kiln-7 {FAMILY}", 78, "is not FAMILY/COUNTER"),
        (f"edge-ota assign kiln-7 {FAMILY}/1 --from soon", 78, "Try: --from 2026-12-01T02:00Z"),
        (f"edge-ota assign kiln-7 {FAMILY}/1 --until 1970-01-01", 78, "before the year 2000"),
        ("edge-ota explain all", 1, "'all' is no gateway"),
        (f"edge-ota rollback nobody {FAMILY}/1 --keys keys", 1, "nobody"),
    ],
)
def test_mistakes_are_told_with_what_helps(line: str, code: int, words: str) -> None:
    assert words in run(f"{line} --data data", code).stderr


def test_a_release_s_way_as_people_see_it() -> None:
    assert told("edge-ota status") == {"schema_version": 1, "places": []}
    assert "Try: edge-ota assign" in run("edge-ota status --data data").stderr
    assert "Try: edge-ota assign kiln-7" in run("edge-ota explain kiln-7 --data data").stderr
    run(f"edge-ota assign kiln-7 {FAMILY}/1 --data data")
    assert state() == ("waiting", "")
    assert "has never connected" in run("edge-ota explain kiln-7 --data data").stdout
    with catalog() as opened:
        opened.hello("kiln-7", hello())
    assert "it last connected at" in run("edge-ota explain kiln-7 --data data").stdout
    for number, stage in enumerate(("assigned", "downloaded", "tested", "shadow", "staged"), 1):
        reports((stage, ""), first=number)
        assert state() == (stage, "")
    reports(("probation", ""), first=6)
    assert state() == ("active", "")
    reports(("rolled_back", "stopped"), first=7)
    assert state() == ("rolled_back", "stopped")
    shown = run("edge-ota explain kiln-7 --data data").stdout
    assert "the gateway went back from it: words \ufffd[31m of it" in shown
    assert "\x1b" not in shown
    document = told("edge-ota explain kiln-7")
    assert (document["counter"], document["withheld"], len(document["steps"])) == (1, "", 7)
    table = run("edge-ota status --data data")
    assert table.stdout.splitlines()[1].split() == ["kiln-7", f"{FAMILY}/1", "-", "rolled_back", "stopped"]
    assert table.stderr == "[########################] 1 of 1: 1 rolled_back\n"


def test_a_clone_is_the_reason() -> None:
    with catalog() as opened:
        for machine in (b"1" * 16, b"2" * 16):
            opened.hello("kiln-7", replace(hello(), machine=machine))
    run(f"edge-ota assign kiln-7 {FAMILY}/1 --data data")
    assert "Try: cloud-sync machine list" in run("edge-ota explain kiln-7 --data data").stdout


def test_watch_ends_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    run(f"edge-ota assign kiln-7 {FAMILY}/1 --data data")
    steps = [("downloaded", ""), ("tested", ""), ("refused", "latency")]
    looks = iter(range(1, 10))

    def wait(seconds: float) -> None:
        number = next(looks)
        reports(steps[number - 1], first=number)

    monkeypatch.setattr(ota_fleet_cli.time, "sleep", wait)
    watched = run("edge-ota status --watch --data data", 1)
    assert [line.split()[-1] for line in watched.stdout.splitlines()[1:]] == [
        "waiting",
        "downloaded",
        "tested",
        "latency",
    ]
    assert run("edge-ota status --watch --data data", 1).stdout.count("kiln-7") == 1, "it has ended"


def test_back_to_old_bytes_under_a_higher_counter() -> None:
    run("edge-ota model push models/value-novelty/1 --keys keys --data data --p95-ms 20")
    run(f"edge-ota assign kiln-7 {FAMILY}/2 --data data")
    assert (
        f"{FAMILY}/3 is {FAMILY}/1 again" in run(f"edge-ota rollback kiln-7 {FAMILY}/1 --keys keys --data data").stdout
    )
    old, new = (told(f"edge-ota model show {FAMILY}/{counter}") for counter in (1, 3))
    assert {**old, "release": ""} == {**new, "release": ""}
    assert told(f"edge-ota rollback all {FAMILY}/1 --keys keys")["release"] == f"{FAMILY}/3", "no second copy"
    assert told("edge-ota status")["places"][0]["assigned"] == f"{FAMILY}/3"
    assert run("edge-ota model verify --root keys/root.json --data data").stdout == "good\n"


def test_what_runs_without_being_assigned() -> None:
    with catalog() as opened:
        opened.hello("kiln-7", replace(hello(), models=((FAMILY, f"{FAMILY}/1"),)))
    assert state() == ("unassigned", "")
    run(f"edge-ota assign kiln-7 {FAMILY}/1 --data data")
    assert state() == ("active", ""), "it said so when it connected"


def test_a_window_is_told() -> None:
    wanted = Assigned("toy", 1, "0" * 64, 1, from_us=1_800_000_000_000_000)
    one = place_of(Standing("gw", "toy", wanted, 5, "", None, 1_700_000_000_000_000))
    assert one.why.endswith("it may install from 2027-01-15T08:00:00Z on")
