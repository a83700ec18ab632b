"""Which machines have shown a gateway's certificate: two that are not retired are clones of one card."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog.catalog import MachineRow
from cloud_sync.catalog.database import Database
from cloud_sync.catalog.database_clock import now_us
from cloud_sync.catalog.schema import claim, epoch, machine

_of_gateway = (
    sa.select(
        machine.c.machine,
        epoch.c.epoch,
        machine.c.first_seen_us,
        machine.c.last_seen_us,
        machine.c.retired,
    )
    .join(epoch, epoch.c.id == machine.c.epoch_id)
    .where(machine.c.gateway == sa.bindparam("gateway"))
    .order_by(machine.c.first_seen_us, machine.c.machine)
)
_two_in_use = (
    sa.select(machine.c.machine)
    .where(machine.c.gateway == sa.bindparam("gateway"), sa.not_(machine.c.retired))
    .limit(2)
)
_own = sa.and_(machine.c.gateway == sa.bindparam("b_gateway"), machine.c.machine == sa.bindparam("b_machine"))
_retire = machine.update().where(_own, sa.not_(machine.c.retired)).values(retired=True)
_drop_claims = claim.delete().where(
    claim.c.gateway == sa.bindparam("b_gateway"), claim.c.machine == sa.bindparam("b_machine")
)


def note(database: Database, connection: Connection, gateway: str, name: bytes, epoch_id: int) -> None:
    """This machine says Hello now; `epoch_id` is the row of its current epoch. One that was retired is back."""
    told = {"epoch_id": epoch_id, "last_seen_us": now_us, "retired": False}
    insert = database.insert(machine).values(gateway=gateway, machine=name, first_seen_us=now_us, **told)
    connection.execute(insert.on_conflict_do_update(index_elements=[machine.c.gateway, machine.c.machine], set_=told))


def of_gateway(connection: Connection, gateway: str) -> list[MachineRow]:
    """By when they came first."""
    return [MachineRow(*row) for row in connection.execute(_of_gateway, {"gateway": gateway})]


def is_cloned(connection: Connection, gateway: str) -> bool:
    """Two of its machines are not retired."""
    return len(connection.execute(_two_in_use, {"gateway": gateway}).all()) > 1


def retire(connection: Connection, gateway: str, name: bytes) -> bool:
    """It will not come back: nothing is expected of it. False for one that is not known, or retired already."""
    own = {"b_gateway": gateway, "b_machine": name}
    connection.execute(_drop_claims, own)
    return connection.execute(_retire, own).rowcount > 0
