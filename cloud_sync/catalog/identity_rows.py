"""Which certificate each gateway has. Called within the transaction of what asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from cloud_sync.catalog.database import Database, storable
from cloud_sync.catalog.database_clock import now_us
from cloud_sync.catalog.schema import identity
from cloud_sync.errors import AccessDenied

REPLACE_HELP = "cloud-sync token create --gateway {0}"
LEFT = "left"

BY_GATEWAY = sa.select(identity).where(identity.c.gateway == sa.bindparam("gateway"))


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was just signed. `serial` is hex."""

    pem: bytes
    serial: str
    not_after_us: int


Sign = Callable[[str], Issued]  # for a gateway id


def put(
    database: Database, connection: Connection, gateway: str, key_sha256: bytes, issued: Issued, **values: object
) -> None:
    """This certificate is the gateway's now; `values`: other columns."""
    told = {
        "key_sha256": key_sha256,
        "serial": issued.serial,
        "certificate": issued.pem.decode(),
        "not_after_us": issued.not_after_us,
        "changed_us": now_us,
        **values,
    }
    insert = database.insert(identity).values(gateway=gateway, **told)
    connection.execute(insert.on_conflict_do_update(index_elements=[identity.c.gateway], set_=told))


def end(database: Database, connection: Connection, gateway: str, reason: str) -> None:
    """No certificate of the gateway is good from now on."""
    told = {"revoked_us": now_us, "reason": storable(reason), "changed_us": now_us}
    insert = database.insert(identity).values(gateway=gateway, **told)
    connection.execute(insert.on_conflict_do_update(index_elements=[identity.c.gateway], set_=told))


def locked(connection: Connection, gateway: str) -> Row[Any] | None:
    """The gateway's row, held until the transaction ends."""
    return connection.execute(BY_GATEWAY.with_for_update(), {"gateway": gateway}).one_or_none()


def authorise(row: Row[Any] | None, gateway: str, serial: str) -> None:
    """Raise AccessDenied unless the certificate with this serial is good; a gateway without a row is trusted."""
    if row is None:
        return
    if row.revoked_us:
        how = "has left this cloud" if row.reason == LEFT else "was revoked"
        raise AccessDenied(f"gateway {gateway} {how}. Try: {REPLACE_HELP.format(gateway)}, then edge-agent join")
    if serial not in (row.serial, row.serial_before):
        raise AccessDenied(copied(gateway))


def copied(gateway: str) -> str:
    """Why an older certificate is refused."""
    return (
        f"this certificate of gateway {gateway} was replaced by a newer one: another device has it, or this one went "
        f"back to an old copy of its disk. Try: {REPLACE_HELP.format(gateway)}, then edge-agent join"
    )
