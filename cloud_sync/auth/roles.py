"""What somebody who asks over HTTP may do. Each role may what the ones before it may."""

from __future__ import annotations

from enum import IntEnum


class Role(IntEnum):
    """Numbers are kept in the catalog."""

    READONLY = 1  # look at everything but secrets and the audit
    OPERATOR = 2  # and act on the fleet: approve, revoke, roll out, test
    ADMIN = 3  # and read the audit

    @property
    def word(self) -> str:
        """As people write it."""
        return self.name.lower()
