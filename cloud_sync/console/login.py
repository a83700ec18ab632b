"""Logging in and out: a link or a token opens a session, whose cookie pages and their scripts then send."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import RedirectResponse, Response

from cloud_sync.auth.credentials import Credential, Kind
from cloud_sync.auth.roles import Role
from cloud_sync.catalog.people import Caller
from cloud_sync.console.pages import HTML, Pages
from cloud_sync.errors import CredentialRefused
from cloud_sync.http_api.callers import TooManyRefusals
from cloud_sync.http_api.gate import LOGIN_PATH, client_address, cookie_name
from cloud_sync.http_api.roles import Shown, Who, allow, allow_anybody
from cloud_sync.http_api.services import Services
from wire.clock import US_PER_S

FIELDS_MAX = 4
_LOCAL = re.compile(r"/(?![/\\])[^\x00-\x20\\]{0,2000}")  # a path of ours: no other host, no header


def login_routes(services: Services, pages: Pages) -> APIRouter:
    """`/login` and `/logout`."""
    router = APIRouter(include_in_schema=False)

    @router.get(LOGIN_PATH)
    @allow_anybody
    async def ask(link: str = "", next_: Annotated[str, Query(alias="next")] = "/") -> Response:
        """A link does nothing before somebody presses the button: programs that look at links do not use them up."""
        return Response(pages.login(link[:200], _local(next_)), media_type=HTML)

    @router.post(LOGIN_PATH)
    @allow_anybody
    async def login(request: Request) -> Response:
        """Fields: `link` or `token`, and `next`."""
        fields = await _fields(request)
        there = _local(fields.get("next", "/"))
        text = (fields.get("link") or fields.get("token", "")).strip()
        shown = Credential.parse(text, Kind.LINK, Kind.TOKEN)
        try:
            session, caller = await services.callers.open_session(shown, client_address(request.scope))
        except (CredentialRefused, TooManyRefusals) as error:
            limited = isinstance(error, TooManyRefusals)
            status = HTTPStatus.TOO_MANY_REQUESTS if limited else HTTPStatus.UNAUTHORIZED
            return Response(pages.login("", there, str(error)), status, media_type=HTML)
        answer = RedirectResponse(there, HTTPStatus.SEE_OTHER)
        _set_cookie(answer, request, services, str(session), caller)
        return answer

    @router.post("/logout")
    @allow(Role.READONLY)
    async def logout(request: Request, who: Who, shown: Shown) -> Response:
        """End the session."""
        if shown.kind is not Kind.SESSION:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "A token is no session. Try: cloud-sync api-token revoke")
        await services.callers.end_session(shown, who)
        answer = RedirectResponse(LOGIN_PATH, HTTPStatus.SEE_OTHER)
        _set_cookie(answer, request, services, "", None)
        return answer

    return router


async def _fields(request: Request) -> dict[str, str]:
    """Of a form. The guard has bounded the body."""
    body = (await request.body()).decode("latin-1")
    try:
        return dict(parse_qsl(body, max_num_fields=FIELDS_MAX))
    except ValueError as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"The form has over {FIELDS_MAX} fields") from error


def _local(there: str) -> str:
    return there if _LOCAL.fullmatch(there) else "/"


def _set_cookie(answer: Response, request: Request, services: Services, value: str, caller: Caller | None) -> None:
    """For pages of this service alone: not for scripts, and not with what other sites post."""
    scheme = request.url.scheme
    age_s = 0 if caller is None else (caller.expires_us - services.now_us()) // US_PER_S
    answer.set_cookie(
        cookie_name(services.catalog.generation(), scheme),
        value,
        max_age=max(age_s, 0),
        path="/",
        secure=scheme == "https",
        httponly=True,
        samesite="lax",
    )
