"""What the routes and pages share, and the fleet's facts made from the catalog's rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastapi import HTTPException

from cloud_sync.catalog.catalog import Catalog, EpochLedger, GatewayRow
from cloud_sync.http_api.models import Counts, Epoch, Gateway, Ledger, LossRecord
from cloud_sync.http_api.workers import Workers
from cloud_sync.query.engine import QueryEngine
from wire.clock import NS_PER_US, US_PER_S, Clock
from wire.reading import LossReason

OFFLINE_AFTER_S = 90  # a gateway that nobody watches may merge a minute of readings into one message


@dataclass(frozen=True, slots=True)
class Services:
    """Ports of the HTTP side. `workers` runs everything that blocks."""

    catalog: Catalog
    query: QueryEngine
    clock: Clock
    workers: Workers = field(default_factory=Workers)

    def now_us(self) -> int:
        """Wall clock, microseconds."""
        return self.clock.wall_ns() // NS_PER_US

    def known(self, gateway: str) -> GatewayRow:
        """The gateway's row. Raises a 404 that says where to look. Blocks."""
        row = self.catalog.gateway(gateway)
        if row is None:
            raise HTTPException(
                404, f"No gateway {gateway[:80]!r} has ever connected. /v1/gateways lists those that have"
            )
        return row

    def describe(self, row: GatewayRow) -> Gateway:
        """The gateway with its counts. Blocks."""
        silent_us = self.now_us() - row.last_seen_us
        return Gateway(
            id=row.id,
            state="offline" if silent_us > OFFLINE_AFTER_S * US_PER_S else "online",
            first_seen_ms=row.first_seen_us // 1000,
            last_seen_ms=row.last_seen_us // 1000,
            offline_after_s=OFFLINE_AFTER_S,
            agent_version=row.agent_version,
            config_version=row.config_version,
            machine=row.machine.hex(),
            **_counts(self.catalog.ledger(row.id)),
        )

    def ledger(self, gateway: str) -> Ledger:
        """Every epoch's account. Blocks."""
        epochs = self.catalog.ledger(self.known(gateway).id)
        by_reason: dict[str, int] = {}
        for tombstone in (each for epoch in epochs for each in epoch.tombstones):
            name = _reason(tombstone.reason)
            by_reason[name] = by_reason.get(name, 0) + tombstone.count
        return Ledger(
            gateway=gateway,
            losses_without_seq=sum(epoch.losses_without_seq for epoch in epochs),
            by_reason=by_reason,
            epochs=[_epoch(epoch) for epoch in epochs],
            **_counts(epochs),
        )


def hex_id(number: int) -> str:
    """Ids are 64-bit, more than JSON's doubles hold: text."""
    return f"{number:016x}"


def _counts(epochs: list[EpochLedger]) -> dict[str, int]:
    return {name: sum(getattr(epoch, name) for epoch in epochs) for name in Counts.model_fields}


def _reason(reason: int) -> str:
    return LossReason(reason).name.lower() if reason in LossReason._value2member_map_ else f"reason_{reason}"


def _epoch(row: EpochLedger) -> Epoch:
    return Epoch(
        epoch=hex_id(row.epoch),
        predecessor=hex_id(row.predecessor) if row.predecessor else None,
        losses_without_seq=row.losses_without_seq,
        tombstones=[
            LossRecord(first=t.first, end=t.end, count=t.count, reason=_reason(t.reason)) for t in row.tombstones
        ],
        offset_us=row.anchor.offset_us if row.anchor else None,
        synchronised=row.anchor.synchronised if row.anchor else None,
        uncertainty_us=row.anchor.uncertainty_us if row.anchor else None,
        offset_version=row.offset_version,
        **_counts([row]),
    )
