"""The account that the agent runs as, and what it may do with a file: the doctor may be run by another."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

PACKAGED_FILE = Path("/etc/edge-agent/edge-agent.toml")
PACKAGED_USER = "edge-agent"


@dataclass(frozen=True, slots=True)
class Account:
    """A user with its groups."""

    name: str
    uid: int
    gids: frozenset[int]

    @classmethod
    def named(cls, name: str) -> Account:
        """Raises KeyError for a user that is not there."""
        entry = pwd.getpwnam(name)
        return cls(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))

    @classmethod
    def of(cls, uid: int) -> Account:
        """Of a number, which need have no name."""
        try:
            return cls.named(pwd.getpwuid(uid).pw_name)
        except KeyError:
            return cls(str(uid), uid, frozenset())

    def may(self, path: Path, wanted: int) -> bool:
        """Whether it may do to the path what `wanted` says (os.R_OK, W_OK and X_OK together).

        For this process' own user the kernel is asked; for another the modes of the file and of the folders above it
        are read, and access lists (acl(5)) are not. Raises OSError for what cannot be looked at.
        """
        if self.uid == os.geteuid():
            return os.access(path, wanted, effective_ids=True)
        if self.uid == 0:
            return True
        real = path.resolve(strict=True)
        return self._allows(real, wanted) and all(self._allows(parent, os.X_OK) for parent in real.parents)

    def _allows(self, path: Path, wanted: int) -> bool:
        found = path.stat()
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.gids else 0
        return stat.S_IMODE(found.st_mode) >> shift & wanted == wanted


def account_of(name: str, file: Path, state_dir: Path, control: Path | None) -> Account:
    """Whose files and rights are looked at.

    `name` where one was given; else who owns the running agent's socket `control`; else the package's user for the
    package's configuration; else, for root, the owner of the state directory; else the present user. Raises KeyError.
    """
    if name:
        return Account.named(name)
    if control is not None:
        return Account.of(control.stat().st_uid)
    if file.absolute() == PACKAGED_FILE:
        try:
            return Account.named(PACKAGED_USER)
        except KeyError:
            pass
    uid = os.geteuid()
    return Account.of(state_dir.stat().st_uid if uid == 0 and state_dir.exists() else uid)
