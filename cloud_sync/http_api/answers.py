"""Which format a caller wants, and answers of many pages as one CSV."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from cloud_sync.http_api.workers import Workers

JSON = "application/json"
CSV = "text/csv"
CSV_TYPE = "text/csv; charset=utf-8; header=present"

_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")  # RFC 9110, 12.4.2

CsvPage = Callable[[str, bool], tuple[bytes, str]]  # page token, with header? -> lines, next token


def preferred(request: Request, offers: Sequence[str]) -> str:
    """The offer the Accept header weighs highest (RFC 9110, 12.5.1); the first when none is named."""
    weights = dict.fromkeys(offers, 0.0)
    for item in request.headers.get("accept", "").split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        if media in weights:
            weights[media] = float(weight) if _WEIGHT.fullmatch(weight) else 0.0
    return max(offers, key=lambda offer: weights[offer])


def named(file: str) -> dict[str, str]:
    """The header that names a file to save the answer as."""
    return {"content-disposition": f'inline; filename="{file}"'}


def link_to_next(request: Request, token: str) -> dict[str, str]:
    """The header that leads to the next page (RFC 8288); none on the last."""
    if not token:
        return {}
    url = request.url.include_query_params(page_token=token)
    return {"link": f'<{url.path}?{url.query}>; rel="next"'}


async def csv_pages(
    request: Request, workers: Workers, page: CsvPage, first_token: str, single: bool, file: str
) -> Response:
    """One page with a Link to the next, or all pages as a stream. The first page's errors have a status."""
    body, following = await workers.run(page, first_token, True)
    if single:
        return Response(body, media_type=CSV_TYPE, headers=named(file) | link_to_next(request, following))

    async def stream() -> AsyncIterator[bytes]:
        yield body
        token = following
        while token:
            more, token = await workers.run(page, token, False)
            yield more

    return StreamingResponse(stream(), media_type=CSV_TYPE, headers=named(file))
