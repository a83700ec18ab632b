"""Webhooks: what is queued for whom, and that nothing is forgotten, on each database."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cloud_sync.catalog import webhooks as module
from cloud_sync.catalog.catalog import Catalog
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.catalog.webhooks import EVENTS, KEPT_US, LEASE_US, Terms, Webhooks
from cloud_sync.errors import ConfigInvalid, NotFound
from tests.conformance.catalogs import DialClock, Open, S, hello
from wire.alarm import Alarm, Phase
from wire.ranges import RangeSet
from wire.sync.frames import EpochOffer


@pytest.fixture
def sql(catalog: Catalog) -> SqlCatalog:
    assert isinstance(catalog, SqlCatalog)
    return catalog


@pytest.fixture
def hooks(sql: SqlCatalog) -> Webhooks:
    return sql.webhooks


def add(hooks: Webhooks, name: str = "a", *events: str, silent_after_s: int = 600) -> None:
    hooks.add(name, "whsec_AAAA", Terms("https://x.example/", events or EVENTS, silent_after_s, False))


def alarm(phase: Phase = Phase.RAISED, number: int = 1, stamp: int = 5) -> Alarm:
    return Alarm(number, "room/temperature", "high", phase, 5, stamp, 2.0, 1.0, 31.5, None, None, 30.0, "Cel")


def drain(hooks: Webhooks) -> list[dict[str, Any]]:
    """Everything that waits, as receivers that take all of it see it."""
    told = []
    while due := hooks.take():
        for delivery in due:
            told.append({"id": delivery.event_id, "to": delivery.target.id, **json.loads(delivery.body)})
            hooks.taken(delivery)
    return told


def test_alarms_are_told_once_when_they_begin_and_end(sql: SqlCatalog, hooks: Webhooks) -> None:
    add(hooks, "a")
    add(hooks, "b", "gap")
    sql.hello("gw-a", hello())
    sql.record_alarms("gw-a", [(7, alarm()), (7, alarm(Phase.GREW, stamp=6))])
    sql.record_alarms("gw-a", [(7, alarm()), (7, alarm(Phase.CLEARED, stamp=9))])  # sent again, with its end
    told = drain(hooks)
    assert [(each["type"], each["to"]) for each in told] == [("alarm.raised", "a"), ("alarm.cleared", "a")]
    assert told[0]["data"]["gateway"] == "gw-a"
    assert told[0]["data"]["cause"].startswith("room/temperature: 31.5 Cel")
    sql.record_alarms("gw-a", [(7, alarm()), (7, alarm(Phase.CLEARED, stamp=9))])
    assert drain(hooks) == []


def test_silence_begins_and_ends(sql: SqlCatalog, hooks: Webhooks, clock: DialClock) -> None:
    add(hooks, "a", silent_after_s=600)
    for name in ("gw-a", "gone"):
        sql.hello(name, hello())
    sql.access.revoke("gone", "sold")
    clock.now_us += 600 * S
    assert hooks.look() == 0
    clock.now_us += S
    assert (hooks.look(), hooks.look()) == (1, 0)
    sql.hello("gw-a", hello())
    assert (hooks.look(), hooks.look()) == (1, 0)
    told = drain(hooks)
    assert [(each["type"], each["data"]["gateway"]) for each in told] == [
        ("silence.raised", "gw-a"),
        ("silence.cleared", "gw-a"),
    ]
    clock.now_us += 601 * S
    hooks.look()
    assert drain(hooks)[0]["id"] != told[0]["id"]  # another silence


def test_a_gap_begins_and_ends(sql: SqlCatalog, hooks: Webhooks) -> None:
    add(hooks, "a", "gap")
    for end in (60, 100):
        offer = EpochOffer(7, 100, RangeSet([(0, end)]))
        sql.hello("gw-a", replace(hello(offer), generation_seen=sql.generation()))
        hooks.look()
    told = drain(hooks)
    assert [each["type"] for each in told] == ["gap.raised", "gap.cleared"]
    assert told[0]["data"] == {"gateway": "gw-a", "readings": 40}


def test_nothing_is_forgotten_by_a_restart(sql: SqlCatalog, reopen: Open, clock: DialClock) -> None:
    add(sql.webhooks)
    sql.hello("gw-a", hello())
    sql.record_alarms("gw-a", [(7, alarm())])
    (first,) = sql.webhooks.take()  # and the service is killed before the receiver answers
    after = reopen()
    assert isinstance(after, SqlCatalog)
    assert after.webhooks.take() == []  # another replica may be at it
    clock.now_us += LEASE_US
    (again,) = after.webhooks.take()
    assert (again.event_id, again.body) == (first.event_id, first.body)


def test_one_that_fails_waits_in_order(sql: SqlCatalog, hooks: Webhooks, clock: DialClock) -> None:
    add(hooks)
    sql.hello("gw-a", hello())
    for number in (1, 2):
        sql.record_alarms("gw-a", [(7, alarm(number=number))])
    (first,) = hooks.take()
    hooks.failed(first, "answered 500", 30.0)
    assert hooks.take() == []
    (row,) = hooks.all()
    assert (row.waiting, row.failures, row.error) == (2, 1, "answered 500")
    clock.now_us += 30 * S
    (again,) = hooks.take()
    assert (again.event_id, again.failures) == (first.event_id, 1)
    hooks.taken(again)
    (row,) = hooks.all()
    assert (row.waiting, row.failures, row.error, row.taken_us) == (1, 0, "", clock.now_us)


def test_what_waits_is_bounded(
    sql: SqlCatalog, hooks: Webhooks, clock: DialClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    add(hooks)
    sql.hello("gw-a", hello())
    for number in range(5):
        sql.record_alarms("gw-a", [(7, alarm(number=number))])
    (row,) = hooks.all()
    assert (row.waiting, row.dropped) == (3, 2)
    assert [each["data"]["alarm"][-1] for each in drain(hooks)] == ["2", "3", "4"]
    sql.record_alarms("gw-a", [(7, alarm(number=9))])
    clock.now_us += KEPT_US + 1
    assert hooks.take() == []
    assert hooks.all()[0].dropped == 3
    monkeypatch.setattr(module, "WEBHOOKS_MAX", 1)
    with pytest.raises(ConfigInvalid, match="webhook remove"):
        add(hooks, "b")


def test_removed_with_what_waits(sql: SqlCatalog, hooks: Webhooks) -> None:
    add(hooks)
    sql.hello("gw-a", hello())
    sql.record_alarms("gw-a", [(7, alarm())])
    assert hooks.target("a").url == "https://x.example/"
    hooks.remove("a")
    assert (hooks.all(), hooks.take()) == ([], [])
    for call in (hooks.remove, hooks.target):
        with pytest.raises(NotFound):
            call("a")
    assert [row.action for row in sql.audit.rows(2)] == ["webhook.remove", "webhook.add"]
    assert "whsec" not in repr(sql.audit.rows(9))
