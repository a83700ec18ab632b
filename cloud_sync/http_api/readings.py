"""The route for readings: a range as taken or downsampled, as JSON, CSV or Arrow."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from cloud_sync.auth.roles import Role
from cloud_sync.http_api.answers import CSV, CSV_TYPE, JSON, csv_pages, link_to_next, named, preferred
from cloud_sync.http_api.arrow import ARROW, buckets_arrow, rows_arrow
from cloud_sync.http_api.compress import answer, takes_gzip
from cloud_sync.http_api.formats import TimeUnit, buckets_csv, buckets_json, rows_csv, rows_json
from cloud_sync.http_api.models import BucketAnswerModel, RowAnswerModel
from cloud_sync.http_api.roles import allow
from cloud_sync.http_api.services import Services
from cloud_sync.query.engine import Question
from cloud_sync.query.parameters import (
    PAGE_SIZE_MAX,
    TIME_US_MAX,
    TIME_US_MIN,
    bounded_page_size,
    parse_duration,
    parse_time,
)
from wire.clock import US_PER_S

DEFAULT_SPAN_US = 3_600 * US_PER_S
FILE = "readings.csv"
FORMATS = {"json": JSON, "csv": CSV, "arrow": ARROW}

_TIME = "RFC 3339, epoch seconds, milliseconds or microseconds, `now`, or a span back from now such as `-15m`."


class ReadingsQuery(BaseModel):
    """Parameters of `/v1/query`. Unknown ones are refused, so that a misspelt bound cannot be overlooked."""

    model_config = ConfigDict(extra="forbid")

    gateway: str = Field(description="The gateway's id.")
    series: list[str] = Field(
        [], description="`sensor/channel`; repeat it for several; all of the gateway when left out."
    )
    start: str = Field("", description=f"First moment. {_TIME} Default: an hour before `end`.")
    end: str = Field("", description="Moment after the last, written like `start`. Default: now.")
    step: str = Field(
        "", description="`10s`, `5m`, `1h`: min, max, mean and count per step. Left out: readings as taken."
    )
    after: str = Field(
        "", description="`cursor` of an earlier answer: only what was stored later, of any time unless bounded."
    )
    page_size: int | None = Field(
        None, description=f"Rows per page, gaps included. Default 10000; more than {PAGE_SIZE_MAX} is that."
    )
    page_token: str = Field("", description="`next_page_token` of the page before.")
    format: Literal["json", "csv", "arrow"] | None = Field(
        None, description="Default: by the Accept header, JSON first."
    )
    time_unit: TimeUnit = Field("ms", description="Epoch times in JSON, and decimals in CSV.")

    def question(self, now_us: int) -> Question:
        """Moments for the times as written; by default the last hour, or any time for a poll of what is new.

        Raises QueryInvalid.
        """
        open_ended = bool(self.after) and not self.step
        end_us = parse_time("end", self.end, now_us) if self.end else TIME_US_MAX if open_ended else now_us
        if self.start:
            start_us = parse_time("start", self.start, now_us)
        else:
            start_us = TIME_US_MIN if open_ended else max(TIME_US_MIN, end_us - DEFAULT_SPAN_US)
        written = f"{self.start} {self.end}"
        return Question(self.gateway, tuple(dict.fromkeys(self.series)), start_us, end_us, self.after, written)


def readings_routes(services: Services) -> APIRouter:
    """`/v1/query`."""
    router = APIRouter(prefix="/v1", tags=["readings"])

    @router.get(
        "/query",
        summary="Readings of one gateway",
        response_model=None,
        responses={200: {"model": RowAnswerModel | BucketAnswerModel, "content": {CSV: {}, ARROW: {}}}},
    )
    @allow(Role.READONLY)
    async def query(request: Request, asked: Annotated[ReadingsQuery, Query()]) -> Response:
        """Values are (raw * num + off) / den by the definition each reading was taken under. The range is half-open.

        As taken: pages in order of time, each row once; a gap is a row without value and with a reason. CSV without
        `page_size` streams all pages. With `step`: buckets start at whole multiples of the step since 1970 UTC.
        """
        question = asked.question(services.now_us())
        kind = FORMATS[asked.format] if asked.format else preferred(request, tuple(FORMATS.values()))
        as_gzip = takes_gzip(request)
        run = services.workers.run
        await run(services.known, asked.gateway)
        if asked.step:
            step_us = parse_duration("step", asked.step)

            def buckets() -> Response:
                found = services.query.buckets(question, step_us)
                if kind == ARROW:
                    return answer(buckets_arrow(found), ARROW, as_gzip)
                if kind == CSV:
                    return answer(buckets_csv(found, asked.time_unit), CSV_TYPE, as_gzip, named(FILE))
                return answer(buckets_json(found, asked.time_unit), JSON, as_gzip)

            return await run(buckets)
        if kind == CSV:
            size = bounded_page_size(asked.page_size, PAGE_SIZE_MAX)

            def page(token: str, header: bool) -> tuple[bytes, str]:
                rows = services.query.rows(question, size, token)
                return rows_csv(rows, asked.time_unit, header), rows.page_token

            single = asked.page_size is not None
            return await csv_pages(request, services.workers, page, asked.page_token, single, FILE)
        size = bounded_page_size(asked.page_size)

        def rows() -> Response:
            page = services.query.rows(question, size, asked.page_token)
            if kind == ARROW:
                return answer(rows_arrow(page), ARROW, as_gzip, link_to_next(request, page.page_token))
            return answer(rows_json(page, asked.time_unit), JSON, as_gzip)

        return await run(rows)

    return router
