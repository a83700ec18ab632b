"""The one door of the HTTP side: nothing passes that its route does not allow to whoever asks.

A path that is in no table of routes is answered here, so that a route that nobody declared is not reached either.
A browser sends its cookie with whatever page made it ask: what changes something must come from a page of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import quote

from fastapi.responses import RedirectResponse, Response
from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match

from cloud_sync.auth.credentials import CHARS, Credential, Kind
from cloud_sync.auth.roles import Role
from cloud_sync.errors import CatalogDown, CredentialRefused
from cloud_sync.http_api.callers import Callers, TooManyRefusals
from cloud_sync.http_api.guard import App, Receive, Scope, Send
from cloud_sync.http_api.problems import problem, problem_of
from cloud_sync.http_api.roles import ANYBODY, declared
from cloud_sync.http_api.workers import Busy

LOGIN_PATH = "/login"
LOGIN_HELP = (
    "Programs send `Authorization: Bearer TOKEN` (cloud-sync api-token create), browsers log in at /login "
    "(cloud-sync admin-link)"
)
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
COOKIE_CHARS_MAX = 4096  # of the header: all that other services on the host have set as well
REALM = 'Bearer realm="tidegate"'


def cookie_name(generation: int, scheme: str) -> str:
    """Of the session; cookies know no ports, so clouds on one host are told apart by their generation."""
    return f"{'__Host-' if scheme == 'https' else ''}tidegate-{generation:016x}"


def client_address(scope: Scope) -> str:
    """Where the request comes from, for limits and the audit."""
    return str(scope["client"][0]) if scope.get("client") else "unknown"


def is_same_origin(headers: Headers) -> bool:
    """Whether a page of this service asks, by what only the browser can say (Fetch Metadata; else Origin)."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return headers.get("origin", "").partition("://")[2] == headers.get("host")


class Gate:
    """ASGI middleware. `routes`: all there are, each with its role; `cookie`: the generation in its name."""

    def __init__(
        self, app: App, routes: Sequence[BaseRoute], callers: Callers, generation: int, registry: CollectorRegistry
    ) -> None:
        self._app = app
        self._routes = routes
        self._callers = callers
        self._generation = generation
        self._refused = Counter(
            "tidegate_http_refused", "HTTP requests refused, by reason.", ["reason"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        """None: the request may pass."""
        headers, safe = Headers(scope=scope), scope["method"] in SAFE_METHODS
        needs = self._needs(scope)
        if needs == ANYBODY:
            return None if safe or is_same_origin(headers) else self._foreign()
        shown = self._shown(headers, scope["scheme"])
        try:
            if shown is None:
                raise CredentialRefused("no token and no session came with the request")
            caller = await self._callers.caller(shown, client_address(scope))
        except CredentialRefused as error:
            return self._stranger(scope, headers, str(error), refused=shown is not None)
        except (TooManyRefusals, CatalogDown, Busy) as error:
            self._refused.labels("unanswered").inc()
            return problem_of(error)
        if needs is None:
            path = f"{scope['method']} {scope['path'][:200]}"
            return problem(HTTPStatus.NOT_FOUND, "not-found", "Not Found", f"{path}: Not Found")
        if caller.role < needs:
            self._refused.labels("role").inc()
            detail = f"this needs the role {Role(needs).word}, {caller.actor} has {caller.role.word}"
            return problem(HTTPStatus.FORBIDDEN, "role-missing", "Not allowed", detail)
        if shown.kind is Kind.SESSION and not safe and not is_same_origin(headers):
            return self._foreign()
        scope["caller"], scope["shown"] = caller, shown
        return None

    def _needs(self, scope: Scope) -> int | None:
        """What the route asks for that the router will take; None where there is no such path."""
        partial: BaseRoute | None = None
        for route in self._routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return declared(route)
            if match is Match.PARTIAL:
                partial = partial or route
        return None if partial is None else declared(partial)

    def _shown(self, headers: Headers, scheme: str) -> Credential | None:
        """The token, else the session."""
        scheme_word, _, text = headers.get("authorization", "")[: CHARS + 32].partition(" ")
        if scheme_word.lower() == "bearer":
            return Credential.parse(text.strip(), Kind.TOKEN)
        cookies = headers.get("cookie", "")
        if len(cookies) > COOKIE_CHARS_MAX:
            return None
        wanted = cookie_name(self._generation, scheme) + "="
        values = [pair.strip()[len(wanted) :] for pair in cookies.split(";") if pair.strip().startswith(wanted)]
        return Credential.parse(values[0], Kind.SESSION) if len(values) == 1 else None

    def _stranger(self, scope: Scope, headers: Headers, why: str, *, refused: bool) -> Response:
        """A page leads to the login; everything else is told how."""
        self._refused.labels("credential" if refused else "anonymous").inc()
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            query = scope["query_string"].decode("latin-1")
            there = scope["path"] + (f"?{query}" if query else "")
            return RedirectResponse(f"{LOGIN_PATH}?next={quote(there, safe='/')}", HTTPStatus.SEE_OTHER)
        answer = problem(HTTPStatus.UNAUTHORIZED, "credential-missing", "Who asks?", f"{why}. {LOGIN_HELP}")
        answer.headers["www-authenticate"] = f'{REALM}, error="invalid_token"' if refused else REALM
        return answer

    def _foreign(self) -> Response:
        self._refused.labels("origin").inc()
        detail = "A page of another site asked for a change with this browser's session; programs send a token"
        return problem(HTTPStatus.FORBIDDEN, "origin-foreign", "Not from a page of this service", detail)
