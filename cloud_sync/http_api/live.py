"""Readings as they arrive, as server-sent events: each holds the new part of every bucket, as `/v1/query` gives it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from cloud_sync.auth.roles import Role
from cloud_sync.errors import CloudError
from cloud_sync.http_api.callers import TooManyRefusals
from cloud_sync.http_api.formats import TimeUnit, buckets_json
from cloud_sync.http_api.gate import client_address
from cloud_sync.http_api.roles import Shown, Who, allow
from cloud_sync.http_api.services import Services
from cloud_sync.http_api.workers import Busy
from cloud_sync.query.engine import Question
from cloud_sync.query.parameters import parse_duration
from wire.clock import US_PER_S

EVENT_STREAM = "text/event-stream"
CLIENTS_MAX = 64
CLIENTS_OF_ONE_MAX = 16  # of one token with its sessions, or of one session from a link
PERIOD_S = 1.0
HEARTBEAT_S = 15.0  # proxies commonly close what is silent for half a minute or more
AHEAD_US = 60 * US_PER_S  # a gateway's clock may be a little ahead of ours


class LiveQuery(BaseModel):
    """Parameters of `/v1/live`."""

    model_config = ConfigDict(extra="forbid")

    gateway: str = Field(description="The gateway's id.")
    series: list[str] = Field([], description="`sensor/channel`; repeat it for several; all when left out.")
    step: str = Field("1s", description="Width of a bucket, as in /v1/query.")
    window: str = Field("5m", description="How old a reading may be to be told.")
    after: str = Field("", description="`cursor` of an earlier answer; the header Last-Event-ID goes before it.")
    time_unit: TimeUnit = Field("ms", description="Epoch times.")


class Live:
    """The open streams: how many there may be, and when they end. Used from one event loop."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()
        self._open: Counter[str] = Counter()

    def close(self) -> None:
        """End every stream; called before the server waits for its answers to end."""
        self._closing.set()

    def enter(self, principal: str) -> None:
        """Take a place. Raises Busy when all are taken, or as many as one may have, or the service stops."""
        help_ = "Poll /v1/query with after instead"
        if self._open.total() >= CLIENTS_MAX or self._closing.is_set():
            raise Busy(f"{self._open.total()} live streams are open; the most is {CLIENTS_MAX}. {help_}")
        if self._open[principal] >= CLIENTS_OF_ONE_MAX:
            raise Busy(
                f"{CLIENTS_OF_ONE_MAX} live streams of this token or session are open, the most it may have. {help_}"
            )
        self._open[principal] += 1

    def leave(self, principal: str) -> None:
        """Give the place back."""
        self._open[principal] -= 1
        self._open += Counter()  # forgets who has none

    async def pause(self) -> bool:
        """Wait for the next turn; False when there is none."""
        try:
            await asyncio.wait_for(self._closing.wait(), PERIOD_S)
        except TimeoutError:
            return True
        return False


def live_routes(services: Services, live: Live) -> APIRouter:
    """`/v1/live`."""
    router = APIRouter(prefix="/v1", tags=["readings"])

    @router.get("/live", summary="Readings as they arrive", response_class=StreamingResponse)
    @allow(Role.READONLY)
    async def follow(
        asked: Annotated[LiveQuery, Query()],
        shown: Shown,
        who: Who,
        request: Request,
        last_event_id: Annotated[str, Header(alias="Last-Event-ID")] = "",
    ) -> StreamingResponse:
        """Server-sent events. The data of each is an answer of /v1/query with `step`, its id the cursor.

        The first holds the window, or what came after the cursor given. A comment every 15 s says that nothing came.
        """
        step_us, window_us = parse_duration("step", asked.step), parse_duration("window", asked.window)
        await services.workers.run(services.known, asked.gateway)

        def after(cursor: str) -> tuple[bytes, str]:
            """One event, empty when nothing is new, and the next cursor."""
            now_us = services.now_us()
            start_us = (now_us - window_us) // step_us * step_us  # whole buckets
            series = tuple(dict.fromkeys(asked.series))
            question = Question(asked.gateway, series, start_us, now_us + AHEAD_US, cursor)
            found = services.query.buckets(question, step_us)
            if cursor and not any(len(line.times) for line in found.lines):
                return b"", found.cursor
            body = buckets_json(found, asked.time_unit)
            return b"id: %s\ndata: %s\n\n" % (found.cursor.encode(), body), found.cursor

        first = await services.workers.run(after, last_event_id or asked.after)
        live.enter(who.principal)
        address = client_address(request.scope)

        async def events() -> AsyncIterator[bytes]:
            """What is new, or a comment as a sign of life, until the reader or the service goes."""
            event, cursor = first
            quiet_s = 0.0
            yield event or b": nothing new\n\n"
            while await live.pause():
                try:
                    await services.callers.caller(shown, address)  # who was let in may be out by now
                    event, cursor = await services.workers.run(after, cursor)
                except (CloudError, Busy, TooManyRefusals):
                    return  # the reader comes back with its cursor, and gets the reason then
                quiet_s = 0.0 if event else quiet_s + PERIOD_S
                if event:
                    yield event
                elif quiet_s >= HEARTBEAT_S:
                    quiet_s = 0.0
                    yield b": nothing new\n\n"

        return _Stream(events(), partial(live.leave, who.principal))

    return router


class _Stream(StreamingResponse):
    """Gives its place back however it ends: also when the reader leaves before the first event."""

    media_type = EVENT_STREAM

    def __init__(self, events: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(events, headers={"x-accel-buffering": "no"})
        self._leave = leave

    async def __call__(self, scope, receive, send):  # type: ignore[no-untyped-def]
        """See ASGI."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()
