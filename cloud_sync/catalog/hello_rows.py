"""What a Hello tells the catalog: who is there, how far each epoch has counted, and what is missing."""

from __future__ import annotations

import json
import logging
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import coverage_rows, epoch_rows, gap_rows, machine_rows
from cloud_sync.catalog.database import Database, storable
from cloud_sync.catalog.database_clock import now_us
from cloud_sync.catalog.schema import epoch, gateway
from cloud_sync.errors import TooManyEpochs
from wire.sync.frames import EPOCHS_MAX, EpochCoverage, Hello

log = logging.getLogger(__name__)

EPOCHS_PER_GATEWAY_MAX = 65_536  # one per boot: 179 years of daily boots

_epochs_of = sa.select(sa.func.count()).select_from(epoch).where(epoch.c.gateway == sa.bindparam("gateway"))


def note(
    database: Database, connection: Connection, gateway_id: str, hello: Hello, generation: int
) -> tuple[EpochCoverage, ...]:
    """Write it all down; returns the coverage of each epoch in Hello's order. Raises TooManyEpochs."""
    _note_gateway(database, connection, gateway_id, hello)
    ids = _note_epochs(database, connection, gateway_id, hello)
    coverages = coverage_rows.load_whole(connection, ids)
    machine_rows.note(database, connection, gateway_id, hello.machine, ids[-1])
    gap_rows.save_claims(
        connection, gateway_id, hello.machine, dict(zip(ids, gap_rows.answered_for(hello, generation)))
    )
    if len(hello.epochs) < EPOCHS_MAX:  # else it may hold more than it can name
        before, now = gap_rows.decide(connection, gateway_id, coverages)
        if now > before:
            log.warning("gap: readings are neither here nor offered gateway=%s readings=%d", gateway_id, now)
    return tuple(coverages[row_id].frame() for row_id in ids)


def _note_gateway(database: Database, connection: Connection, gateway_id: str, hello: Hello) -> None:
    told: dict[str, Any] = {
        "last_seen_us": now_us,
        "agent_version": storable(hello.agent_version),
        "config_version": storable(hello.config_version),
        "machine": hello.machine,
        "models": json.dumps({storable(family): storable(release) for family, release in hello.models}),
    }
    insert = database.insert(gateway).values(id=gateway_id, first_seen_us=now_us, **told)
    connection.execute(insert.on_conflict_do_update(index_elements=[gateway.c.id], set_=told))


def _note_epochs(database: Database, connection: Connection, gateway_id: str, hello: Hello) -> list[int]:
    """Note how far each epoch has counted; returns the row ids in Hello's order."""
    rows = epoch_rows.lock_epochs(database, connection, [(gateway_id, offer.epoch) for offer in hello.epochs])
    before = {row.id: (row.next_seq, row.predecessor, row.predecessor_next_seq) for row in rows.values()}
    for offer in hello.epochs:
        row = rows[gateway_id, offer.epoch]
        row.next_seq = max(row.next_seq, offer.next_seq)
        row.predecessor = offer.predecessor or row.predecessor
        if offer.predecessor_next_seq is not None:
            row.predecessor_next_seq = offer.predecessor_next_seq
            previous = rows.get((gateway_id, offer.predecessor))
            if previous is not None:
                previous.next_seq = max(previous.next_seq, offer.predecessor_next_seq)
    count = connection.execute(_epochs_of, {"gateway": gateway_id}).scalar_one()
    if count > EPOCHS_PER_GATEWAY_MAX:
        raise TooManyEpochs(
            f"gateway {gateway_id} would have {count} epochs, at most {EPOCHS_PER_GATEWAY_MAX}: "
            "one is a boot. Try: give it a new certificate with another id"
        )
    changed = [
        row for row in rows.values() if (row.next_seq, row.predecessor, row.predecessor_next_seq) != before[row.id]
    ]
    epoch_rows.save_epochs(connection, changed)
    return [rows[gateway_id, offer.epoch].id for offer in hello.epochs]
