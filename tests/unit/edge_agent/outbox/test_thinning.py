"""Thinning: the oldest readings become roll-ups before anything goes, and every Seq is accounted for all the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.outbox.keys import ROLLUP_SLOT
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.outbox.parts import EVERYTHING, Gateway, noise, series_set, waiting
from wire.codec import decode
from wire.ranges import RangeSet
from wire.reading import Kind, LossReason, Priority, Tick
from wire.rollup import roll_up, rollup_columns
from wire.sync.outbox_view import StoredAtom

KIB = 1024
NORMAL, LOW, ALARM = series_set(10, "normal"), series_set(10, "low"), series_set(10, "alarm")
BUDGET = 1024 * KIB
OPTIONS = OutboxOptions(journal_bytes=256 * KIB, wal_bytes=256 * KIB, bytes_max=BUDGET)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path, OPTIONS)


def start(gateway: Gateway) -> Recorder:
    recorder = gateway.start(NORMAL)
    recorder.register(LOW, Priority.LOW)
    recorder.register(ALARM, Priority.ALARM)
    return recorder


def commit(
    gateway: Gateway, recorder: Recorder, count: int, *sets: int, seed: int = 0, ticks: int = 40, step_s: int = 5
) -> list[Tick]:
    """So many commits of `ticks` of each set, `step_s` apart; an atom of each class, about 3.3 kB."""
    taken: list[Tick] = []
    for at in range(count):
        gateway.clock.sleep(step_s)
        stamp = gateway.clock.boottime // 10**6
        for place, each in enumerate((NORMAL, LOW, ALARM)):
            if place in sets:
                batch = noise(each, ticks, 10_000 * seed + 3 * at + place)
                taken += [
                    replace(tick, stamp=stamp - 1000 * step_s + 1000 * step_s // ticks * tick.stamp) for tick in batch
                ]
        recorder.take(sorted(taken[-ticks * len(sets) :], key=lambda tick: tick.stamp))
        recorder.commit()
        assert recorder.stats().disk_bytes <= BUDGET
    return taken


def kinds(atoms: list[StoredAtom]) -> dict[Kind, RangeSet]:
    found: dict[Kind, RangeSet] = {kind: RangeSet() for kind in Kind}
    for atom in atoms:
        found[decode(atom.data).kind].add(atom.first, atom.end)
    return found


def stones(recorder: Recorder, reason: LossReason) -> RangeSet:
    found = recorder.view().tombstones(100_000)
    return RangeSet((stone.first, stone.end) for stone in found if stone.reason is reason)


def test_the_oldest_become_roll_ups_that_say_what_was_read(gateway: Gateway) -> None:
    recorder = start(gateway)
    taken = commit(gateway, recorder, 150, 0)
    atoms = waiting(recorder.view())
    by_kind = kinds(atoms)
    thinned, raw = by_kind[Kind.ROLLUP_1], by_kind[Kind.RAW]
    assert thinned
    assert list(thinned | raw) == [(0, 60_000)]
    assert thinned.end <= next(iter(raw))[0]
    assert stones(recorder, LossReason.THINNED) == thinned
    stats = recorder.stats()
    assert stats.losses == {LossReason.THINNED: thinned.count}
    assert stats.cells == raw.count
    assert 0 < stats.rollup_bytes <= stats.bytes / 2
    oldest = decode(next(atom.data for atom in atoms if atom.first == 0))
    columns = rollup_columns(oldest.blocks[0])
    whole = np.array([tick.raw for tick in taken[: oldest.count // 10]])
    stamps = np.array([tick.stamp for tick in taken[: oldest.count // 10]]) // 60_000
    for at, minute in enumerate(np.unique(stamps)):
        rows = whole[stamps == minute]
        assert [int(column[at]) for column in columns.lows] == rows.min(axis=0).tolist()
        assert [int(column[at]) for column in columns.highs] == rows.max(axis=0).tolist()
        assert {int(column[at]) for column in columns.counts} == {len(rows)}


def test_low_before_normal_and_alarms_never(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 26, 0, 1, 2)
    atoms = waiting(recorder.view())
    recorder._requests.lend(1, RangeSet())  # looking is no sending
    rolled = [decode(atom.data) for atom in atoms if decode(atom.data).kind is Kind.ROLLUP_1]
    assert rolled
    assert {segment.priority for segment in rolled} == {Priority.LOW}
    commit(gateway, recorder, 20, 0, 2, seed=1)
    atoms = waiting(recorder.view())
    raw = [decode(atom.data).priority for atom in atoms if decode(atom.data).kind is Kind.RAW]
    assert raw.count(Priority.ALARM) == 46
    assert Priority.LOW not in raw
    rolled = [decode(atom.data) for atom in atoms if decode(atom.data).kind is Kind.ROLLUP_1]
    assert {segment.priority for segment in rolled} == {Priority.LOW, Priority.NORMAL}


def test_roll_ups_go_once_they_are_half_of_what_waits(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 500, 0, ticks=16, step_s=60)
    stats = recorder.stats()
    by_kind = kinds(waiting(recorder.view()))
    assert stats.rollup_bytes < 0.6 * stats.bytes
    assert by_kind[Kind.RAW].end == 500 * 160
    evicted, thinned = stones(recorder, LossReason.EVICTED), stones(recorder, LossReason.THINNED)
    assert evicted
    assert not evicted - thinned  # what went had been thinned before
    assert thinned - evicted == by_kind[Kind.ROLLUP_1]
    assert stats.losses == {LossReason.THINNED: (thinned - evicted).count, LossReason.EVICTED: evicted.count}
    assert evicted.end <= next(iter(by_kind[Kind.ROLLUP_1]))[0]


def test_what_is_under_way_stays_as_it_is(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 10, 0)
    view = recorder.view()
    under_way = view.pending(recorder.epoch, *EVERYTHING, None, RangeSet(), 20 * KIB)
    commit(gateway, recorder, 120, 0, seed=1)
    atoms = {atom.first: atom.data for atom in waiting(view)}
    assert {atom.first: atom.data for atom in under_way}.items() <= atoms.items()
    assert kinds(waiting(view))[Kind.ROLLUP_1]


def test_an_acknowledged_roll_up_is_gone_and_one_that_was_refused_is_told(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 150, 0)
    view = recorder.view()
    first, second = [atom for atom in waiting(view) if decode(atom.data).kind is Kind.ROLLUP_1][:2]
    assert (first.priority, second.priority) == (Priority.LOW, Priority.LOW)  # their lane: they go last
    thinned = recorder.stats().losses[LossReason.THINNED]
    view.acked(first.epoch, RangeSet([(first.first, first.end)]))
    view.set_aside(second.epoch, second.first, "refused")
    recorder.commit()
    assert not {first.first, second.first} & {atom.first for atom in waiting(view)}
    assert recorder.stats().losses == {
        LossReason.THINNED: thinned - second.count,
        LossReason.CORRUPT: second.count,
    }
    assert (second.first, second.end) in stones(recorder, LossReason.CORRUPT)


def test_what_saves_little_goes_at_once(gateway: Gateway) -> None:
    """Classes that alternate leave atoms without a neighbour, and a tick a minute is its own roll-up."""
    recorder = start(gateway)
    for at in range(750):
        gateway.clock.sleep(60)
        stamp = gateway.clock.boottime // 10**6
        recorder.take([replace(noise(each, 1, at)[0], stamp=stamp) for each in (NORMAL, LOW)])
        recorder.commit()
        assert recorder.stats().disk_bytes <= BUDGET
    assert set(recorder.stats().losses) == {LossReason.EVICTED}
    assert not kinds(waiting(recorder.view()))[Kind.ROLLUP_1]


def test_a_damaged_atom_is_no_part_of_a_roll_up(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 50, 0)
    database = recorder._outbox.database
    with database.transaction() as connection:
        connection.execute("UPDATE atoms SET data = zeroblob(3000) WHERE id & ((1 << 42) - 1) = 4000")
    commit(gateway, recorder, 120, 0, seed=1)
    assert list(stones(recorder, LossReason.EVICTED)) == [(4000, 4400 + 15 * 400)]
    assert (0, 4000) in stones(recorder, LossReason.THINNED)


def test_another_anchor_begins_another_roll_up(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 30, 0)
    gateway.clock.offset += 3600 * 10**9
    commit(gateway, recorder, 120, 0, seed=1)
    rolled = [decode(atom.data) for atom in waiting(recorder.view()) if decode(atom.data).kind is Kind.ROLLUP_1]
    ends = [segment.atoms[0].end for segment in rolled]
    assert 12_000 in ends
    assert len({segment.anchor for segment in rolled}) == 2


def test_roll_ups_survive_a_restart_a_renumbering_and_a_salvage(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 150, 0)
    before = [atom.data for atom in waiting(recorder.view())]
    stats = recorder.stats()
    gateway.kill()
    recorder = start(gateway)
    assert [atom.data for atom in waiting(recorder.view())] == before
    assert (recorder.stats().rollup_bytes, recorder.stats().losses) == (stats.rollup_bytes, stats.losses)
    gateway.kill()
    content = bytearray(gateway.database.read_bytes())
    content[0:100] = bytes(100)
    gateway.database.write_bytes(content)
    recorder = start(gateway)
    assert sorted(atom.data for atom in waiting(recorder.view())) == sorted(before)
    assert recorder.stats().rollup_bytes == stats.rollup_bytes


def test_renumbered_roll_ups_are_thinned_in_their_new_epoch_too(gateway: Gateway) -> None:
    recorder = start(gateway)
    commit(gateway, recorder, 150, 0)
    before = kinds(waiting(recorder.view()))
    losses = recorder.stats().losses
    view = recorder.view()
    view.begin_epoch(RangeSet([(0, 70_000)]))
    after = kinds(waiting(view))
    assert after == before
    told = [stone for stone in view.tombstones(10_000) if stone.epoch == recorder.epoch]
    assert RangeSet((stone.first, stone.end) for stone in told) == after[Kind.ROLLUP_1]
    assert recorder.stats().losses == losses
    assert ROLLUP_SLOT == 3


def test_the_thinned_are_the_atoms_they_were(gateway: Gateway) -> None:
    """A roll-up of the outbox is `wire.rollup` of the atoms that were there."""
    recorder = start(gateway)
    raw: dict[int, bytes] = {}
    for part in range(30):
        commit(gateway, recorder, 5, 0, seed=part)
        rows = recorder._outbox.database.connection.execute("SELECT id, data FROM atoms WHERE id >> 42 & 3 = 1")
        raw |= {atom_id & (1 << 42) - 1: data for atom_id, data in rows}
    rolled = [decode(atom.data) for atom in waiting(recorder.view()) if decode(atom.data).kind is Kind.ROLLUP_1]
    assert rolled
    for segment in rolled:
        first, end = segment.atoms[0].first, segment.atoms[0].end
        whole = roll_up([decode(raw[at]) for at in range(first, end, 400)])
        assert whole is not None
        assert whole.atoms == segment.atoms
        for ours, theirs in zip(whole.blocks[0].columns, segment.blocks[0].columns, strict=True):
            assert ours.tolist() == theirs.tolist()
