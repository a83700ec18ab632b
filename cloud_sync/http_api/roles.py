"""Each route says who may use it; `Gate` holds callers to it, and a service with a route that does not say so does
not start.

    @router.post("/v1/rollouts/{name}/pause")
    @allow(Role.OPERATOR)
    async def pause(name: str, who: Who) -> ...:
        ...  # in the transaction of the change: audit_rows.record(connection, who.actor, "rollout.pause", name)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from starlette.routing import BaseRoute

from cloud_sync.auth.credentials import Credential
from cloud_sync.auth.roles import Role
from cloud_sync.catalog.people import Caller

Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

ANYBODY = 0  # below every role
_ATTRIBUTE = "tidegate_role"


def allow(role: Role) -> Callable[[Endpoint], Endpoint]:
    """The endpoint is for this role and those above it. Stands below the route's own decorator."""
    return lambda endpoint: _mark(endpoint, role)


def allow_anybody(endpoint: Endpoint) -> Endpoint:
    """The endpoint asks for no credential: it tells nothing about the fleet."""
    return _mark(endpoint, ANYBODY)


def _mark(endpoint: Endpoint, role: int) -> Endpoint:
    setattr(endpoint, _ATTRIBUTE, int(role))
    return endpoint


def declared(route: BaseRoute) -> int | None:
    """The least role that a route asks for: ANYBODY, a Role's number, or None when it does not say."""
    return getattr(getattr(route, "endpoint", None), _ATTRIBUTE, None)


def require_declared(routes: list[BaseRoute]) -> None:
    """A route without a role is our mistake: it must not be served."""
    silent = [getattr(route, "path", repr(route)) for route in routes if declared(route) is None]
    assert not silent, f"no role is declared for {', '.join(silent)}. Try: @allow(Role.…) below the route"


def _caller(request: Request) -> Caller:
    caller = request.scope["caller"]
    assert isinstance(caller, Caller), "only routes that ask for a role know who asks"
    return caller


def _shown(request: Request) -> Credential:
    shown = request.scope["shown"]
    assert isinstance(shown, Credential), "only routes that ask for a role know what was shown"
    return shown


# As parameters of an endpoint: who asks, and by what.
Who = Annotated[Caller, Depends(_caller)]
Shown = Annotated[Credential, Depends(_shown)]
