"""Gaps: Seq that the cloud knows were given, that nobody has stored or given up, and that no machine says it holds.

Decided at each Hello, from what it and the latest Hellos of the gateway's other machines answer for. A gap closes by
itself once coverage has the range: rows are a claim as of their Hello, and readers subtract what has come since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import coverage_rows
from cloud_sync.catalog.catalog import Gap
from cloud_sync.catalog.database_clock import database_time
from cloud_sync.catalog.schema import claim, epoch, gap, machine
from wire.coverage import Coverage
from wire.ranges import SEQ_MAX, RangeSet
from wire.sync.frames import Hello

_Row = tuple[int, int, int, int]  # epoch_id, first, end, since_us

_open = sa.select(epoch.c.id, epoch.c.next_seq).where(
    epoch.c.gateway == sa.bindparam("gateway"), epoch.c.next_seq > epoch.c.stored + epoch.c.tombstoned
)
_own_claims = sa.select(claim.c.epoch_id, claim.c.first, claim.c.end).where(
    claim.c.gateway == sa.bindparam("gateway"), claim.c.machine == sa.bindparam("machine")
)
_claims = (
    sa.select(claim.c.epoch_id, claim.c.first, claim.c.end)
    .join(machine, sa.and_(machine.c.gateway == claim.c.gateway, machine.c.machine == claim.c.machine))
    .where(claim.c.gateway == sa.bindparam("gateway"), sa.not_(machine.c.retired))
)
_drop_claim = claim.delete().where(
    claim.c.gateway == sa.bindparam("b_gateway"),
    claim.c.machine == sa.bindparam("b_machine"),
    claim.c.epoch_id == sa.bindparam("b_epoch_id"),
    claim.c.first == sa.bindparam("b_first"),
)
_gaps = sa.select(gap.c.epoch_id, gap.c.first, gap.c.end, gap.c.since_us).join(epoch, epoch.c.id == gap.c.epoch_id)
_gaps_of_gateway = _gaps.where(epoch.c.gateway == sa.bindparam("gateway"))
_drop_gap = gap.delete().where(gap.c.epoch_id == sa.bindparam("b_epoch_id"), gap.c.first == sa.bindparam("b_first"))


def answered_for(hello: Hello, generation: int) -> list[RangeSet]:
    """What a Hello accounts for, by epoch in its order.

    What it holds and what it is about to give up; of the current epoch also what it gives out from now on. To a
    gateway that has not met this generation of the cloud, Welcome is news: it then tells what is gone.
    """
    claims = []
    for offer in hello.epochs:
        ranges = offer.offered | offer.given_up
        if hello.generation_seen != generation:
            ranges.add(0, offer.next_seq)
        claims.append(ranges)
    claims[-1].add(hello.epochs[-1].next_seq, SEQ_MAX)
    return claims


def save_claims(connection: Connection, gateway: str, name: bytes, claims: Mapping[int, RangeSet]) -> None:
    """This machine answers for these ranges, by epoch row, and for nothing else any more."""
    before = {tuple(row) for row in connection.execute(_own_claims, {"gateway": gateway, "machine": name})}
    after = {(epoch_id, first, end) for epoch_id, ranges in claims.items() for first, end in ranges}
    own = {"b_gateway": gateway, "b_machine": name}
    gone = [{**own, "b_epoch_id": epoch_id, "b_first": first} for epoch_id, first, _ in before - after]
    new = [
        {"gateway": gateway, "machine": name, "epoch_id": epoch_id, "first": first, "end": end}
        for epoch_id, first, end in after - before
    ]
    if gone:
        connection.execute(_drop_claim, gone)
    if new:
        connection.execute(claim.insert(), new)


def decide(connection: Connection, gateway: str, known: Mapping[int, Coverage]) -> tuple[int, int]:
    """Write the gaps of this gateway anew; `known` is coverage that was read already. Returns Seq before and now.

    A range that was a gap before keeps its time.
    """
    next_seq = {row.id: row.next_seq for row in connection.execute(_open, {"gateway": gateway})}
    before: set[_Row] = {tuple(row) for row in connection.execute(_gaps_of_gateway, {"gateway": gateway})}
    if not next_seq and not before:
        return 0, 0
    missing = [row_id for row_id in next_seq if row_id not in known]
    coverages = {**known, **coverage_rows.load_whole(connection, missing)}
    rest = {row_id: RangeSet([(0, end)]) - _settled(coverages[row_id]) for row_id, end in next_seq.items()}
    for row_id, first, end in connection.execute(_claims, {"gateway": gateway}):
        if row_id in rest:
            rest[row_id].discard(first, end)
    after = _keep_times(before, rest, database_time(connection))
    gone = [{"b_epoch_id": row_id, "b_first": first} for row_id, first, _, _ in before - after]
    new = [
        {"epoch_id": row_id, "first": first, "end": end, "since_us": since_us}
        for row_id, first, end, since_us in after - before
    ]
    if gone:
        connection.execute(_drop_gap, gone)
    if new:
        connection.execute(gap.insert(), new)
    return sum(end - first for _, first, end, _ in before), sum(end - first for _, first, end, _ in after)


def _keep_times(before: set[_Row], rest: Mapping[int, RangeSet], now: int) -> set[_Row]:
    """Rows for the ranges in `rest`, cut where a part was a gap earlier."""
    after: set[_Row] = set()
    fresh = {row_id: ranges.copy() for row_id, ranges in rest.items()}
    for row_id, first, end, since_us in before:
        for kept in rest.get(row_id, RangeSet()) & RangeSet([(first, end)]):
            after.add((row_id, *kept, since_us))
            fresh[row_id].discard(*kept)
    return after | {(row_id, first, end, now) for row_id, ranges in fresh.items() for first, end in ranges}


def _settled(coverage: Coverage) -> RangeSet:
    return coverage.stored | coverage.tombstoned


def of_epochs(connection: Connection, gateway: str | None) -> dict[int, list[Gap]]:
    """Rows by epoch row, of one gateway or of all (None), as they were decided: see `still_open`."""
    found: dict[int, list[Gap]] = {}
    rows = connection.execute(_gaps_of_gateway, {"gateway": gateway}) if gateway else connection.execute(_gaps)
    for row_id, first, end, since_us in rows:
        found.setdefault(row_id, []).append(Gap(first, end, since_us))
    return found


def still_open(gaps: Sequence[Gap], coverage: Coverage) -> tuple[Gap, ...]:
    """What coverage does not have yet, in Seq order."""
    settled = _settled(coverage)
    return tuple(
        sorted(
            Gap(first, end, each.since_us)
            for each in gaps
            for first, end in RangeSet([(each.first, each.end)]) - settled
        )
    )
