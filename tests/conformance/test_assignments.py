"""What each gateway shall run and what it reported: what every catalog must keep, on each database."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cloud_sync.catalog import assignments as module
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.assignments import Assignments, Desired
from cloud_sync.catalog.catalog import Catalog
from cloud_sync.catalog.identity_rows import Issued
from cloud_sync.catalog.schema import identity
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import AssignmentImpossible, NotFound
from tests.conformance.catalogs import DialClock, S, hello
from wire.assignment import RELEASES_MAX, Assigned
from wire.sync.updates import Report

TOY = Assigned("toy", 1, "0a" * 32, 700)
PUMP = Assigned("pump", 4, "0b" * 32, 900, 5, 6)


@pytest.fixture
def kept(catalog: Catalog) -> SqlCatalog:
    assert isinstance(catalog, SqlCatalog)
    return catalog


@pytest.fixture
def assignments(kept: SqlCatalog) -> Assignments:
    return kept.assignments


def report(id_: int, stage: str, reason: str = "", family: str = "toy", counter: int = 1) -> Report:
    return Report(id_, 5, family, f"{family}/{counter}", stage, reason, "text \0 of a gateway")


def test_each_change_has_its_counter_and_its_audit_row(kept: SqlCatalog, assignments: Assignments) -> None:
    assert assignments.of("gw-a") is None
    assert assignments.assign(["gw-a", "gw-b"], TOY, "maria") == 2
    assert assignments.of("gw-a") == Desired(1, (TOY,))
    assert assignments.assign(["gw-a"], TOY) == 0, "nothing changed"
    assert assignments.of("gw-a") == Desired(1, (TOY,))
    assert assignments.assign(["gw-a"], PUMP) == 1
    newer = replace(TOY, counter=2)
    assert assignments.assign(["gw-a", "gw-b"], newer) == 2
    assert assignments.of("gw-a") == Desired(3, (PUMP, newer))
    assert assignments.of("gw-b") == Desired(2, (newer,))
    told = [(row.actor, row.action, row.subject, row.detail) for row in kept.audit.rows(10)]
    assert ("maria", "ota.assign", "gw-b", "toy/1, before it nothing") in told
    assert (ACTOR_LOCAL, "ota.assign", "gw-a", "toy/2, before it toy/1") in told
    assert len(told) == 5
    assert kept.audit.first_broken() is None


def test_a_gateway_has_no_more_families_than_an_assignment_holds(assignments: Assignments) -> None:
    for number in range(RELEASES_MAX):
        assignments.assign(["gw-a"], replace(TOY, family=f"f{number}"))
    with pytest.raises(AssignmentImpossible):
        assignments.assign(["gw-b", "gw-a"], TOY)
    assert assignments.of("gw-b") is None, "all or nothing"
    assert assignments.assign(["gw-a"], replace(TOY, family="f0", counter=2)) == 1


def test_changes_are_found_since_a_time(assignments: Assignments, clock: DialClock) -> None:
    assignments.assign(["gw-a"], TOY)
    found, newest = assignments.changed({"gw-a", "gw-b"}, 0)
    assert (found, newest) == (["gw-a"], clock.now_us)
    clock.now_us += S
    assignments.assign(["gw-b", "gw-c"], TOY)
    found, newest = assignments.changed({"gw-a", "gw-b"}, newest)
    assert (found, newest) == (["gw-b"], clock.now_us)
    assert assignments.changed({"gw-a", "gw-b"}, newest) == ([], newest)


def test_gateways_are_chosen_by_id_label_or_all(kept: SqlCatalog, assignments: Assignments) -> None:
    kept.hello("gw-seen", hello())
    for name in ("gw-a", "gw-b"):
        kept.access.register(name, b"k" * 32, Issued(b"pem", "1", 0))
    with kept._database.write() as connection:
        at = identity.c.gateway == "gw-b"
        connection.execute(identity.update().where(at).values(labels=json.dumps({"site": "kiel"})))
    assert assignments.choose("gw-seen") == ["gw-seen"]
    assert assignments.choose("site=kiel") == ["gw-b"]
    assert assignments.choose("all") == ["gw-a", "gw-b", "gw-seen"]
    for nobody in ("gw-x", "site=oslo", "site=", "", "'; DROP TABLE gateway; --"):
        with pytest.raises(NotFound):
            assignments.choose(nobody)


def test_reports_are_kept_once_in_their_order(assignments: Assignments) -> None:
    assignments.record_reports("gw-a", [report(3, "downloaded"), report(1, "tested")])
    assignments.record_reports("gw-a", [report(1, "tested"), report(2, "probation")])
    assignments.record_reports("gw-b", [report(1, "refused", "latency")])
    rows = assignments.reports("gw-a", 10)
    assert [row.report.stage for row in rows] == ["probation", "tested", "downloaded"]
    assert rows[0].report.text == "text \ufffd of a gateway"
    assert [row.report.reason for row in assignments.reports("gw-b", 10)] == ["latency"]
    assert len(assignments.reports("gw-a", 2)) == 2


def test_only_the_newest_reports_of_a_gateway_are_kept(
    assignments: Assignments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_surplus", module._surplus.offset(3))
    for number in range(1, 9):
        assignments.record_reports("gw-a", [report(number, f"s{number}")])
    assert [row.report.stage for row in assignments.reports("gw-a", 10)] == ["s8", "s7", "s6"]


def test_a_standing_says_what_is_wanted_what_runs_and_what_came_last(
    kept: SqlCatalog, assignments: Assignments
) -> None:
    kept.hello("gw-a", replace(hello(), models=(("toy", "toy/1"), ("own", "own/2"))))
    assignments.assign(["gw-a", "gw-new"], replace(TOY, counter=2))
    assignments.record_reports("gw-a", [report(1, "downloaded", counter=2), report(2, "refused", "golden", counter=2)])
    found = {(one.gateway, one.family): one for one in assignments.standings()}
    assert list(found) == [("gw-a", "own"), ("gw-a", "toy"), ("gw-new", "toy")]
    toy = found["gw-a", "toy"]
    assert toy.desired == replace(TOY, counter=2)
    assert toy.running == "toy/1"
    assert toy.last is not None
    assert (toy.last.report.stage, toy.last.report.reason) == ("refused", "golden")
    assert found["gw-a", "own"].desired is None
    assert (found["gw-new", "toy"].running, found["gw-new", "toy"].last_seen_us) == ("", 0)
