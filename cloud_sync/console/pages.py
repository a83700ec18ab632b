"""The console's pages and their assets."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from cloud_sync.auth.roles import Role
from cloud_sync.catalog.people import Caller
from cloud_sync.console import views, words
from cloud_sync.console.alarm_views import alarm_views, alarms_text
from cloud_sync.console.assets import Assets
from cloud_sync.errors import QueryInvalid
from cloud_sync.http_api.compress import answer, takes_gzip
from cloud_sync.http_api.roles import Who, allow, allow_anybody
from cloud_sync.http_api.services import Services
from cloud_sync.query.parameters import parse_time

FLEET_PAGE_SIZE = 200
HTML = "text/html; charset=utf-8"
ASSET_CACHE = "public, max-age=31536000, immutable"  # the URL changes with the content


@dataclass(frozen=True, slots=True)
class Visit:
    """Who looks at a page, and where it is for them."""

    origin: str
    caller: Caller

    @classmethod
    def of(cls, request: Request, caller: Caller) -> Visit:
        """The visit that a request is."""
        return cls(f"{request.url.scheme}://{request.url.netloc}", caller)

    def curl(self, path: str) -> str:
        """The same from a program."""
        return f"curl -H \"Authorization: Bearer $TOKEN\" '{self.origin}{path}'"


def console_routes(services: Services, pages: Pages) -> APIRouter:
    """`/`, `/gateways/{gateway}` and `/assets/{name}`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @allow(Role.READONLY)
    async def fleet(request: Request, who: Who, page: Annotated[int, Query(ge=1)] = 1) -> Response:
        def render() -> Response:
            return answer(pages.fleet(page, Visit.of(request, who)).encode(), HTML, takes_gzip(request))

        return await services.workers.run(render)

    @router.get("/gateways/{gateway}")
    @allow(Role.READONLY)
    async def gateway(
        request: Request, who: Who, gateway: str, window: str = views.WINDOW_DEFAULT, end: str = ""
    ) -> Response:
        def render() -> Response:
            html, status = pages.gateway(gateway, window, end, Visit.of(request, who))
            response = answer(html.encode(), HTML, takes_gzip(request))
            response.status_code = status
            return response

        return await services.workers.run(render)

    @router.get("/assets/{name}")
    @allow_anybody
    async def asset(request: Request, name: str) -> Response:
        found = pages.assets.get(name)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no asset {name[:40]!r}")
        return answer(found.body, found.media_type, takes_gzip(request), {"cache-control": ASSET_CACHE})

    return router


class Pages:
    """Renders pages. Every method blocks and may run on any thread."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.assets = Assets()
        self._templates = Environment(
            loader=PackageLoader("cloud_sync.console"),
            autoescape=select_autoescape(default=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["asset"] = self.assets.url

    def fleet(self, page: int, visit: Visit) -> str:
        """The fleet list; with no gateway yet, what to do."""
        rows = self._services.catalog.gateways()
        now_ms = self._services.now_us() // 1000
        first = (page - 1) * FLEET_PAGE_SIZE
        accounts = self._services.catalog.accounts()
        shown = [self._services.describe(row, accounts.get(row.id)) for row in rows[first : first + FLEET_PAGE_SIZE]]
        lasting = self._services.catalog.active_alarms()
        online, pending = sum(map(self._services.is_online, rows)), sum(each.pending for each in accounts.values())
        summary = views.fleet_summary(len(rows), online, pending)
        if lasting:
            summary += f", {alarms_text(sum(lasting.values()))}"
        return self._templates.get_template("fleet.html").render(
            rows=[views.fleet_row(gateway, now_ms, lasting.get(gateway.id, 0)) for gateway in shown],
            summary=summary,
            known=len(rows),
            page=page,
            pages=-(-len(rows) // FLEET_PAGE_SIZE),
            caller=visit.caller,
            curl=visit.curl("/v1/gateways"),
        )

    def gateway(self, gateway: str, window: str, end: str, visit: Visit) -> tuple[str, HTTPStatus]:
        """One gateway's page; 404 for an unknown one, 400 for a window that is none."""
        if self._services.catalog.gateway(gateway) is None:
            text = f"No gateway {gateway[:80]!r} has ever connected."
            return self._missing("Unknown gateway", text, visit), HTTPStatus.NOT_FOUND
        if window not in views.WINDOWS:
            text = f"There is no window {window[:20]!r}: take {', '.join(views.WINDOWS)}."
            return self._missing("Unknown window", text, visit), HTTPStatus.BAD_REQUEST
        try:
            end_us = parse_time("end", end, self._services.now_us()) if end else None
        except QueryInvalid as error:
            return self._missing("Unknown time", str(error), visit), HTTPStatus.BAD_REQUEST
        end_ms = None if end_us is None else end_us // 1000
        return self._gateway(gateway, views.WINDOWS[window], end_ms, visit), HTTPStatus.OK

    def login(self, link: str, next_: str, error: str = "") -> str:
        """Where people say who they are. `next_`: the page after that."""
        return self._templates.get_template("login.html").render(link=link, next=next_, error=error, caller=None)

    def _missing(self, title: str, text: str, visit: Visit) -> str:
        return self._templates.get_template("missing.html").render(title=title, text=text, caller=visit.caller)

    def _gateway(self, gateway: str, window: views.Window, end_ms: int | None, visit: Visit) -> str:
        services = self._services
        row = services.known(gateway)
        now_ms = services.now_us() // 1000
        latest = services.query.latest(row)
        latest.sort(key=lambda each: each.line.name)
        charts = views.charts([each.line for each in latest])
        newest_us = max((each.time_us for each in latest if each.time_us is not None), default=None)
        names = list(dict.fromkeys(line.name for chart in charts for line in chart.lines))
        shown_to_ms = now_ms if end_ms is None else end_ms
        csv = views.api_path(gateway, names, window, end_ms, format="csv")
        api = views.api_path(gateway, names, window, end_ms, step=f"{window.step_ms // 1000}s")
        from_ms = shown_to_ms - window.span_ms
        alarms, more_alarms = alarm_views(services.catalog, gateway, from_ms, shown_to_ms, now_ms)
        active = services.catalog.active_alarms().get(gateway, 0)
        return self._templates.get_template("gateway.html").render(
            gateway=views.fleet_row(services.describe(row), now_ms, active),
            active_alarms=alarms_text(active) if active else "",
            alarms=alarms,
            more_alarms=more_alarms,
            alarms_api=f"/v1/alarms?gateway={quote(gateway, safe='')}",
            series=[views.latest_row(each, now_ms) for each in latest],
            ledger=views.ledger_rows(services.ledger(gateway)),
            charts=charts,
            left_out=len(latest) - sum(len(chart.lines) for chart in charts),
            names=names,
            windows=views.WINDOWS.values(),
            window=window,
            end=None if end_ms is None else words.rfc3339(end_ms),
            end_ms=end_ms,
            now_ms=now_ms,
            path=f"/gateways/{quote(gateway, safe='')}",
            out_of_view=newest_us is not None and not from_ms <= newest_us // 1000 <= shown_to_ms + window.span_ms,
            newest="" if newest_us is None else words.rfc3339(newest_us // 1000 + window.span_ms // 20),
            csv=csv,
            api=api,
            caller=visit.caller,
            curl=visit.curl(api),
            ledger_api=f"/v1/gateways/{quote(gateway, safe='')}/ledger",
        )
