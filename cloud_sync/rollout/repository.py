"""The repository of releases on the object store: TUF metadata with consistent snapshots, and the files that it names.

```
ota/metadata/N.root.json  N.targets.json  N.FAMILY.json  N.snapshot.json   never change
ota/metadata/timestamp.json                                                the one object that is replaced
ota/targets/models/FAMILY/COUNTER/SHA256.NAME                              never change
```
Any web server or CDN can serve it; nothing in it is secret but the models.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from cloud_sync.errors import ObjectMissing, RepositoryUnusable
from cloud_sync.storage.object_store import ObjectStore
from wire.clock import NS_PER_S, Clock

METADATA = "ota/metadata/"
TARGETS = "ota/targets/"
LIFE = {  # until a role must be signed again
    "root": timedelta(days=365),
    "targets": timedelta(days=182),
    "snapshot": timedelta(days=7),
    "timestamp": timedelta(hours=24),
}
FAMILY_LIFE = timedelta(days=182)
Signed = Metadata[Any]  # of any role
Delegator = Metadata[Root] | Metadata[Targets]


class Repository:
    """Reads and writes what was signed; holds no key. Raises StoreDown beside what is said."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def versions(self) -> dict[str, int]:
        """The newest version of each role that is there; timestamp left out."""
        found: dict[str, int] = {}
        for key in self._store.list(METADATA):
            number, dot, rest = key.removeprefix(METADATA).partition(".")
            if dot and number.isdigit() and rest.endswith(".json"):
                role = rest.removesuffix(".json")
                found[role] = max(found.get(role, 0), int(number))
        return found

    def require(self) -> None:
        """Raises RepositoryUnusable, with the command that helps, unless there is a root."""
        if "root" not in self.versions():
            raise RepositoryUnusable("there is no repository of releases here. Try: edge-ota key init")

    def root(self) -> Metadata[Root]:
        """The newest root."""
        self.require()
        return cast("Metadata[Root]", self.read("root"))

    def targets(self, role: str = "targets", version: int | None = None) -> Metadata[Targets]:
        """A targets role, the newest unless a version is given."""
        return cast("Metadata[Targets]", self.read(role, version))

    def snapshot(self, version: int | None = None) -> Metadata[Snapshot]:
        """A snapshot, the newest unless a version is given."""
        return cast("Metadata[Snapshot]", self.read("snapshot", version))

    def timestamp(self) -> Metadata[Timestamp]:
        """The timestamp."""
        return cast("Metadata[Timestamp]", self._parse("timestamp.json"))

    def read(self, role: str, version: int | None = None) -> Signed:
        """A role's metadata. Raises RepositoryUnusable when it is not there or no metadata."""
        version = version or self.versions().get(role, 0)
        return self._parse(f"{version}.{role}.json")

    def _parse(self, name: str) -> Signed:
        try:
            return Metadata.from_bytes(self._store.get(METADATA + name))
        except ObjectMissing as error:
            raise RepositoryUnusable(f"{name} is not in the repository. Try: edge-ota key init") from error
        except DeserializationError as error:
            raise RepositoryUnusable(f"{name} is damaged: {error}") from error

    def bytes_of(self, role: str, version: int) -> bytes:
        """A role's file as it was signed."""
        return self._store.get(f"{METADATA}{version}.{role}.json")

    def write(self, role: str, metadata: Signed) -> None:
        """Store a version. Other bytes under a version that is there are refused."""
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        if role != "timestamp" and self.versions().get(role, 0) >= metadata.signed.version:
            raise RepositoryUnusable(f"{name} is there already: somebody else signed it meanwhile. Try: again")
        self._store.put(METADATA + name, metadata.to_bytes())

    def write_target(self, path: str, sha256: str, data: bytes) -> None:
        """Store a target under its name with its hash."""
        self._store.put(self._target_key(path, sha256), data)

    def read_target(self, path: str, sha256: str) -> bytes:
        """A target's bytes. Raises ObjectMissing."""
        return self._store.get(self._target_key(path, sha256))

    def drop_snapshots(self, before: int) -> None:
        """Delete snapshots older than this version: no timestamp that is valid names them."""
        for key in list(self._store.list(METADATA)):
            number, _, rest = key.removeprefix(METADATA).partition(".")
            if rest == "snapshot.json" and number.isdigit() and int(number) < before:
                self._store.delete(key)

    @staticmethod
    def _target_key(path: str, sha256: str) -> str:
        folder, slash, name = path.rpartition("/")
        return f"{TARGETS}{folder}{slash}{sha256}.{name}"


def is_signed(delegator: Delegator, role: str, metadata: Signed) -> bool:
    """Whether a threshold of the delegator's keys for the role signed it."""
    try:
        delegator.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError):
        return False
    return True


def now_of(clock: Clock) -> datetime:
    """The wall clock, whole seconds: metadata has no finer ones."""
    return datetime.fromtimestamp(clock.wall_ns() // NS_PER_S, UTC)
