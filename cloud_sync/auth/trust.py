"""What gateways are told when they connect: whom to trust, and whether to get a certificate of another CA."""

from __future__ import annotations

from dataclasses import dataclass, field

from wire.trust import bundle_digest


@dataclass(frozen=True, slots=True)
class Trust:
    """`bundle`: the CAs, PEM. `signer`: key identifier of the one that signs gateways; empty: none that is here."""

    bundle: bytes
    signer: bytes = b""
    _digest: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_digest", bundle_digest(self.bundle))

    def news(self, seen: int) -> bytes:
        """The bundle for a gateway whose Hello named another one; empty for the same one, and for who named none."""
        return self.bundle if seen not in (0, self._digest) else b""

    def is_outgoing(self, issuer: bytes) -> bool:
        """Is this the key identifier of a CA that does not sign any more?"""
        return bool(self.signer and issuer) and issuer != self.signer
