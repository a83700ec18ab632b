"""The CAs that a gateway trusts, as both ends name them: a PEM file of one or more, and a digest of it."""

from __future__ import annotations

import hashlib

BUNDLE_BYTES_MAX = 16 << 10  # a P-256 CA takes about 700


def bundle_digest(bundle: bytes) -> int:
    """What Hello says of the file: 63 bits of its SHA-256, never 0."""
    return int.from_bytes(hashlib.sha256(bundle).digest()[:8], "big") >> 1 or 1
