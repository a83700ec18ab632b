"""What became of every Seq that a gateway has given: taken = stored + tombstoned + pending."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import coverage_rows, gap_rows
from cloud_sync.catalog.catalog import Account, EpochEnd, EpochLedger, Gap
from cloud_sync.catalog.epoch_rows import epoch_row
from cloud_sync.catalog.schema import epoch, gateway, machine, tombstone
from wire.coverage import Coverage
from wire.reading import LossReason, Tombstone

_EpochRow = sa.Row[tuple[object, ...]]

_epochs = sa.select(epoch).where(epoch.c.gateway == sa.bindparam("gateway")).order_by(epoch.c.id)
_tombstones = (
    sa.select(
        tombstone.c.first,
        tombstone.c.end,
        tombstone.c.reason,
        tombstone.c.count,
        tombstone.c.span_first_us,
        tombstone.c.span_last_us,
    )
    .where(tombstone.c.epoch_id == sa.bindparam("epoch_id"))
    .order_by(tombstone.c.first, tombstone.c.end, tombstone.c.reason)
)
_current = sa.select(machine.c.epoch_id).where(machine.c.gateway == sa.bindparam("gateway"), sa.not_(machine.c.retired))
_machines = sa.select(sa.func.count()).where(machine.c.gateway == gateway.c.id, sa.not_(machine.c.retired))
_sums = (
    sa.select(
        gateway.c.id,
        sa.func.count(epoch.c.id),
        *(
            sa.func.coalesce(sa.func.sum(column), 0)
            for column in (epoch.c.next_seq, epoch.c.stored, epoch.c.tombstoned, epoch.c.unnumbered)
        ),
        _machines.scalar_subquery(),
    )
    .outerjoin(epoch, epoch.c.gateway == gateway.c.id)
    .group_by(gateway.c.id)
    .order_by(gateway.c.id)
)
_sums_of_gateway = _sums.where(gateway.c.id == sa.bindparam("gateway"))
_owners = sa.select(epoch.c.id, epoch.c.gateway).where(epoch.c.id.in_(sa.bindparam("ids", expanding=True)))


def ledger(connection: Connection, gateway_id: str) -> list[EpochLedger]:
    """See `Catalog.ledger`."""
    rows = list(connection.execute(_epochs, {"gateway": gateway_id}))
    coverages = coverage_rows.load_whole(connection, [row.id for row in rows])
    gaps = gap_rows.of_epochs(connection, gateway_id)
    ends = _ends(rows, set(connection.execute(_current, {"gateway": gateway_id}).scalars()))
    return [_line(connection, row, coverages[row.id], gaps.get(row.id, ()), ends[row.id]) for row in rows]


def _ends(rows: Sequence[_EpochRow], current: set[int]) -> dict[int, EpochEnd]:
    """By row id. An epoch ends where another names it as its predecessor, or where no machine calls it current.

    A successor that tells of less than the catalog knows was not there at the end: it began from an older copy.
    """
    told = {(row.predecessor, row.predecessor_next_seq) for row in rows}
    ends = {}
    for row in rows:
        is_open = row.id in current or (not current and row is rows[-1])
        known = EpochEnd.KNOWN if (row.epoch, row.next_seq) in told else EpochEnd.UNKNOWN
        ends[row.id] = EpochEnd.OPEN if is_open else known
    return ends


def _line(
    connection: Connection, row: _EpochRow, coverage: Coverage, gaps: Sequence[Gap], end: EpochEnd
) -> EpochLedger:
    tombstones = tuple(
        Tombstone(row.epoch, first, stone_end, LossReason(reason), *rest)
        for first, stone_end, reason, *rest in connection.execute(_tombstones, {"epoch_id": row.id})
    )
    taken = max(row.next_seq, coverage.end)
    stored, tombstoned = coverage.stored.count, coverage.tombstoned.count
    in_force = epoch_row(row)
    return EpochLedger(
        row.epoch,
        row.predecessor,
        row.predecessor_next_seq,
        end,
        taken,
        stored,
        tombstoned,
        taken - stored - tombstoned,
        row.unnumbered,
        tombstones,
        gap_rows.still_open(gaps, coverage),
        in_force.anchor,
        in_force.offset_version,
    )


def accounts(connection: Connection, gateway_id: str | None) -> dict[str, Account]:
    """See `Catalog.accounts`. One statement, whatever the number of epochs; coverage is read where there are gaps."""
    gaps = gap_rows.of_epochs(connection, gateway_id)
    coverages = coverage_rows.load_whole(connection, list(gaps))
    owners = {row.id: row.gateway for row in connection.execute(_owners, {"ids": list(gaps)})} if gaps else {}
    missing: dict[str, int] = {}
    for row_id, found in gaps.items():
        count = sum(each.count for each in gap_rows.still_open(found, coverages[row_id]))
        missing[owners[row_id]] = missing.get(owners[row_id], 0) + count
    rows = connection.execute(_sums_of_gateway, {"gateway": gateway_id}) if gateway_id else connection.execute(_sums)
    return {
        name: Account(name, epochs, int(taken), int(stored), int(given_up), int(lost), missing.get(name, 0), machines)
        for name, epochs, taken, stored, given_up, lost, machines in rows
    }
