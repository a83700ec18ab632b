"""What every catalog must say of losses: gaps, how an epoch ended, clones, and the fleet in sum."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cloud_sync.catalog.catalog import Account, Catalog, EpochEnd, Gap
from cloud_sync.catalog.sql_catalog import SqlCatalog
from tests.conformance.catalogs import T0_US, DialClock, S, commit, entry, hello, lost
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone
from wire.sync.frames import EpochOffer, Hello


def offer(
    epoch: int, next_seq: int, *held: tuple[int, int], given_up: tuple[tuple[int, int], ...] = (), before: int = 0
) -> EpochOffer:
    return EpochOffer(epoch, next_seq, RangeSet(held), before, None, RangeSet(given_up))


def seen(catalog: Catalog, *offers: EpochOffer, machine: bytes = b"m" * 16) -> Hello:
    """A Hello of a gateway that has met this cloud."""
    return replace(hello(*offers), generation_seen=catalog.generation(), machine=machine)


def gaps(catalog: Catalog) -> dict[int, list[tuple[int, int]]]:
    return {line.epoch: [(g.first, g.end) for g in line.gaps] for line in catalog.ledger("gw-a") if line.gaps}


def test_what_is_offered_given_up_stored_or_still_to_come_is_no_gap(ready: Catalog) -> None:
    ready.hello("gw-a", seen(ready, offer(7, 40, (10, 30), given_up=((30, 40),))))
    assert gaps(ready) == {7: [(0, 10)]}
    commit(ready, entry((0, 10), next_seq=90))  # and tells of 50 more, taken since Hello
    assert gaps(ready) == {}
    ready.hello("gw-a", seen(ready, offer(7, 90, (10, 30), (40, 90), given_up=((30, 40),))))
    assert gaps(ready) == {}
    assert ready.accounts()["gw-a"] == Account("gw-a", 1, 90, 10, 0, 0, 0, 1)


def test_a_gap_is_noticed_once_and_closes_when_the_range_turns_up(ready: Catalog, clock: DialClock) -> None:
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 40))))
    clock.now_us += 60 * S
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 10), (20, 30))))
    clock.now_us += 60 * S
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 5), (20, 30))))
    [line] = ready.ledger("gw-a")
    assert line.gaps == (Gap(5, 10, T0_US + 120 * S), Gap(10, 20, T0_US + 60 * S), Gap(30, 40, T0_US + 60 * S))
    assert (line.gap, line.pending) == (25, 40)
    assert ready.accounts("gw-a")["gw-a"].gap == 25
    commit(ready, entry((10, 20)))
    ready.record_tombstones("gw-a", [lost(30, 35)])
    assert gaps(ready) == {7: [(5, 10), (35, 40)]}
    [line] = ready.ledger("gw-a")
    assert (line.taken, line.stored, line.tombstoned, line.pending) == (40, 10, 5, 25)
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 40))))  # found on the card after all
    assert gaps(ready) == {}


def test_to_a_gateway_that_has_not_met_this_generation_welcome_is_news(ready: Catalog) -> None:
    ready.hello("gw-a", replace(seen(ready, offer(7, 40, (30, 40))), generation_seen=12345))
    assert gaps(ready) == {}
    ready.hello("gw-a", seen(ready, offer(7, 40, (30, 40), given_up=((0, 20),))))
    assert gaps(ready) == {7: [(20, 30)]}


def test_a_wiped_card_leaves_what_was_not_stored_as_a_gap(ready: Catalog) -> None:
    ready.hello("gw-a", seen(ready, offer(6, 10), offer(7, 40, (0, 40), before=6)))
    commit(ready, entry((0, 25), next_seq=50), entry((0, 10), epoch=6))
    ready.hello("gw-a", seen(ready, offer(8, 0)))
    assert gaps(ready) == {7: [(25, 50)]}
    ends = {line.epoch: line.end for line in ready.ledger("gw-a")}
    assert ends == {6: EpochEnd.UNKNOWN, 7: EpochEnd.UNKNOWN, 8: EpochEnd.OPEN}


def test_an_older_image_offers_less_than_the_cloud_was_told_of(ready: Catalog) -> None:
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 40))))
    commit(ready, entry((0, 50), next_seq=70))
    ready.hello("gw-a", seen(ready, offer(7, 40, (20, 40)), EpochOffer(8, 0, RangeSet(), 7, 40)))
    assert gaps(ready) == {7: [(50, 70)]}
    assert [line.end for line in ready.ledger("gw-a")] == [EpochEnd.UNKNOWN, EpochEnd.OPEN]


def test_an_epochs_end_is_known_or_not(ready: Catalog) -> None:
    ready.hello("gw-a", seen(ready, offer(1, 10), EpochOffer(2, 5, RangeSet(), 1, None)))
    assert [(line.end, line.predecessor_next_seq) for line in ready.ledger("gw-a")] == [
        (EpochEnd.UNKNOWN, None),
        (EpochEnd.OPEN, None),
    ]
    ready.hello("gw-a", seen(ready, EpochOffer(2, 5, RangeSet(), 1, None), EpochOffer(3, 0, RangeSet(), 2, 9)))
    lines = ready.ledger("gw-a")
    assert [line.end for line in lines] == [EpochEnd.UNKNOWN, EpochEnd.KNOWN, EpochEnd.OPEN]
    assert (lines[1].taken, lines[2].predecessor_next_seq) == (9, 9)


def test_a_clone_is_told_and_answers_for_its_own(ready: Catalog, clock: DialClock) -> None:
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 40))))
    assert not ready.accounts()["gw-a"].is_cloned
    assert not ready.is_cloned("gw-a")
    clock.now_us += S
    clone = seen(ready, offer(7, 40, (0, 20)), offer(8, 0, before=7), machine=b"clone")
    ready.hello("gw-a", clone)
    assert gaps(ready) == {}, "what the clone does not have the original still offers"
    assert ready.accounts()["gw-a"].is_cloned
    assert ready.is_cloned("gw-a")
    assert not ready.is_cloned("gw-b")
    assert [(m.machine, m.epoch, m.first_seen_us, m.retired) for m in ready.machines("gw-a")] == [
        (b"m" * 16, 7, T0_US, False),
        (b"clone", 8, T0_US + S, False),
    ]
    assert {line.end for line in ready.ledger("gw-a")} == {EpochEnd.OPEN}
    assert ready.retire_machine("gw-a", b"m" * 16)
    assert not ready.retire_machine("gw-a", b"m" * 16)
    assert not ready.retire_machine("gw-a", b"nobody")
    assert isinstance(ready, SqlCatalog)
    assert [(row.action, row.subject, row.detail) for row in ready.audit.rows(9)] == [
        ("machine.retire", "gw-a", (b"m" * 16).hex())
    ]
    assert not ready.accounts()["gw-a"].is_cloned
    assert not ready.is_cloned("gw-a")
    assert gaps(ready) == {7: [(20, 40)]}, "only the retired machine had it"
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 40))))
    assert (gaps(ready), ready.accounts()["gw-a"].machines) == ({}, 2)


def test_the_fleet_in_sum(ready: Catalog) -> None:
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 40)), offer(8, 6, (0, 3), before=7)))
    commit(ready, entry((0, 10)), entry((0, 4), gateway="gw-b"), entry((4, 8), gateway="gw-b"))
    stones = [lost(5, 20), lost(18, 25), lost(40, 40, LossReason.POWER_CUT, 33), Tombstone(8, 6, 6, LossReason.HOLE, 2)]
    for _ in range(2):
        ready.record_tombstones("gw-a", stones)
    ready.record_tombstones("gw-a", [lost(40, 40, LossReason.POWER_CUT, 30)])
    assert ready.accounts() == {
        "gw-a": Account("gw-a", 2, 46, 10, 15, 35, 3, 1),
        "gw-b": Account("gw-b", 1, 8, 8, 0, 0, 0, 0),
    }
    account = ready.accounts("gw-a")["gw-a"]
    assert (account.pending, account.lost) == (21, 53)
    lines = ready.ledger("gw-a")
    assert sum(line.stored for line in lines) == account.stored
    assert sum(line.tombstoned for line in lines) == account.tombstoned
    assert sum(line.losses_without_seq for line in lines) == account.losses_without_seq
    assert ready.accounts("gw-c") == {}


@pytest.mark.parametrize("held", [(), ((0, 40),)])
def test_more_epochs_than_a_hello_can_name_raise_no_alarm(
    ready: Catalog, held: tuple[tuple[int, int], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_sync.catalog.hello_rows.EPOCHS_MAX", 2)
    ready.hello("gw-a", seen(ready, offer(7, 40, (0, 40))))
    ready.hello("gw-a", seen(ready, offer(7, 40, *held), offer(8, 0)))
    assert gaps(ready) == {}
