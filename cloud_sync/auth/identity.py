"""Which gateway a client certificate stands for: one URI among its alternative names, `urn:tidegate:gateway:<id>`."""

from __future__ import annotations

import re
from collections.abc import Iterable

URN_PREFIX = "urn:tidegate:gateway:"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class IdentityRefused(Exception):
    """The certificate is ours, but names no gateway."""


def check_gateway_id(gateway_id: str) -> str:
    """Return the id. Raises ValueError unless it is 1 to 63 of a-z, 0-9 and '-', not starting with '-'."""
    if not _ID.fullmatch(gateway_id):
        raise ValueError(f"gateway id {gateway_id[:80]!r} must be 1 to 63 of a-z 0-9 -, not starting with '-'")
    return gateway_id


def gateway_of(uris: Iterable[str]) -> str:
    """The gateway that a certificate with these URIs belongs to. Raises IdentityRefused with the reason."""
    found = [uri.removeprefix(URN_PREFIX) for uri in uris if uri.startswith(URN_PREFIX)]
    if len(found) != 1:
        raise IdentityRefused(
            f"the certificate names {len(found)} gateways ({URN_PREFIX}ID among its URIs), exactly 1 is needed. "
            "Try: cloud-sync cert issue ID"
        )
    try:
        return check_gateway_id(found[0])
    except ValueError as error:
        raise IdentityRefused(f"the certificate is for no gateway: {error}") from error
