"""Routes about gateways: the list, one, its series, newest readings."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Query

from cloud_sync.auth.roles import Role
from cloud_sync.http_api.formats import json_numbers
from cloud_sync.http_api.models import (
    Definition,
    FleetLatest,
    Gateway,
    GatewayLatest,
    GatewayList,
    LatestList,
    LatestReading,
    Series,
    SeriesList,
)
from cloud_sync.http_api.roles import allow
from cloud_sync.http_api.services import Services, hex_id
from cloud_sync.query.blocks import gap_name
from cloud_sync.query.latest import Latest
from cloud_sync.query.parameters import bounded_page_size
from cloud_sync.query.plan import Line
from cloud_sync.query.tokens import pack_token, question_id, unpack_token
from wire.reading import CellState
from wire.series import ValueType

LIST_PAGE_SIZE_DEFAULT = 100
LIST_PAGE_SIZE_MAX = 1000
LATEST_GATEWAYS_MAX = 100  # per page: each may decode a few messages

VALUE_TYPES: dict[ValueType, Literal["int", "float32", "float64"]] = {
    ValueType.INT: "int",
    ValueType.FLOAT32: "float32",
    ValueType.FLOAT64: "float64",
}

PageSize = Annotated[int | None, Query(description="Items per page; more than 1000 means 1000.")]
PageToken = Annotated[str, Query(description="`next_page_token` of the page before.")]

T = TypeVar("T")


def fleet_routes(services: Services) -> APIRouter:
    """`/v1/gateways` and below, and `/v1/latest`."""
    router = APIRouter(prefix="/v1", tags=["fleet"])

    @router.get("/gateways", summary="Gateways that have ever connected")
    @allow(Role.READONLY)
    async def gateways(page_size: PageSize = None, page_token: PageToken = "") -> GatewayList:
        """By id. `pending` is what the gateway still holds, as far as it has told."""

        def answer() -> GatewayList:
            rows = services.catalog.gateways()
            page, token = page_of(rows, lambda row: row.id, "gateways", page_size, page_token)
            accounts = services.catalog.accounts()
            described = [services.describe(row, accounts.get(row.id)) for row in page]
            return GatewayList(gateways=described, next_page_token=token, total_size=len(rows))

        return await services.workers.run(answer)

    @router.get("/gateways/{gateway}", summary="One gateway")
    @allow(Role.READONLY)
    async def gateway(gateway: str) -> Gateway:
        """When it was last heard of, and where its readings are."""
        return await services.workers.run(lambda: services.describe(services.known(gateway)))

    @router.get("/gateways/{gateway}/series", summary="Series of a gateway")
    @allow(Role.READONLY)
    async def series(gateway: str, page_size: PageSize = None, page_token: PageToken = "") -> SeriesList:
        """By name, with every version of its definition."""

        def answer() -> SeriesList:
            lines = sorted(services.query.series(services.known(gateway).id), key=_line_key)
            page, token = page_of(lines, _line_key, f"series {gateway}", page_size, page_token)
            return SeriesList(series=[_series(line) for line in page], next_page_token=token, total_size=len(lines))

        return await services.workers.run(answer)

    @router.get("/gateways/{gateway}/latest", summary="Newest reading of every series")
    @allow(Role.READONLY)
    async def latest(gateway: str) -> LatestList:
        """Looks back a day from when the gateway was last heard of."""

        def answer() -> LatestList:
            found = services.query.latest(services.known(gateway))
            return LatestList(latest=[latest_reading(each) for each in found])

        return await services.workers.run(answer)

    @router.get("/latest", summary="Newest reading of every series of the fleet")
    @allow(Role.READONLY)
    async def fleet_latest(
        gateway: Annotated[str, Query(description="Only this gateway.")] = "",
        page_size: Annotated[int | None, Query(description="Gateways per page; more than 100 means 100.")] = None,
        page_token: PageToken = "",
    ) -> FleetLatest:
        """As of one gateway, for a page of gateways by id."""

        def answer() -> FleetLatest:
            rows = [services.known(gateway)] if gateway else services.catalog.gateways()
            size = bounded_page_size(page_size, LATEST_GATEWAYS_MAX, LATEST_GATEWAYS_MAX)
            page, token = page_of(rows, lambda row: row.id, f"latest {gateway}", size, page_token)
            found = [
                GatewayLatest(gateway=row.id, latest=[latest_reading(each) for each in services.query.latest(row)])
                for row in page
            ]
            return FleetLatest(gateways=found, next_page_token=token)

        return await services.workers.run(answer)

    return router


def page_of(
    items: Sequence[T], key: Callable[[T], str], question: str, page_size: int | None, page_token: str
) -> tuple[Sequence[T], str]:
    """The page after the token, of items ordered by `key`, and the next token ("" on the last page)."""
    size = bounded_page_size(page_size, LIST_PAGE_SIZE_DEFAULT, LIST_PAGE_SIZE_MAX)
    asked = question_id(question)
    first = 0
    if page_token:
        (after,) = unpack_token("page_token", page_token, asked, str)
        first = bisect_right(items, str(after), key=key)
    page = items[first : first + size]
    more = first + size < len(items)
    return page, pack_token(asked, key(page[-1])) if more else ""


def _line_key(line: Line) -> str:
    return f"{line.name} {line.unit}"


def _series(line: Line) -> Series:
    newest = line.definitions[-1]
    return Series(
        name=line.name,
        sensor=newest.sensor,
        channel=newest.channel,
        unit=line.unit,
        device_class=newest.device_class,
        definitions=[
            Definition(
                id=hex_id(each.id),
                value_type=VALUE_TYPES[each.value_type],
                num=each.num,
                den=each.den,
                off=each.off,
                low=each.low,
                high=each.high,
                rate_max=each.rate_max,
                calibration=each.calibration,
            )
            for each in line.definitions
        ],
    )


def latest_reading(latest: Latest) -> LatestReading:
    """As JSON shows it."""
    return LatestReading(
        name=latest.line.name,
        unit=latest.line.unit,
        time_ms=None if latest.time_us is None else latest.time_us // 1000,
        gap=None if latest.state == CellState.VALUE else gap_name(latest.state),
        quality=latest.quality,
        value=None if latest.value is None else json_numbers(np.array([latest.value]))[0],
        value_time_ms=None if latest.value_time_us is None else latest.value_time_us // 1000,
    )
