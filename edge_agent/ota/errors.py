"""Errors of updates, named by what the caller does next. Each has a `reason`: a stable code for reports.

AgentError
└── OtaError
    ├── MetadataRejected  alarm, try later: not signed as it must be, rolled back, expired, mixed or damaged
    ├── TargetUnknown     tell: no trusted role names this target
    ├── TargetRejected    try another mirror: the bytes are not the signed ones
    ├── FetchFailed       try another mirror, then later
    │   └── FileMissing   the server has no such file
    └── StorageFailed     keep what is there; try again when the disk works
"""

from __future__ import annotations

import errno
from pathlib import Path

from edge_agent.errors import AgentError

PASSING = frozenset(  # reasons that heal by themselves, or by people elsewhere: tried again
    {"unreachable", "too_slow", "cut_short", "held", "no_space", "disk", "missing", "busy", "ended", "no_root"}
    | {"mismatch", "expired", "rollback", "signature", "malformed", "too_long", "target_mismatch", "target_unknown"}
    | {"few_rows"}
)


class OtaError(AgentError):
    """Root of what can go wrong with an update. `reason` is a code of lower-case words with underscores."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class MetadataRejected(OtaError):
    """Metadata that is not trusted. Nothing of it was stored.

    Reasons: `malformed`, `signature`, `rollback`, `expired`, `mismatch`, `too_long`, `no_root`.
    """


class TargetUnknown(OtaError):
    """No role that the delegations lead to names the target."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "target_unknown")


class TargetRejected(OtaError):
    """Length or hash of a downloaded file are not those that were signed."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "target_mismatch")


class FetchFailed(OtaError):
    """A file could not be fetched. Reasons: `unreachable`, `too_slow`, `too_long`, `cut_short`, `refused`."""


class FileMissing(FetchFailed):
    """The server says that it does not have the file (404, or 403 as object stores answer for a missing key)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "missing")


class StorageFailed(OtaError):
    """The disk refused a step. Reasons: `no_space`, `disk`."""

    @classmethod
    def of(cls, path: Path, error: OSError) -> StorageFailed:
        """What the system said about `path`."""
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return cls(f"{path}: {error.strerror or error}", "no_space" if full else "disk")
