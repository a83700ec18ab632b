"""Answers as gzip where the reader takes it. Runs where the answer is made, on a worker thread: ten megabytes would
hold the event loop, and with it the acknowledgements, for a fifth of a second."""

from __future__ import annotations

import gzip

from fastapi import Request
from fastapi.responses import Response

BYTES_MIN = 1_024  # under this the headers weigh as much
LEVEL = 4


def takes_gzip(request: Request) -> bool:
    """Whether Accept-Encoding names gzip and does not forbid it."""
    for item in request.headers.get("accept-encoding", "").split(","):
        coding, _, weight = item.replace(" ", "").lower().partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" if weight else True
    return False


def answer(body: bytes, media_type: str, as_gzip: bool, headers: dict[str, str] | None = None) -> Response:
    """A response, compressed when it is worth it."""
    headers = {"vary": "accept-encoding", **(headers or {})}
    if as_gzip and len(body) >= BYTES_MIN:
        body = gzip.compress(body, LEVEL, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(body, media_type=media_type, headers=headers)
