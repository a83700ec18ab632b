"""Which messages hold which series when: what every query by time asks."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog.catalog import MessageRow
from cloud_sync.catalog.schema import STORED, coverage, epoch, message, message_set, pack
from wire.ranges import SEQ_MAX
from wire.reading import Kind

_epochs = sa.select(epoch.c.id, epoch.c.epoch, epoch.c.offset_us, epoch.c.synchronised, epoch.c.span_max_us).where(
    epoch.c.gateway == sa.bindparam("gateway")
)
# A roll-up whose readings have all come after all, from a copy of the card, tells nothing more.
_as_taken = (
    sa.select(coverage.c.first)
    .where(
        coverage.c.epoch_id == message.c.epoch_id,
        coverage.c.state == STORED,
        coverage.c.first <= message.c.first,
        coverage.c.end >= message.c.first + message.c.cells,
    )
    .exists()
)
_by_set = (
    sa.select(
        message.c.id, pack.c.key, message.c.offset, message.c.length, message.c.boot_min_us, message.c.boot_max_us
    )
    .join_from(message_set, message, message.c.id == message_set.c.message_id)
    .join(pack, pack.c.id == message.c.pack_id)
    .where(
        message_set.c.epoch_id == sa.bindparam("epoch_id"),
        message_set.c.set_id.in_(sa.bindparam("sets", expanding=True)),
        message_set.c.boot_max_us >= sa.bindparam("start"),
        message_set.c.boot_max_us < sa.bindparam("last"),
        message.c.boot_min_us < sa.bindparam("end"),
        message.c.id > sa.bindparam("after"),
        sa.or_(message.c.kind == int(Kind.RAW), sa.not_(_as_taken)),
    )
    .distinct()
)


def messages(
    connection: Connection, gateway: str, set_ids: Sequence[int], *, start_us: int, end_us: int, after_id: int
) -> list[MessageRow]:
    """See `Catalog.messages`.

    The wall-clock range is put into each epoch's boot time by its offset in force. The index is by a message's last
    stamp; the epoch's longest message bounds how far past `end_us` that can lie.
    """
    found = []
    for row_id, epoch_id, offset_us, synchronised, span_max_us in connection.execute(_epochs, {"gateway": gateway}):
        bounds = {
            "epoch_id": row_id,
            "sets": list(set_ids),
            "start": _int64(start_us - offset_us),
            "last": _int64(end_us - offset_us + span_max_us),
            "end": _int64(end_us - offset_us),
            "after": after_id,
        }
        for id_, key, offset, length, boot_min_us, boot_max_us in connection.execute(_by_set, bounds):
            found.append(
                MessageRow(
                    id_,
                    gateway,
                    epoch_id,
                    key,
                    offset,
                    length,
                    offset_us,
                    bool(synchronised),
                    boot_min_us + offset_us,
                    boot_max_us + offset_us,
                )
            )
    return sorted(found, key=lambda row: (row.t_min_us, row.id))


def _int64(number: int) -> int:
    """The nearest number that a database column holds; a gateway may claim any offset."""
    return max(-SEQ_MAX, min(SEQ_MAX, number))
