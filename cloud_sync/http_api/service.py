"""Routes about the service itself: is it alive, can it answer, what does it count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from cloud_sync.auth.roles import Role
from cloud_sync.http_api.models import Health, Ready
from cloud_sync.http_api.roles import allow, allow_anybody
from cloud_sync.http_api.services import Services, hex_id


def service_routes(
    services: Services,
    registry: CollectorRegistry,
    require_writable: Callable[[], None],
    openapi: Callable[[], dict[str, Any]],
) -> APIRouter:
    """`/health`, `/ready`, `/metrics` and `/v1/openapi.json`. `require_writable` raises StoreDown or CatalogDown."""
    router = APIRouter(tags=["service"])

    @router.get("/health", summary="The process runs")
    @allow_anybody
    async def health() -> Health:
        """Answers as long as the event loop turns; asks nothing else."""
        return Health(status="ok")

    @router.get("/ready", summary="The service can answer")
    @allow_anybody
    async def ready() -> Ready:
        """503 with the reason while the catalog does not answer, or catalog or object store refuse to write."""

        def answer() -> Ready:
            services.catalog.gateways()
            require_writable()
            return Ready(status="ready", generation=hex_id(services.catalog.generation()))

        return await services.workers.run(answer)

    @router.get("/metrics", summary="Counters in Prometheus' text format", response_class=Response)
    @allow(Role.READONLY)
    async def metrics() -> Response:
        """Ingest, storage, catalog and query counters, and the fleet's ledger in sum."""
        text = await services.workers.run(lambda: generate_latest(registry))
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/openapi.json", include_in_schema=False)
    @allow(Role.READONLY)
    async def description() -> JSONResponse:
        return JSONResponse(openapi())

    return router
