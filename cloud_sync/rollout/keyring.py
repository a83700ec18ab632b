"""A folder of sealed keys, as a ceremony leaves it: `ROLE-1.key`, `ROLE-2.key`, and so on."""

from __future__ import annotations

from pathlib import Path

from securesystemslib.signer import CryptoSigner

from cloud_sync.errors import KeyUnusable
from cloud_sync.rollout.ceremony import Quorum
from cloud_sync.rollout.keys import create_key, load_key


class Keyring:
    """One folder, one passphrase for all of its keys."""

    def __init__(self, folder: Path, passphrase: str | None) -> None:
        self.folder = folder
        self._passphrase = passphrase

    def beside(self, folder: Path) -> Keyring:
        """Another folder with the same passphrase."""
        return Keyring(folder, self._passphrase)

    def create(self, role: str, count: int, threshold: int) -> Quorum:
        """Make a role's keys. Raises KeyUnusable when one is there already, or the passphrase is missing or short."""
        if self._passphrase is None:
            raise KeyUnusable("a passphrase is needed to seal keys. Try: EDGE_OTA_PASSPHRASE")
        paths = [self._path(role, number) for number in range(1, count + 1)]
        there = [path for path in paths if path.exists()]
        if there:
            raise KeyUnusable(f"{there[0]} is there already and is not overwritten. Try: another folder")
        return Quorum([create_key(path, self._passphrase) for path in paths], threshold)

    def load(self, role: str) -> list[CryptoSigner]:
        """All keys of a role that lie here. Raises KeyUnusable when there is none."""
        paths = sorted(self.folder.glob(f"{role}-[0-9]*.key"))
        if not paths:
            raise KeyUnusable(
                f"{self._path(role, 1)} is missing: a key of {role} is needed. Try: another --keys folder"
            )
        return [load_key(path, self._passphrase) for path in paths]

    def _path(self, role: str, number: int) -> Path:
        return self.folder / f"{role}-{number}.key"
