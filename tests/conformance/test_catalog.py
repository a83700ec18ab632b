"""What every catalog must do."""

from __future__ import annotations

import pytest

from cloud_sync.catalog import hello_rows
from cloud_sync.catalog.catalog import Catalog
from cloud_sync.catalog.sql_catalog import COMMIT_DEADLINE_US
from cloud_sync.errors import PackExpired, TooManyEpochs
from tests.conformance.catalogs import SETS, T0_US, TRUSTED, DialClock, Open, S, commit, entry, hello, lost, stored
from wire.alarm import Alarm, Phase, Severity
from wire.clock import Anchor
from wire.ranges import RangeSet
from wire.reading import LossReason
from wire.sync.frames import EpochOffer
from wire.sync.outcomes import AlreadyStored, Overlaps, Stored, UnknownSeries

# -- who is there ---------------------------------------------------------------------------------------------------


def test_an_empty_catalog(catalog: Catalog) -> None:
    assert catalog.gateways() == []
    assert catalog.gateway("gw-a") is None
    assert catalog.series_sets("gw-a") == []
    assert catalog.ledger("gw-a") == []
    assert catalog.messages("gw-a", [1], 0, 2**62) == []
    assert catalog.generation() > 0


def test_generation_stays_with_the_catalog(reopen: Open) -> None:
    first = reopen().generation()
    assert reopen().generation() == first


def test_hello_notes_the_gateway(catalog: Catalog, clock: DialClock) -> None:
    catalog.hello("gw-b", hello())
    catalog.hello("gw-a", hello())
    clock.now_us += 5 * S
    answer = catalog.hello("gw-a", hello())
    assert answer.generation == catalog.generation()
    row = catalog.gateway("gw-a")
    assert row is not None
    assert (row.first_seen_us, row.last_seen_us) == (T0_US, T0_US + 5 * S)
    assert (row.agent_version, row.config_version, row.machine) == ("1.0", "cfg", b"m" * 16)
    assert [r.id for r in catalog.gateways()] == ["gw-a", "gw-b"]


def test_a_name_that_no_gateway_can_have_is_unknown_and_no_outage(ready: Catalog) -> None:
    """PostgreSQL refuses a NUL in text, which must not look like a database that is gone."""
    for name in ("gw-z", "", "gw-a\0", "\0", "a" * 10_000, "\N{SNOWMAN}"):
        assert ready.gateway(name) is None


def test_hello_answers_in_its_own_order_and_asks_for_unknown_sets(ready: Catalog) -> None:
    commit(ready, entry((0, 5), epoch=9), entry((3, 4), epoch=8))
    answer = ready.hello(
        "gw-a", hello(EpochOffer(8, 4, RangeSet()), EpochOffer(9, 5, RangeSet()), sets=(1, SETS[0].id))
    )
    assert [list(c.stored) for c in answer.coverage] == [[(3, 4)], [(0, 5)]]
    assert answer.need_series == (1,)


def test_a_gateway_cannot_name_epochs_for_ever(ready: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hello_rows, "EPOCHS_PER_GATEWAY_MAX", 10)
    ten = [EpochOffer(100 + n, 0, RangeSet()) for n in range(10)]
    ready.hello("gw-c", hello(*ten))
    with pytest.raises(TooManyEpochs, match="gw-c would have 11 epochs, at most 10"):
        ready.hello("gw-c", hello(EpochOffer(200, 0, RangeSet()), ten[0]))
    ready.hello("gw-c", hello(*ten))
    ready.hello("gw-d", hello(*ten))
    assert len(ready.ledger("gw-c")) == 10


def test_series_sets_come_back_as_they_were(catalog: Catalog, reopen: Open) -> None:
    catalog.put_series_sets("gw-a", SETS)
    catalog.put_series_sets("gw-a", SETS[:1])
    assert sorted(s.id for s in catalog.series_sets("gw-a")) == sorted(s.id for s in SETS)
    assert set(reopen().series_sets("gw-a")) == set(SETS)


def test_a_set_that_hello_or_a_message_names_is_the_gateways_too(ready: Catalog, reopen: Open) -> None:
    ready.hello("gw-c", hello(sets=(SETS[0].id,)))
    commit(ready, entry((0, 5), gateway="gw-d", sets=SETS[1:]))
    assert ready.series_sets("gw-c") == [SETS[0]]
    assert ready.series_sets("gw-d") == [SETS[1]]
    assert reopen().series_sets("gw-d") == [SETS[1]]


def test_definitions_are_shared_by_content(catalog: Catalog) -> None:
    catalog.put_series_sets("gw-a", SETS[:1])
    assert catalog.definitions([1, SETS[0].id, SETS[1].id]) == [SETS[0]]
    assert catalog.definitions([]) == []


# -- exactly once ---------------------------------------------------------------------------------------------------


def test_a_new_message_is_stored_and_a_second_time_only_acknowledged(ready: Catalog) -> None:
    assert commit(ready, entry((0, 10))) == [Stored()]
    assert commit(ready, entry((0, 10))) == [AlreadyStored()]
    assert commit(ready, entry((2, 4))) == [AlreadyStored()]
    assert len(ready.messages("gw-a", [SETS[0].id], 0, 2**62)) == 1


def test_what_is_stored_survives_the_process(ready: Catalog, reopen: Open) -> None:
    commit(ready, entry((0, 10), (20, 30)))
    assert stored(reopen()) == [(0, 10), (20, 30)]


@pytest.mark.parametrize("ranges", [[(5, 15)], [(0, 10), (10, 20)], [(8, 9), (30, 40)], [(0, 100)]])
def test_a_partial_overlap_stores_nothing_and_tells_the_coverage(ready: Catalog, ranges: list[tuple[int, int]]) -> None:
    commit(ready, entry((0, 10)))
    [outcome] = commit(ready, entry(*ranges))
    assert isinstance(outcome, Overlaps)
    assert list(outcome.coverage.stored) == [(0, 10)]
    assert stored(ready) == [(0, 10)]


def test_entries_of_one_pack_see_each_other_in_order(ready: Catalog) -> None:
    outcomes = commit(ready, entry((0, 10)), entry((0, 10)), entry((5, 15)), entry((10, 20)))
    assert outcomes[:2] == [Stored(), AlreadyStored()]
    assert isinstance(outcomes[2], Overlaps)
    assert list(outcomes[2].coverage.stored) == [(0, 10)]
    assert outcomes[3] == Stored()
    assert stored(ready) == [(0, 20)]


def test_gateways_and_epochs_are_apart(ready: Catalog) -> None:
    assert commit(ready, entry((0, 10)), entry((0, 10), epoch=8), entry((0, 10), gateway="gw-b")) == [Stored()] * 3
    assert stored(ready, "gw-b") == [(0, 10)]
    assert stored(ready, "gw-b", 8) == []


def test_unknown_series_keep_nothing_until_they_are_known(catalog: Catalog) -> None:
    assert commit(catalog, entry((0, 10), sets=SETS)) == [UnknownSeries((SETS[0].id, SETS[1].id))]
    catalog.put_series_sets("gw-a", SETS[:1])
    assert commit(catalog, entry((0, 10), sets=SETS)) == [UnknownSeries((SETS[1].id,))]
    assert stored(catalog) == []
    catalog.put_series_sets("gw-a", SETS[1:])
    assert commit(catalog, entry((0, 10), sets=SETS)) == [Stored()]


def test_many_fragments_in_any_order(ready: Catalog) -> None:
    firsts = [((i * 73) % 200) * 10 for i in range(200)]
    for at in range(0, 200, 20):
        part = [entry((first, first + 9)) for first in firsts[at : at + 20]]
        assert commit(ready, *part) == [Stored()] * 20
    assert len(stored(ready)) == 200
    [outcome] = commit(ready, entry((985, 995)))
    assert isinstance(outcome, Overlaps)
    assert len(outcome.coverage.stored) == 200
    assert commit(ready, *(entry((first + 9, first + 10)) for first in reversed(firsts))) == [Stored()] * 200
    assert stored(ready) == [(0, 2000)]


# -- packs ----------------------------------------------------------------------------------------------------------


def test_tickets_never_repeat(ready: Catalog, reopen: Open) -> None:
    tickets = [ready.open_pack() for _ in range(600)]
    tickets += [(reopened := reopen()).open_pack(), reopened.open_pack()]
    assert len({t.pack_id for t in tickets}) == len({t.key for t in tickets}) == 602


def test_past_the_deadline_nothing_is_stored(ready: Catalog, clock: DialClock) -> None:
    in_time, late = ready.open_pack(), ready.open_pack()
    assert in_time.deadline_us == T0_US + COMMIT_DEADLINE_US
    clock.now_us = in_time.deadline_us - 1
    assert ready.commit_pack(in_time, 10, [entry((0, 5))]) == [Stored()]
    clock.now_us = late.deadline_us
    with pytest.raises(PackExpired):
        ready.commit_pack(late, 10, [entry((5, 9))])
    assert stored(ready) == [(0, 5)]


def test_a_pack_is_committed_once(ready: Catalog) -> None:
    ticket = ready.open_pack()
    ready.commit_pack(ticket, 10, [entry((0, 5))])
    with pytest.raises(Exception, match=r"(?i)unique|exist"):
        ready.commit_pack(ticket, 10, [entry((5, 9))])
    assert stored(ready) == [(0, 5)]


def test_an_empty_pack(ready: Catalog) -> None:
    assert commit(ready) == []


# -- time -----------------------------------------------------------------------------------------------------------


def test_messages_are_found_by_wall_clock_and_set(ready: Catalog) -> None:
    commit(
        ready,
        entry((0, 5), span=(20 * S, 29 * S)),
        entry((5, 9), span=(10 * S, 19 * S), sets=SETS, offset=200),
        entry((9, 12), span=(30 * S, 39 * S), sets=SETS[1:]),
        entry((0, 5), gateway="gw-b"),
    )
    one, two = SETS[0].id, SETS[1].id
    rows = ready.messages("gw-a", [one], T0_US, T0_US + 60 * S)
    assert [(r.t_min_us - T0_US) // S for r in rows] == [10, 20]
    assert (rows[0].offset, rows[0].length, rows[0].offset_us, rows[0].synchronised) == (200, 50, T0_US, True)
    assert rows[0].gateway == "gw-a"
    assert rows[0].pack_key == rows[1].pack_key
    assert len(ready.messages("gw-a", [one, two], T0_US, T0_US + 60 * S)) == 3
    assert [r.offset for r in ready.messages("gw-a", [two], T0_US, T0_US + 25 * S)] == [200]
    assert ready.messages("gw-a", [one], T0_US + 19 * S + 1, T0_US + 20 * S) == []  # half-open
    assert len(ready.messages("gw-a", [one], T0_US + 19 * S, T0_US + 20 * S)) == 1
    newest = max(r.id for r in rows)
    assert ready.messages("gw-a", [one], T0_US, T0_US + 60 * S, after_id=newest) == []
    assert ready.messages("gw-a", [], T0_US, T0_US + 60 * S) == []


def test_ids_grow_with_commits(ready: Catalog) -> None:
    for first in range(0, 50, 5):
        commit(ready, entry((first, first + 5), span=(1000 * S - first, 1000 * S - first)))
    rows = ready.messages("gw-a", [SETS[0].id], 0, 2**62)
    assert [r.id for r in rows] == sorted((r.id for r in rows), reverse=True)


def test_a_long_message_is_found_in_its_middle(ready: Catalog) -> None:
    commit(ready, entry((0, 5), span=(0, 86_400 * S)), entry((5, 9), span=(3600 * S, 3601 * S)))
    rows = ready.messages("gw-a", [SETS[0].id], T0_US + 40_000 * S, T0_US + 40_001 * S)
    assert [(r.t_min_us, r.t_max_us) for r in rows] == [(T0_US, T0_US + 86_400 * S)]


def test_a_trusted_anchor_dates_what_an_untrusted_one_had_dated(ready: Catalog) -> None:
    commit(ready, entry((0, 5), anchor=Anchor(9 * S, 9 * S + 77, False, 0)))
    assert ready.messages("gw-a", [SETS[0].id], 0, 60 * S)[0].synchronised is False
    commit(ready, entry((5, 9), anchor=TRUSTED))
    commit(ready, entry((9, 12), anchor=Anchor(50 * S, 50 * S + 88, False, 0)))
    rows = ready.messages("gw-a", [SETS[0].id], T0_US, T0_US + 60 * S)
    assert [(r.offset_us, r.synchronised) for r in rows] == [(T0_US, True)] * 3
    assert ready.messages("gw-a", [SETS[0].id], 0, 60 * S) == []
    [line] = ready.ledger("gw-a")
    assert (line.anchor, line.offset_version) == (TRUSTED, 2)


def test_of_two_trusted_anchors_the_later_look_wins_in_any_order(ready: Catalog) -> None:
    stepped = Anchor(100 * S, T0_US + 103 * S, True, 500)
    commit(ready, entry((10, 15), anchor=stepped))
    commit(ready, entry((0, 5), anchor=TRUSTED))
    assert ready.ledger("gw-a")[0].anchor == stepped
    commit(ready, entry((20, 25), anchor=Anchor(200 * S, T0_US + 203 * S + 10, True, 500)))
    assert ready.ledger("gw-a")[0].offset_version == 1  # 10 µs is no step


# -- what is gone ---------------------------------------------------------------------------------------------------


def test_taken_is_stored_and_tombstoned_and_pending(ready: Catalog) -> None:
    ready.hello("gw-a", hello(EpochOffer(7, 40, RangeSet([(0, 40)]), predecessor=6, predecessor_next_seq=12)))
    commit(ready, entry((0, 10), next_seq=50))
    ready.record_tombstones("gw-a", [lost(10, 20), lost(50, 50, LossReason.POWER_CUT, 33)])
    [line] = ready.ledger("gw-a")
    assert (line.epoch, line.predecessor) == (7, 6)
    assert (line.taken, line.stored, line.tombstoned, line.pending) == (50, 10, 10, 30)
    assert line.losses_without_seq == 33
    assert line.tombstones == (lost(10, 20), lost(50, 50, LossReason.POWER_CUT, 33))


def test_tombstones_are_idempotent_and_stored_wins(ready: Catalog) -> None:
    commit(ready, entry((0, 10)))
    for _ in range(2):
        ready.record_tombstones("gw-a", [lost(5, 15), lost(12, 20)])
    answer = ready.hello("gw-a", hello()).coverage[0]
    assert (list(answer.stored), list(answer.tombstoned)) == ([(0, 10)], [(10, 20)])
    assert commit(ready, entry((10, 14))) == [Stored()]  # found after all
    answer = ready.hello("gw-a", hello()).coverage[0]
    assert (list(answer.stored), list(answer.tombstoned)) == ([(0, 14)], [(14, 20)])
    ready.record_tombstones("gw-a", [lost(5, 15)])
    assert stored(ready) == [(0, 14)]
    assert len(ready.ledger("gw-a")[0].tombstones) == 2


def test_a_tombstone_told_again_keeps_the_larger_count(ready: Catalog) -> None:
    for count in (3, 8, 5):
        ready.record_tombstones("gw-a", [lost(10, 10, LossReason.POWER_CUT, count), lost(12, 20)])
    ready.record_tombstones("gw-a", [lost(10, 10, LossReason.POWER_CUT, 9), lost(10, 10, LossReason.POWER_CUT, 7)])
    (line,) = ready.ledger("gw-a")
    assert sorted(t.count for t in line.tombstones) == [8, 9]
    assert line.losses_without_seq == 9


def test_an_earlier_epochs_end_is_learnt_from_its_successor(ready: Catalog) -> None:
    ready.hello("gw-a", hello(EpochOffer(1, 10, RangeSet())))
    ready.hello("gw-a", hello(EpochOffer(1, 10, RangeSet()), EpochOffer(2, 3, RangeSet(), 1, 25)))
    assert [(line.epoch, line.taken) for line in ready.ledger("gw-a")] == [(1, 25), (2, 3)]


def test_numbers_to_the_edge(ready: Catalog) -> None:
    top = (1 << 63) - 1
    assert commit(ready, entry((top - 5, top), epoch=top)) == [Stored()]
    assert stored(ready, epoch=top) == [(top - 5, top)]


# -- alarms -----------------------------------------------------------------------------------------------------------

ALARM_EPOCH = 77


def change(phase: Phase, stamp_us: int, score: float, id_: int = 7, onset_us: int = 1_000_000) -> Alarm:
    return Alarm(
        id=id_,
        series="pump/vibration",
        rule="pump-anomaly",
        phase=phase,
        onset_us=onset_us,
        stamp_us=stamp_us,
        score=score,
        threshold=0.6,
        value=None if phase is Phase.CLEARED else 4.5,
        expected=None,
        low=None,
        high=2.5,
        unit="mm/s",
        severity=Severity.CRITICAL,
    )


def test_an_alarm_is_one_line_however_often_it_is_told(catalog: Catalog) -> None:
    told = [(ALARM_EPOCH, change(Phase.RAISED, 1_000_000, 0.7)), (ALARM_EPOCH, change(Phase.GREW, 3_000_000, 0.9))]
    catalog.record_alarms("gw-a", told[:1])
    catalog.record_alarms("gw-a", told)
    (row,) = catalog.alarms("gw-a", 0, 1 << 60, 100)
    assert (row.gateway, row.epoch, row.cleared_us, row.changed_us - row.onset_us) == (
        "gw-a",
        ALARM_EPOCH,
        None,
        2_000_000,
    )
    assert row.alarm == told[1][1]
    catalog.record_alarms("gw-a", [(ALARM_EPOCH, change(Phase.CLEARED, 9_000_000, 0.1))])
    (row,) = catalog.alarms("gw-a", 0, 1 << 60, 100)
    assert row.cleared_us == row.onset_us + 8_000_000
    assert row.alarm == told[1][1], "what it was about, not how it ended"


def test_alarms_by_gateway_and_time_newest_first(catalog: Catalog) -> None:
    for gateway, id_, onset_us in (("gw-a", 1, 1_000_000), ("gw-a", 2, 5_000_000), ("gw-b", 3, 3_000_000)):
        catalog.record_alarms(gateway, [(ALARM_EPOCH, change(Phase.RAISED, onset_us, 0.7, id_, onset_us))])
    assert [row.alarm.id for row in catalog.alarms(None, 0, 1 << 60, 100)] == [2, 3, 1]
    assert [row.alarm.id for row in catalog.alarms("gw-a", 0, 1 << 60, 100)] == [2, 1]
    assert [row.alarm.id for row in catalog.alarms(None, 2_000_000, 5_000_000, 100)] == [3]
    assert [row.alarm.id for row in catalog.alarms(None, 0, 1 << 60, 1)] == [2]
    assert catalog.alarms("gw-c", 0, 1 << 60, 100) == []


def test_active_alarms_are_counted_and_read_without_the_others(catalog: Catalog) -> None:
    assert catalog.active_alarms() == {}
    for gateway, id_, onset_us in (("gw-a", 1, 1_000_000), ("gw-a", 2, 5_000_000), ("gw-b", 2, 3_000_000)):
        catalog.record_alarms(gateway, [(ALARM_EPOCH, change(Phase.RAISED, onset_us, 0.7, id_, onset_us))])
    assert catalog.active_alarms() == {"gw-a": 2, "gw-b": 1}
    ended = change(Phase.CLEARED, 9_000_000, 0.1, 2, 5_000_000)
    catalog.record_alarms("gw-a", [(ALARM_EPOCH + 1, ended)])  # in the next epoch, as after a restart
    assert catalog.active_alarms() == {"gw-a": 1, "gw-b": 1}
    assert [row.alarm.id for row in catalog.alarms("gw-a", 0, 1 << 60, 1, active=True)] == [1], (
        "only what lasts is read"
    )
    assert [row.gateway for row in catalog.alarms(None, 0, 1 << 60, 9, active=True)] == ["gw-b", "gw-a"]
    assert catalog.alarms("gw-a", 2_000_000, 1 << 60, 9, active=True) == []


def test_an_alarm_that_ended_stays_ended_in_whatever_order_its_changes_come(catalog: Catalog) -> None:
    told = [(ALARM_EPOCH, change(phase, (3 - at) * 1_000_000, 0.7)) for at, phase in enumerate(reversed(Phase))]
    catalog.record_alarms("gw-a", told[:1])
    assert told[0][1].phase is Phase.CLEARED
    catalog.record_alarms("gw-a", told)
    assert catalog.active_alarms() == {}
    assert catalog.alarms("gw-a", 0, 1 << 60, 9, active=True) == []
