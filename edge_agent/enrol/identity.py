"""What a join leaves in the state directory: who this gateway is, at which cloud, and with which files.

`identity/` holds `join.json`, `ca.pem`, `device.pem` (key and certificate in one file, so that both change at once) and
`assigned.toml`, the first configuration. What is begun and not ended has other names.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_agent.errors import StateUnusable
from wire.join import join_address

FOLDER = "identity"
BEGUN = "identity.new"
ASSIGNED = "assigned.toml"
FILE_BYTES_MAX = 256 << 10


@dataclass(frozen=True, slots=True)
class JoinFacts:
    """The content of `join.json`."""

    gateway: str
    host: str  # of the cloud
    sync_port: int
    enrol_port: int
    server_name: str  # in the cloud's certificate, where it is not the host
    valid_from_s: int  # of the certificate, since 1970
    valid_until_s: int
    labels: dict[str, str]
    token: str = ""  # id of the one that was joined with


@dataclass(frozen=True, slots=True)
class Identity:
    """A joined gateway's files, under its state directory."""

    folder: Path
    facts: JoinFacts

    @property
    def ca(self) -> Path:
        """CAs that sign the cloud's certificate, PEM."""
        return self.folder / "ca.pem"

    @property
    def device(self) -> Path:
        """Key and certificate, PEM, 0600."""
        return self.folder / "device.pem"

    @property
    def next_key(self) -> Path:
        """The key that a renewal is about, before its certificate has come."""
        return self.folder / "next.pem"

    @property
    def assigned(self) -> Path:
        """The cloud's first configuration, TOML; there may be none."""
        return self.folder / ASSIGNED

    @property
    def url(self) -> str:
        """Of the gateways' port."""
        return f"https://{join_address(self.facts.host, self.facts.sync_port)}"


def identity_of(state_dir: Path) -> Identity | None:
    """The identity that was joined here; None where none was, or for somebody who may not look.

    Raises StateUnusable when it is damaged, or when the card does not give it: then the cause is an OSError.
    """
    folder = state_dir / FOLDER
    path = folder / "join.json"
    try:
        document = json.loads(path.read_bytes()[:FILE_BYTES_MAX])
        return Identity(folder, facts_from(document))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        raise StateUnusable(f"{path} cannot be read: {error.strerror or error}. Try: journalctl -k") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateUnusable(
            f"{path} is damaged ({error}). Try: edge-agent leave --force, then edge-agent join with a new token"
        ) from error


def facts_from(document: Any) -> JoinFacts:
    """Raises ValueError, KeyError, TypeError or AttributeError for anything else than what `facts_json` wrote."""
    labels = {str(name): str(value) for name, value in document["labels"].items()}
    told = {"token": "", **document}
    facts = JoinFacts(**{name: told[name] for name in JoinFacts.__dataclass_fields__})
    texts = facts.gateway, facts.host, facts.server_name, facts.token
    numbers = facts.sync_port, facts.enrol_port, facts.valid_from_s, facts.valid_until_s
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(number, int) for number in numbers):
        raise TypeError("a value of another kind")
    return replace(facts, labels=labels)


def facts_json(facts: JoinFacts) -> bytes:
    """As it stands in the file."""
    return json.dumps({"schema_version": 1, **asdict(facts)}, indent=1).encode() + b"\n"
