"""Epochs of gateways: found or made, locked, and the offset that dates their stamps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog.coverage_rows import Growth
from cloud_sync.catalog.database import Database, portions
from cloud_sync.catalog.database_clock import now_us
from cloud_sync.catalog.schema import boot_offset, epoch, gateway
from wire.clock import Anchor

OFFSET_STEP_US_MIN = 1_000  # the finest stamp a poll group keeps is a millisecond; less is no correction


EpochName = tuple[str, int]  # gateway, epoch

_gateways = sa.select(gateway.c.id).where(gateway.c.id.in_(sa.bindparam("ids", expanding=True)))
_locked_gateways = _gateways.order_by(gateway.c.id).with_for_update(key_share=True)
_locked = (
    sa.select(epoch)
    .where(sa.tuple_(epoch.c.gateway, epoch.c.epoch).in_(sa.bindparam("names", expanding=True)))
    .order_by(epoch.c.id)
    .with_for_update()
)
_update = (
    epoch.update()
    .where(epoch.c.id == sa.bindparam("b_id"))
    .values(
        {
            name: sa.bindparam(f"b_{name}")
            for name in (
                "next_seq",
                "predecessor",
                "predecessor_next_seq",
                "fragments",
                "stored",
                "tombstoned",
                "span_max_us",
                "offset_version",
                "offset_us",
                "anchor_boot_us",
                "synchronised",
                "uncertainty_us",
            )
        }
    )
)


@dataclass(slots=True)
class EpochRow:
    """One epoch as the transaction sees and changes it."""

    id: int
    next_seq: int
    predecessor: int
    predecessor_next_seq: int | None
    fragments: int
    stored: int
    tombstoned: int
    span_max_us: int
    offset_version: int
    offset_us: int
    anchor_boot_us: int
    synchronised: bool
    uncertainty_us: int

    def grow(self, growth: Growth) -> None:
        """Its coverage was changed by this much."""
        self.fragments += growth.fragments
        self.stored += growth.stored
        self.tombstoned += growth.tombstoned

    @property
    def anchor(self) -> Anchor | None:
        """The anchor in force."""
        if not self.offset_version:
            return None
        wall_us = self.anchor_boot_us + self.offset_us
        return Anchor(self.anchor_boot_us, wall_us, self.synchronised, self.uncertainty_us)

    def take_anchor(self, anchor: Anchor) -> bool:
        """Put the anchor in force if it dates this epoch better; True when it does.

        A trusted clock beats an untrusted one; of two alike the later look wins if it differs by a step. Messages
        may come in any order, so a late arrival of an earlier look changes nothing.
        """
        if self.offset_version and not self._improved_by(anchor):
            return False
        self.offset_version += 1
        self.offset_us = anchor.offset_us
        self.anchor_boot_us = anchor.boottime_us
        self.synchronised = anchor.synchronised
        self.uncertainty_us = anchor.uncertainty_us
        return True

    def _improved_by(self, anchor: Anchor) -> bool:
        if anchor.synchronised != self.synchronised:
            return anchor.synchronised
        step_us = abs(anchor.offset_us - self.offset_us)
        return anchor.boottime_us > self.anchor_boot_us and step_us >= OFFSET_STEP_US_MIN

    def offset_values(self) -> dict[str, int | bool]:
        """Columns that `epoch` and `boot_offset` share."""
        return {
            "offset_us": self.offset_us,
            "anchor_boot_us": self.anchor_boot_us,
            "synchronised": self.synchronised,
            "uncertainty_us": self.uncertainty_us,
        }


def epoch_row(row: sa.Row[tuple[object, ...]]) -> EpochRow:
    """A selected row of `epoch`."""
    return EpochRow(
        row.id,
        row.next_seq,
        row.predecessor,
        row.predecessor_next_seq,
        row.fragments,
        row.stored,
        row.tombstoned,
        row.span_max_us,
        row.offset_version,
        row.offset_us,
        row.anchor_boot_us,
        row.synchronised,
        row.uncertainty_us,
    )


def lock_gateways(database: Database, connection: Connection, ids: Collection[str]) -> None:
    """Lock the rows of these gateways in order of id; those not seen before are made.

    What belongs to a gateway (epochs, coverage, its use of series sets) is then this transaction's alone. Making comes
    before locking, and both in one order for all, so that two replicas cannot wait for each other.
    """
    wanted = sorted(set(ids))
    known = {id_ for part in portions(wanted) for id_ in connection.execute(_gateways, {"ids": part}).scalars()}
    missing = [id_ for id_ in wanted if id_ not in known]
    if missing:
        insert = database.insert(gateway).values(
            id=sa.bindparam("b_id"), first_seen_us=now_us, last_seen_us=now_us, machine=b""
        )
        connection.execute(insert.on_conflict_do_nothing(), [{"b_id": id_} for id_ in missing])
    for part in portions(wanted):
        connection.execute(_locked_gateways, {"ids": part}).all()


def lock_epochs(database: Database, connection: Connection, names: Sequence[EpochName]) -> dict[EpochName, EpochRow]:
    """Lock the rows of these epochs and of their gateways; those not seen before are made."""
    lock_gateways(database, connection, [name for name, _ in names])
    rows = _select(connection, names)
    missing = [name for name in names if name not in rows]
    if missing:
        epochs = database.insert(epoch).values(gateway=sa.bindparam("b_gateway"), epoch=sa.bindparam("b_epoch"))
        rest = [{"b_gateway": gateway_id, "b_epoch": number} for gateway_id, number in missing]
        connection.execute(epochs.on_conflict_do_nothing(), rest)
        rows = _select(connection, names)
    return rows


def _select(connection: Connection, names: Sequence[EpochName]) -> dict[EpochName, EpochRow]:
    rows = {}
    for part in portions(names):
        for row in connection.execute(_locked, {"names": part}):
            rows[row.gateway, row.epoch] = epoch_row(row)
    return rows


def save_epochs(connection: Connection, rows: Collection[EpochRow]) -> None:
    """Write the rows back."""
    if rows:
        connection.execute(
            _update,
            [
                {
                    "b_id": row.id,
                    "b_next_seq": row.next_seq,
                    "b_predecessor": row.predecessor,
                    "b_predecessor_next_seq": row.predecessor_next_seq,
                    "b_fragments": row.fragments,
                    "b_stored": row.stored,
                    "b_tombstoned": row.tombstoned,
                    "b_span_max_us": row.span_max_us,
                    "b_offset_version": row.offset_version,
                    **{f"b_{name}": value for name, value in row.offset_values().items()},
                }
                for row in rows
            ],
        )


def record_offsets(connection: Connection, versions: Collection[Mapping[str, int | bool]]) -> None:
    """Append to the history of offsets."""
    if versions:
        connection.execute(boot_offset.insert().values(since_us=now_us), list(versions))
