"""Exit codes (sysexits.h where it has one) and which error leads to which."""

from __future__ import annotations

import sys

from edge_agent.errors import (
    AgentError,
    ConfigInvalid,
    ConfigUnreadable,
    CredentialsRejected,
    LinkDown,
    NotJoined,
    NotRunning,
    OutboxCorrupt,
    StateBusy,
)

OK = 0
FAILED = 1
USAGE = 2
NOT_RUNNING = 3
NOT_JOINED = 4
TRY_AGAIN = 75  # EX_TEMPFAIL
CONFIG = 78  # EX_CONFIG: systemd does not restart (RestartPreventExitStatus)

CODES: tuple[tuple[type[AgentError], int], ...] = (
    (ConfigUnreadable, TRY_AGAIN),
    (ConfigInvalid, CONFIG),
    (CredentialsRejected, CONFIG),
    (NotRunning, NOT_RUNNING),
    (NotJoined, NOT_JOINED),
    (LinkDown, TRY_AGAIN),
    (StateBusy, TRY_AGAIN),
    (OutboxCorrupt, TRY_AGAIN),
)


def code_of(error: AgentError) -> int:
    """The exit code of an error that ends a command."""
    return next((code for kind, code in CODES if isinstance(error, kind)), FAILED)


def fail(error: AgentError) -> int:
    """Say it on stderr, one line per problem, and return the exit code."""
    for line in str(error).splitlines():
        print(f"edge-agent: {line}" if not isinstance(error, ConfigInvalid) else line, file=sys.stderr)
    return code_of(error)
