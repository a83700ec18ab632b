"""Which gateway a client certificate stands for: one URI among its alternative names, `urn:tidegate:gateway:<id>`."""

from __future__ import annotations

from collections.abc import Iterable

from wire.join import URN_PREFIX, check_gateway_id


class IdentityRefused(Exception):
    """The certificate is ours, but names no gateway."""


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
