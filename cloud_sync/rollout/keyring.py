"""A folder of keys, sealed or on tokens, as a ceremony leaves it: `ROLE-1.key`, `ROLE-2.key`, and so on."""

from __future__ import annotations

from pathlib import Path

from securesystemslib.signer import Signer

from cloud_sync.errors import KeyUnusable
from cloud_sync.rollout.ceremony import Quorum
from cloud_sync.rollout.keys import create_key
from cloud_sync.rollout.token_keys import Pin, note_token_key, signer_in, token_file


class Keyring:
    """One folder, one passphrase for all of its keys."""

    def __init__(self, folder: Path, passphrase: str | None, pin: Pin) -> None:
        self.folder = folder
        self._passphrase = passphrase
        self._pin = pin

    def beside(self, folder: Path) -> Keyring:
        """Another folder with the same passphrase."""
        return Keyring(folder, self._passphrase, self._pin)

    def create(self, role: str, count: int, threshold: int) -> Quorum:
        """Make a role's keys; those on tokens that were written down before are among them.

        Raises KeyUnusable when a sealed one is there already, or the passphrase is missing or short.
        """
        paths = [self._path(role, number) for number in range(1, count + 1)]
        fresh = [path for path in paths if token_file(path) is None]
        if fresh and self._passphrase is None:
            raise KeyUnusable("a passphrase is needed to seal keys. Try: EDGE_OTA_PASSPHRASE")
        there = [path for path in fresh if path.exists()]
        if there:
            raise KeyUnusable(f"{there[0]} is there already and is not overwritten. Try: another folder")
        signers = [
            create_key(path, self._passphrase) if path in fresh else signer_in(path, None, self._pin) for path in paths
        ]
        return Quorum(signers, threshold)

    def note_token(self, role: str, module: Path, key_id: int, label: str | None) -> Path:
        """Write down a key on a token as the next of a role. Raises KeyUnusable."""
        number = 1 + sum(1 for _ in self.folder.glob(f"{role}-[0-9]*.key"))
        path = self._path(role, number)
        note_token_key(path, module, key_id, label, self._pin)
        return path

    def load(self, role: str) -> list[Signer]:
        """All keys of a role that lie here. Raises KeyUnusable when there is none."""
        paths = sorted(self.folder.glob(f"{role}-[0-9]*.key"))
        if not paths:
            raise KeyUnusable(
                f"{self._path(role, 1)} is missing: a key of {role} is needed. Try: another --keys folder"
            )
        return [signer_in(path, self._passphrase, self._pin) for path in paths]

    def _path(self, role: str, number: int) -> Path:
        return self.folder / f"{role}-{number}.key"
