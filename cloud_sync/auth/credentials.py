"""What people and programs show over HTTP, as text: `KIND.ID.SECRET`. The catalog keeps a hash of the secret."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from enum import Enum

from wire.join import secret_hash

ID_BYTES = 6
SECRET_BYTES = 20  # 160 bits: guessing is hopeless, so a plain hash is enough to store


class Kind(Enum):
    """Its value begins the text, so that people (and scanners of leaked secrets) know what they see."""

    TOKEN = "tga1"  # noqa: S105 - a prefix, not a secret
    LINK = "tgl1"
    SESSION = "tgs1"

    @property
    def word(self) -> str:
        """As people and the catalog write it."""
        return "api-token" if self is Kind.TOKEN else self.name.lower()


_TEXT = re.compile(rf"(tg[als]1)\.([0-9a-f]{{{2 * ID_BYTES}}})\.([0-9a-f]{{{2 * SECRET_BYTES}}})", re.ASCII)
CHARS = 4 + 1 + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES


@dataclass(frozen=True, slots=True)
class Credential:
    """One. `str` gives the text; `repr` hides the secret."""

    kind: Kind
    id: str
    secret: str

    @classmethod
    def new(cls, kind: Kind) -> Credential:
        """A fresh one."""
        return cls(kind, secrets.token_hex(ID_BYTES), secrets.token_hex(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str, *kinds: Kind) -> Credential | None:
        """None unless it is one of these kinds; looks at no more than a credential's length."""
        match = _TEXT.fullmatch(text) if len(text) == CHARS else None
        if match is None or Kind(match[1]) not in kinds:
            return None
        return cls(Kind(match[1]), match[2], match[3])

    @property
    def secret_sha256(self) -> bytes:
        """What is kept of the secret."""
        return secret_hash(self.secret)

    def __str__(self) -> str:
        return f"{self.kind.value}.{self.id}.{self.secret}"

    def __repr__(self) -> str:
        return f"Credential({self.kind.name}, id={self.id!r})"
