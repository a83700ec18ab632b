"""Who is at the other end of a connection, and whether that one is still welcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc.aio

from cloud_sync.auth.authority import serial_and_issuer
from cloud_sync.auth.identity import IdentityRefused, gateway_of
from cloud_sync.catalog.access import Access

T = TypeVar("T")
RunBlocking = Callable[[Callable[[], Any]], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway, by the certificate it showed; `serial` is hex, `issuer` the key identifier of the CA."""

    gateway: str
    serial: str
    issuer: bytes = b""


class Gatekeeper:
    """Every RPC on the gateways' port passes here first. `run_blocking` runs a call off the event loop."""

    def __init__(self, access: Access, run_blocking: RunBlocking) -> None:
        self._access = access
        self._run_blocking = run_blocking

    async def admit(self, context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
        """TLS has already checked who signed the certificate, and its dates.

        Raises IdentityRefused (it names no gateway), AccessDenied (revoked, replaced, given back), CatalogDown.
        """
        peer = peer_of(context.auth_context())
        await self.recheck(peer)
        return peer

    async def recheck(self, peer: Peer) -> None:
        """Raises AccessDenied, CatalogDown."""
        await self._run_blocking(lambda: self._access.authorise(peer.gateway, peer.serial))

    async def changed(self, gateways: set[str], since_us: int) -> tuple[list[str], int]:
        """See `Access`. Raises CatalogDown."""
        found: tuple[list[str], int] = await self._run_blocking(lambda: self._access.changed(gateways, since_us))
        return found


def peer_of(facts: Any) -> Peer:
    """From gRPC's auth context. Raises IdentityRefused."""
    gateway = gateway_of(uri.decode("utf-8", "replace") for uri in facts.get("peer_uri", ()))
    certificates = facts.get("x509_pem_cert", ())
    try:
        return Peer(gateway, *serial_and_issuer(certificates[0]))
    except (IndexError, ValueError) as error:
        raise IdentityRefused("the certificate cannot be read") from error
