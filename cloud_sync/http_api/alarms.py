"""The route for alarms: of one gateway or of the fleet, as JSON or CSV."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from cloud_sync.auth.roles import Role
from cloud_sync.catalog.catalog import AlarmRow
from cloud_sync.http_api.answers import CSV, JSON, csv_pages, preferred
from cloud_sync.http_api.compress import answer, takes_gzip
from cloud_sync.http_api.formats import json_numbers, rfc3339
from cloud_sync.http_api.models import AlarmList, AlarmModel, Number
from cloud_sync.http_api.roles import allow
from cloud_sync.http_api.services import Services, hex_id
from cloud_sync.query.alarms import AlarmQuestion, alarm_page
from cloud_sync.query.parameters import TIME_US_MIN, bounded_page_size, parse_time
from wire.clock import US_PER_S

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000
DEFAULT_SPAN_US = 86_400 * US_PER_S
COLUMNS = (
    "onset,gateway,series,state,severity,rule,score,threshold,value,expected,low,high,unit,changed,cleared,cause,id"
)


class AlarmsQuery(BaseModel):
    """Parameters of `/v1/alarms`. Unknown ones are refused, as in `/v1/query`."""

    model_config = ConfigDict(extra="forbid")

    gateway: str = Field("", description="The gateway's id; all when left out.")
    start: str = Field("", description="Earliest onset, written as in /v1/query. Default: a day back.")
    end: str = Field("", description="Moment after the latest onset. Default: a day ahead, for clocks that are.")
    active: bool = Field(False, description="Only those that last; without `start`, from whenever.")
    page_size: int | None = Field(None, description=f"Alarms per page; more than {PAGE_SIZE_MAX} means that.")
    page_token: str = Field("", description="`next_page_token` of the page before.")
    format: Literal["json", "csv"] | None = Field(None, description="Default: by the Accept header, JSON first.")

    def question(self, now_us: int) -> AlarmQuestion:
        """Moments for the times as written. Raises QueryInvalid."""
        # An onset is later than now when the gateway's clock is ahead: what is open must not be hidden by that.
        end_us = parse_time("end", self.end, now_us) if self.end else now_us + DEFAULT_SPAN_US
        if self.start:
            start_us = parse_time("start", self.start, now_us)
        elif self.active:
            start_us = TIME_US_MIN
        else:
            start_us = max(TIME_US_MIN, (end_us if self.end else now_us) - DEFAULT_SPAN_US)
        return AlarmQuestion(self.gateway or None, start_us, end_us, self.active, f"{self.start} {self.end}")


def alarms_routes(services: Services) -> APIRouter:
    """`/v1/alarms`."""
    router = APIRouter(prefix="/v1", tags=["alarms"])

    @router.get(
        "/alarms",
        summary="Alarms, newest onset first",
        response_model=None,
        responses={200: {"model": AlarmList, "content": {CSV: {}}}},
    )
    @allow(Role.READONLY)
    async def alarms(request: Request, asked: Annotated[AlarmsQuery, Query()]) -> Response:
        """Each alarm once, with what it said when its score was largest. CSV without `page_size` streams all pages."""
        question = asked.question(services.now_us())
        run = services.workers.run
        if asked.gateway:
            await run(services.known, asked.gateway)
        if (asked.format or preferred(request, (JSON, CSV))) in ("csv", CSV):
            size = bounded_page_size(asked.page_size, PAGE_SIZE_MAX, PAGE_SIZE_MAX)

            def page(token: str, header: bool) -> tuple[bytes, str]:
                rows, following = alarm_page(services.catalog, question, size, token)
                return _csv(rows, header), following

            single = asked.page_size is not None
            return await csv_pages(request, services.workers, page, asked.page_token, single, "alarms.csv")
        size = bounded_page_size(asked.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        as_gzip = takes_gzip(request)

        def listed() -> Response:
            rows, following = alarm_page(services.catalog, question, size, asked.page_token)
            body = AlarmList(alarms=[alarm_model(row) for row in rows], next_page_token=following)
            return answer(body.model_dump_json().encode(), JSON, as_gzip)

        return await run(listed)

    return router


def alarm_model(row: AlarmRow) -> AlarmModel:
    """As JSON shows it."""
    alarm = row.alarm
    return AlarmModel(
        gateway=row.gateway,
        id=hex_id(alarm.id),
        epoch=hex_id(row.epoch),
        series=alarm.series,
        rule=alarm.rule,
        state="active" if row.cleared_us is None else "cleared",
        severity=alarm.severity.name.lower(),
        onset_ms=row.onset_us // 1000,
        changed_ms=row.changed_us // 1000,
        cleared_ms=None if row.cleared_us is None else row.cleared_us // 1000,
        score=_number(alarm.score),
        threshold=_number(alarm.threshold),
        value=_number(alarm.value),
        expected=_number(alarm.expected),
        low=_number(alarm.low),
        high=_number(alarm.high),
        unit=alarm.unit,
        cause=alarm.cause,
        clock_unsure=not row.synchronised,
    )


def _number(value: float | None) -> Number:
    return None if value is None else json_numbers(np.array([value], dtype=np.float64))[0]


def _csv(rows: list[AlarmRow], header: bool) -> bytes:
    """One alarm per line, times in RFC 3339."""
    text = io.StringIO()
    writer = csv.writer(text)
    if header:
        writer.writerow(COLUMNS.split(","))
    for row, model in zip(rows, map(alarm_model, rows), strict=True):
        moments = np.array([row.onset_us, row.changed_us, row.cleared_us or 0], dtype=np.int64)
        onset, changed, cleared = rfc3339(moments, "ms")
        fields = model.model_dump()
        fields.update(onset=onset, changed=changed, cleared="" if row.cleared_us is None else cleared)
        writer.writerow([fields[name] for name in COLUMNS.split(",")])
    return text.getvalue().encode()
