"""Errors of the agent, named by what the caller does next.

AgentError
├── ConfigInvalid        stop and tell: exit 78, systemd does not restart
│   └── ConfigUnreadable the card does not give a file now: exit 75, systemd tries again
├── StateBusy            stop and tell: another agent holds the state directory
├── StateUnusable        stop and tell: the directory cannot be written or is another's
├── JournalFull          commit at once, then try again; a loss is counted if that fails too
├── OutboxCorrupt        set the file aside and salvage it
├── OutboxFull           keep readings in the journal; retry the commit
├── LinkDown             retry with back-off
├── CredentialsRejected  retry slowly and tell: the certificate or the CA does not fit
├── JoinRefused          stop and tell: the token or the gateway is not good for what was asked
├── NotJoined            stop and tell: this device has no identity of a cloud
└── NotRunning           tell: nobody answers on the control socket
"""


class AgentError(Exception):
    """Root of the agent's errors."""


class ConfigInvalid(AgentError):
    """The configuration cannot be used. `problems` lists every one, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ConfigUnreadable(ConfigInvalid):
    """A file could not be read for no fault of those who wrote it; the next try may succeed."""


class StateBusy(AgentError):
    """Another process holds the lock of this state directory."""


class StateUnusable(AgentError):
    """The state or runtime directory cannot be created, read or written."""


class JournalFull(AgentError):
    """The ring has no room for the record until more is committed."""


class OutboxCorrupt(AgentError):
    """SQLite reports damage, or the file is not an outbox."""


class OutboxFull(AgentError):
    """The disk has no room for the transaction."""


class LinkDown(AgentError):
    """The cloud cannot be reached, or the stream ended."""


class CredentialsRejected(AgentError):
    """TLS failed, or the cloud does not accept this identity."""


class JoinRefused(AgentError):
    """The cloud answered, and said no. The message has its words."""


class NotJoined(AgentError):
    """There is no identity here to renew or give back."""


class NotRunning(AgentError):
    """No agent answers on the control socket."""
