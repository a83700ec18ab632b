"""Errors as RFC 9457 problem details: one shape for every route."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from cloud_sync.errors import CatalogDown, NotFound, ObjectMissing, QueryInvalid, StoreDown
from cloud_sync.http_api.callers import TooManyRefusals
from cloud_sync.http_api.workers import Busy
from wire.errors import SegmentCorrupt, UnsupportedFormat

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S: dict[int, int] = {HTTPStatus.SERVICE_UNAVAILABLE: 1, HTTPStatus.TOO_MANY_REQUESTS: 60}


class InvalidParameter(BaseModel):
    """One parameter that was refused."""

    name: str
    reason: str


class Problem(BaseModel):
    """RFC 9457. `type` is stable and names the kind of problem; `detail` is for people."""

    type: str = Field(examples=["urn:tidegate:problem:query-invalid"])
    title: str
    status: int
    detail: str
    errors: list[InvalidParameter] | None = Field(None, description="With `parameter-invalid`: which ones, and why.")


# What callers do next decides the status: change the question, try again, or tell the operator.
_KINDS: tuple[tuple[type[Exception], HTTPStatus, str, str], ...] = (
    (QueryInvalid, HTTPStatus.BAD_REQUEST, "query-invalid", "The query is out of bounds"),
    (NotFound, HTTPStatus.NOT_FOUND, "not-found", "Not Found"),
    (TooManyRefusals, HTTPStatus.TOO_MANY_REQUESTS, "refused-often", "Too many wrong credentials"),
    (Busy, HTTPStatus.SERVICE_UNAVAILABLE, "busy", "Too many queries at once"),
    (CatalogDown, HTTPStatus.SERVICE_UNAVAILABLE, "catalog-down", "The catalog does not answer"),
    (StoreDown, HTTPStatus.SERVICE_UNAVAILABLE, "store-down", "The object store does not answer"),
    (ObjectMissing, HTTPStatus.SERVICE_UNAVAILABLE, "object-missing", "A stored object is gone"),
    (SegmentCorrupt, HTTPStatus.INTERNAL_SERVER_ERROR, "segment-corrupt", "A stored message is damaged"),
    (
        UnsupportedFormat,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "format-unsupported",
        "A stored message is of a newer format",
    ),
)


def problem(
    status: int, kind: str, title: str, detail: str, errors: list[InvalidParameter] | None = None
) -> JSONResponse:
    """A problem as an answer."""
    body = Problem(type=f"urn:tidegate:problem:{kind}", title=title, status=status, detail=detail, errors=errors)
    headers = {"retry-after": str(RETRY_AFTER_S[status])} if status in RETRY_AFTER_S else None
    return JSONResponse(body.model_dump(exclude_none=True), status, headers, MEDIA_TYPE)


def problem_of(error: Exception) -> JSONResponse:
    """The problem for an error of `_KINDS`, where no handler is in reach."""
    _, status, kind, title = next(each for each in _KINDS if isinstance(error, each[0]))
    return problem(status, kind, title, str(error))


def install(app: FastAPI) -> None:
    """Map every error that a route may raise."""
    for raised, status, kind, title in _KINDS:
        app.add_exception_handler(raised, _handler(status, kind, title))

    @app.exception_handler(RequestValidationError)
    async def parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        """400, with every parameter that is wrong and why."""
        errors = [
            InvalidParameter(
                name=".".join(str(part) for part in each["loc"][1:]),
                reason="unknown here; see /v1/openapi.json" if each["type"] == "extra_forbidden" else each["msg"],
            )
            for each in error.errors()
        ]
        detail = "; ".join(f"{each.name}: {each.reason}" for each in errors)
        return problem(HTTPStatus.BAD_REQUEST, "parameter-invalid", "A parameter is malformed", detail, errors)

    @app.exception_handler(HTTPException)
    @app.exception_handler(404)
    @app.exception_handler(405)
    async def http_status(request: Request, error: HTTPException) -> JSONResponse:
        kind = HTTPStatus(error.status_code).phrase
        detail = error.detail if error.detail != kind else f"{request.method} {request.url.path}: {kind}"
        answer = problem(error.status_code, kind.lower().replace(" ", "-"), kind, detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def mistake(request: Request, error: Exception) -> JSONResponse:
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal",
            "The service made a mistake",
            f"{request.method} {request.url.path} failed with {type(error).__name__}; the service's log has the rest",
        )


def _handler(status: HTTPStatus, kind: str, title: str):  # type: ignore[no-untyped-def]
    async def handle(request: Request, error: Exception) -> JSONResponse:
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s %s: %s", request.method, request.url.path, error)
        return problem(status, kind, title, str(error))

    return handle
