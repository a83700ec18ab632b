"""What gateways gave up, and why."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from cloud_sync.catalog import coverage_rows, epoch_rows
from cloud_sync.catalog.database import Database
from cloud_sync.catalog.schema import epoch, tombstone
from wire.ranges import SEQ_MAX
from wire.reading import Tombstone

_lost = sa.select(sa.func.coalesce(sa.func.sum(tombstone.c["count"]), 0)).where(
    tombstone.c.epoch_id == epoch.c.id, tombstone.c.first == tombstone.c.end
)
recount = epoch.update().values(unnumbered=_lost.scalar_subquery())
_recount = recount.where(epoch.c.id == sa.bindparam("b_id"))


def record_tombstones(database: Database, gateway: str, tombstones: Sequence[Tombstone]) -> None:
    """See `Catalog.record_tombstones`. Of one key the largest count stays: a gateway adds to it while it waits."""
    with database.write() as connection:
        names = list(dict.fromkeys((gateway, t.epoch) for t in tombstones))
        rows = epoch_rows.lock_epochs(database, connection, names)
        windows = {row.id: (SEQ_MAX, 0) for row in rows.values()}
        for t in tombstones:
            row_id = rows[gateway, t.epoch].id
            low, high = windows[row_id]
            windows[row_id] = (min(low, t.first), max(high, t.end))
        coverage = coverage_rows.load(connection, {row.id: row.fragments for row in rows.values()}, windows)
        for t in tombstones:
            row = rows[gateway, t.epoch]
            coverage[row.id].coverage.tombstone(t.first, t.end)
            row.next_seq = max(row.next_seq, t.end)
        growth = coverage_rows.save(connection, coverage)
        for row in rows.values():
            row.grow(growth[row.id])
        epoch_rows.save_epochs(connection, rows.values())
        insert = database.insert(tombstone)
        told, known = insert.excluded["count"], tombstone.c["count"]
        larger = insert.on_conflict_do_update(
            index_elements=list(tombstone.primary_key), set_={"count": sa.case((told > known, told), else_=known)}
        )
        connection.execute(larger, [_values(t, rows[gateway, t.epoch].id) for t in tombstones])
        unnumbered = {rows[gateway, t.epoch].id for t in tombstones if t.first == t.end}
        if unnumbered:
            connection.execute(_recount, [{"b_id": row_id} for row_id in unnumbered])


def _values(t: Tombstone, epoch_id: int) -> dict[str, int]:
    return {
        "epoch_id": epoch_id,
        "first": t.first,
        "end": t.end,
        "reason": int(t.reason),
        "count": t.count,
        "span_first_us": t.span_first_us,
        "span_last_us": t.span_last_us,
    }
