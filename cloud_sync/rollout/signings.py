"""What offline keys signed, in the audit: each new version of the root, of targets and of a family, and by which keys.

The ceremony may be held where no catalog is. Whoever takes its result in, the service or a command beside it, notes it
before gateways are told: nothing becomes current without a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_sync.catalog.audit import Audit

KEYID_CHARS = 12  # of 64 hex digits: enough to tell the keys of one role apart


@dataclass(frozen=True, slots=True)
class Signing:
    """One version of a role. `keyids`: the keys that signed it, of those that may; `holds`: what it says."""

    role: str
    version: int
    keyids: Sequence[str]
    holds: str = ""

    @property
    def actor(self) -> str:
        """As the audit names them."""
        return "keys " + ", ".join(keyid[:KEYID_CHARS] for keyid in self.keyids)


class Signings:
    """Notes each version once, however often it is met; used from one thread at a time."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._noted: dict[str, int] = {}

    def note(self, signing: Signing) -> None:
        """Write it down. Raises CatalogDown."""
        if self._noted.get(signing.role) == signing.version:
            return
        action = "ota.keys" if signing.role in {"root", "targets"} else "ota.publish"
        detail = f"version {signing.version}{signing.holds and ': ' + signing.holds}"
        self._audit.record_once(signing.actor, action, signing.role, detail)
        self._noted[signing.role] = signing.version
