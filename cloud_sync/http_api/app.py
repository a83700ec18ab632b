"""The HTTP application: routes, pages, guard and problems, wired once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.console.login import login_routes
from cloud_sync.console.pages import Pages, console_routes
from cloud_sync.http_api.access import access_routes
from cloud_sync.http_api.alarms import alarms_routes
from cloud_sync.http_api.callers import Callers
from cloud_sync.http_api.fleet import fleet_routes
from cloud_sync.http_api.gate import Gate
from cloud_sync.http_api.guard import BODY_BYTES_MAX, Guard, Receive, Scope, Send
from cloud_sync.http_api.ledger import ledger_routes
from cloud_sync.http_api.live import Live, live_routes
from cloud_sync.http_api.meter import CacheMetrics, LedgerMetrics, Meter
from cloud_sync.http_api.problems import Problem, install, problem
from cloud_sync.http_api.readings import readings_routes
from cloud_sync.http_api.roles import require_declared
from cloud_sync.http_api.service import service_routes
from cloud_sync.http_api.services import Services
from cloud_sync.http_api.workers import Workers
from cloud_sync.query.engine import QueryEngine
from wire.clock import Clock

_ERRORS = (400, 404, 500, 503)


def create_app(
    catalog: SqlCatalog,
    query: QueryEngine,
    clock: Clock,
    registry: CollectorRegistry,
    hosts: tuple[str, ...] = (),
    require_writable: Callable[[], None] | None = None,
) -> FastAPI:
    """The API and the console over these parts.

    `registry` is what `/metrics` shows; this application adds its own counters. `hosts` are names beside its
    addresses under which the service may be asked. `require_writable` raises while what is ingested cannot be kept.
    The caller closes catalog and clock; worker threads end with the lifespan.
    """
    workers = Workers()
    callers = Callers(catalog.people, workers, clock)
    services = Services(catalog, query, clock, workers, callers)
    pages = Pages(services)
    live = Live()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()

    app = FastAPI(
        title="Tidegate",
        version="1",
        summary="Readings of a fleet of gateways, and where each of them is.",
        openapi_url=None,  # a route of ours tells it: one with a role
        docs_url=None,  # the stock pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        responses={
            code: {
                "model": Problem,
                "content": {"application/problem+json": {}},
                "description": HTTPStatus(code).phrase,
            }
            for code in _ERRORS
        },
    )
    install(app)
    app.state.live = live  # its owner closes it before the server waits for answers to end
    routers = (
        fleet_routes(services),
        ledger_routes(services),
        readings_routes(services),
        alarms_routes(services),
        live_routes(services, live),
        service_routes(services, registry, require_writable or catalog.require_writable, app.openapi),
        access_routes(services),
        console_routes(services, pages),
        login_routes(services, pages),
    )
    for router in routers:
        require_declared(router.routes)
        app.include_router(router)
    registry.register(CacheMetrics(query))
    registry.register(LedgerMetrics(catalog))
    app.state.routes = routes = [route for router in routers for route in router.routes]
    app.add_middleware(Gate, routes=routes, callers=callers, generation=catalog.generation(), registry=registry)
    app.add_middleware(Meter, clock=clock, registry=registry)
    app.add_middleware(Guard, hosts=hosts, misdirected=_misdirected, too_large=_too_large)
    return app


async def _misdirected(scope: Scope, receive: Receive, send: Send) -> None:
    detail = (
        "This service answers under its address, localhost and the names in its certificate, not under the name in the "
        "Host header. Try: the address, or a certificate with that name (cloud-sync serve --http-cert)"
    )
    answer = problem(HTTPStatus.MISDIRECTED_REQUEST, "host-unknown", "Not a name of this service", detail)
    await answer(scope, receive, send)


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    detail = f"A body must tell its length, at most {BODY_BYTES_MAX} bytes (Content-Length)"
    answer = problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", "The body is too large", detail)
    await answer(scope, receive, send)
