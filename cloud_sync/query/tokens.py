"""Opaque tokens: a reader's place, bound to the question it belongs to."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cloud_sync.errors import QueryInvalid
from wire.series import content_id

TOKEN_LENGTH_MAX = 512
_NUMBER_MAX = 1 << 63


def question_id(*parts: str) -> int:
    """What a token is bound to: a hash of the question as it was asked."""
    return content_id(json.dumps(parts).encode())


def pack_token(question: int, *place: int | str) -> str:
    """A URL-safe token for this place within this question."""
    text = json.dumps([question, *place], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unpack_token(name: str, token: str, question: int, *kinds: type) -> list[int | str]:
    """Inverse of `pack_token`; `kinds` are the types the place must have. Raises QueryInvalid for any other token."""
    try:
        if len(token) > TOKEN_LENGTH_MAX:
            raise ValueError("too long")
        parts = json.loads(urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4)))
        if not isinstance(parts, list) or [type(p) for p in parts] != [int, *kinds]:
            raise ValueError("not ours")
        if any(abs(p) >= _NUMBER_MAX for p in parts if isinstance(p, int)):
            raise ValueError("out of range")
    except ValueError as error:
        raise QueryInvalid(f"{name} {token[:20]!r} is not one this service gave out. Ask without it first") from error
    if parts[0] != question:
        raise QueryInvalid(f"{name} belongs to another question. Repeat it with the same parameters as the first page")
    return parts[1:]
