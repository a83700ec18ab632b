"""What became of every Seq that a gateway has given: taken = stored + tombstoned + pending."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import coverage_rows
from cloud_sync.catalog.catalog import EpochLedger
from cloud_sync.catalog.epoch_rows import epoch_row
from cloud_sync.catalog.schema import epoch, tombstone
from wire.coverage import Coverage
from wire.reading import LossReason, Tombstone

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


def ledger(connection: Connection, gateway: str) -> list[EpochLedger]:
    """See `Catalog.ledger`."""
    rows = list(connection.execute(_epochs, {"gateway": gateway}))
    coverages = coverage_rows.load_whole(connection, [row.id for row in rows])
    return [_line(connection, row, coverages[row.id]) for row in rows]


def _line(connection: Connection, row: sa.Row[tuple[object, ...]], coverage: Coverage) -> EpochLedger:
    tombstones = tuple(
        Tombstone(row.epoch, first, end, LossReason(reason), *rest)
        for first, end, reason, *rest in connection.execute(_tombstones, {"epoch_id": row.id})
    )
    taken = max(row.next_seq, coverage.end)
    stored, tombstoned = coverage.stored.count, coverage.tombstoned.count
    in_force = epoch_row(row)
    return EpochLedger(
        row.epoch,
        row.predecessor,
        taken,
        stored,
        tombstoned,
        taken - stored - tombstoned,
        sum(t.count for t in tombstones if t.first == t.end),
        tombstones,
        in_force.anchor,
        in_force.offset_version,
    )
