"""The Director: signs what one gateway shall run, for one stream. Its key can only choose among signed releases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cloud_sync.catalog.assignments import Desired
from wire.assignment import LIFE_S, Assignment, seal
from wire.clock import NS_PER_US, US_PER_S, Clock

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner

ROLE = "director"


class Director:
    """Reads its key from the service's folder when it first needs it, and again when the file was replaced."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path = folder / f"{ROLE}.key"
        self._clock = clock
        self._key: CryptoSigner | None = None
        self._key_of = 0

    @property
    def has_key(self) -> bool:
        """Without one (no repository of releases yet) nothing is assigned."""
        return self._path.exists()

    def document(self, gateway: str, nonce: bytes, desired: Desired) -> bytes:
        """A document that is good for six hours on the stream with this nonce. Raises KeyUnusable."""
        signer = self._signer()
        now_us = self._clock.wall_ns() // NS_PER_US
        told = Assignment(gateway, desired.counter, desired.releases, now_us, now_us + LIFE_S * US_PER_S, nonce)
        return seal(told, signer.public_key.keyid, lambda data: bytes.fromhex(signer.sign(data).signature))

    def _signer(self) -> CryptoSigner:
        from cloud_sync.rollout.keys import load_key  # with TUF's key model: only where there is a repository

        changed = self._path.stat().st_mtime_ns if self._path.exists() else 0
        if self._key is None or changed != self._key_of:
            self._key = load_key(self._path, None)
            self._key_of = changed
        return self._key
