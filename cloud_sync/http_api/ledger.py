"""Routes of the ledger: where every reading is, of one gateway and of the fleet."""

from __future__ import annotations

from fastapi import APIRouter

from cloud_sync.auth.roles import Role
from cloud_sync.http_api.fleet import PageSize, PageToken, page_of
from cloud_sync.http_api.models import FleetLedger, Ledger
from cloud_sync.http_api.roles import allow
from cloud_sync.http_api.services import Services, fleet_account


def ledger_routes(services: Services) -> APIRouter:
    """`/v1/ledger` and `/v1/gateways/{gateway}/ledger`."""
    router = APIRouter(prefix="/v1", tags=["ledger"])

    @router.get("/ledger", summary="Where every reading of the fleet is, by gateway")
    @allow(Role.READONLY)
    async def fleet_ledger(page_size: PageSize = None, page_token: PageToken = "") -> FleetLedger:
        """By id. `gap` and `cloned` are the alarms that the service itself raises; they end by themselves."""

        def answer() -> FleetLedger:
            accounts = list(services.catalog.accounts().values())
            page, token = page_of(accounts, lambda each: each.gateway, "ledger", page_size, page_token)
            lines = [fleet_account(each) for each in page]
            return FleetLedger(gateways=lines, next_page_token=token, total_size=len(accounts))

        return await services.workers.run(answer)

    @router.get("/gateways/{gateway}/ledger", summary="Where every reading of a gateway is")
    @allow(Role.READONLY)
    async def ledger(gateway: str) -> Ledger:
        """taken = stored + tombstoned + pending, by epoch, with the reason of every loss."""
        return await services.workers.run(services.ledger, gateway)

    return router
