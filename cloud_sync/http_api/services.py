"""What the routes and pages share, and the fleet's facts made from the catalog's rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from cloud_sync.catalog.catalog import Account, EpochLedger, GatewayRow, MachineRow
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.http_api.callers import Callers
from cloud_sync.http_api.models import (
    Counts,
    Epoch,
    FleetAccount,
    GapRecord,
    Gateway,
    Ledger,
    LossRecord,
    MachineModel,
)
from cloud_sync.http_api.workers import Workers
from cloud_sync.query.engine import QueryEngine
from wire.clock import NS_PER_US, US_PER_S, Clock
from wire.reading import LossReason

OFFLINE_AFTER_S = 90  # a gateway that nobody watches may merge a minute of readings into one message


@dataclass(frozen=True, slots=True)
class Services:
    """Ports of the HTTP side. `workers` runs everything that blocks."""

    catalog: SqlCatalog
    query: QueryEngine
    clock: Clock
    workers: Workers
    callers: Callers

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

    def is_online(self, row: GatewayRow) -> bool:
        """Whether the gateway was heard of lately."""
        return self.now_us() - row.last_seen_us <= OFFLINE_AFTER_S * US_PER_S

    def describe(self, row: GatewayRow, account: Account | None = None) -> Gateway:
        """The gateway with its counts, which are asked for where they are not given. Blocks."""
        account = account or self.catalog.accounts(row.id)[row.id]
        return Gateway(
            id=row.id,
            state="online" if self.is_online(row) else "offline",
            first_seen_ms=row.first_seen_us // 1000,
            last_seen_ms=row.last_seen_us // 1000,
            offline_after_s=OFFLINE_AFTER_S,
            agent_version=row.agent_version,
            config_version=row.config_version,
            machine=row.machine.hex(),
            **_account(account),
        )

    def ledger(self, gateway: str) -> Ledger:
        """Every epoch's account. Blocks."""
        epochs = self.catalog.ledger(self.known(gateway).id)
        by_reason: dict[str, int] = {}
        for tombstone in (each for epoch in epochs for each in epoch.tombstones):
            name = _reason(tombstone.reason)
            by_reason[name] = by_reason.get(name, 0) + tombstone.count
        account = self.catalog.accounts(gateway)[gateway]
        return Ledger(
            **fleet_account(account).model_dump(),
            machines=[_machine(machine) for machine in self.catalog.machines(gateway)],
            by_reason=by_reason,
            epochs=[_epoch(epoch) for epoch in epochs],
        )


def hex_id(number: int) -> str:
    """Ids are 64-bit, more than JSON's doubles hold: text."""
    return f"{number:016x}"


def _counts(line: EpochLedger | Account) -> dict[str, int]:
    return {name: getattr(line, name) for name in (*Counts.model_fields, "gap", "losses_without_seq")}


def _account(account: Account) -> dict[str, Any]:
    return {**_counts(account), "cloned": account.is_cloned}


def fleet_account(account: Account) -> FleetAccount:
    """As JSON shows it."""
    return FleetAccount(gateway=account.gateway, lost=account.lost, **_account(account))


def _machine(row: MachineRow) -> MachineModel:
    return MachineModel(
        machine=row.machine.hex(),
        epoch=hex_id(row.epoch),
        first_seen_ms=row.first_seen_us // 1000,
        last_seen_ms=row.last_seen_us // 1000,
        retired=row.retired,
    )


def _reason(reason: int) -> str:
    return LossReason(reason).name.lower() if reason in LossReason._value2member_map_ else f"reason_{reason}"


def _epoch(row: EpochLedger) -> Epoch:
    return Epoch(
        epoch=hex_id(row.epoch),
        predecessor=hex_id(row.predecessor) if row.predecessor else None,
        predecessor_next_seq=row.predecessor_next_seq,
        end=row.end.value,
        gaps=[GapRecord(first=g.first, end=g.end, count=g.count, since_ms=g.since_us // 1000) for g in row.gaps],
        tombstones=[
            LossRecord(first=t.first, end=t.end, count=t.count, reason=_reason(t.reason)) for t in row.tombstones
        ],
        offset_us=row.anchor.offset_us if row.anchor else None,
        synchronised=row.anchor.synchronised if row.anchor else None,
        uncertainty_us=row.anchor.uncertainty_us if row.anchor else None,
        offset_version=row.offset_version,
        **_counts(row),
    )
