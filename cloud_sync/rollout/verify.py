"""Does a repository hold together? Every signature from a root that is trusted, every file by length and hash."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from cloud_sync.errors import CloudError, ConfigInvalid, ObjectMissing
from cloud_sync.rollout.publish import release_of
from cloud_sync.rollout.repository import Repository, Signed, is_signed
from wire.release import ReleaseInvalid


def read_root(path: Path) -> Metadata[Root]:
    """A root that is trusted because somebody brought it. Raises ConfigInvalid when the file is none."""
    try:
        root = Metadata.from_bytes(path.read_bytes())
    except (DeserializationError, OSError) as error:
        raise ConfigInvalid(f"{path} is no root: {error}") from error
    if not isinstance(root.signed, Root):
        raise ConfigInvalid(f"{path} is {root.signed.type}, no root")
    return root


def problems(repository: Repository, trusted: Metadata[Root], now: datetime) -> Iterator[str]:
    """What a gateway that trusts this root would refuse, one sentence each; nothing when all is well."""
    root = trusted
    for version in range(trusted.signed.version + 1, repository.versions().get("root", 0) + 1):
        following = repository.read("root", version)
        if not is_signed(root, "root", following) or not is_signed(following, "root", following):
            yield f"root {version} is not signed by the keys of root {root.signed.version} and its own"
            return
        root = following
    yield from _expired("root", root, now)
    timestamp = repository.timestamp()
    snapshot = repository.snapshot(timestamp.signed.snapshot_meta.version)
    targets = repository.targets("targets", snapshot.signed.meta["targets.json"].version)
    signed: dict[str, Signed] = {"timestamp": timestamp, "snapshot": snapshot, "targets": targets}
    for role, metadata in signed.items():
        if not is_signed(root, role, metadata):
            yield f"{role} is not signed by the keys that the root names"
        yield from _expired(role, metadata, now)
    for family in targets.signed.delegations.roles or {} if targets.signed.delegations else {}:
        yield from _family(repository, targets, family, snapshot, now)


def _family(repository: Repository, targets: Signed, family: str, snapshot: Signed, now: datetime) -> Iterator[str]:
    meta = snapshot.signed.meta.get(f"{family}.json")
    if meta is None:
        yield f"{family} is delegated to, the snapshot does not name it"
        return
    metadata = repository.targets(family, meta.version)
    if not is_signed(targets, family, metadata):
        yield f"{family} is not signed by a threshold of its keys"
    yield from _expired(family, metadata, now)
    for path, entry in metadata.signed.targets.items():
        try:
            entry.verify_length_and_hashes(repository.read_target(path, entry.hashes["sha256"]))
        except ObjectMissing:
            yield f"{path} is signed, and missing in the store"
        except LengthOrHashMismatchError as error:
            yield f"{path} is damaged: {error}"
    counters = {int(path.split("/")[2]) for path in metadata.signed.targets if path.endswith("/release.json")}
    for counter in sorted(counters):
        try:
            release = release_of(repository, family, counter)
        except (CloudError, ReleaseInvalid) as error:
            yield f"{family}/{counter}: {error}"
            continue
        for name, ref in release.files.items():
            file = metadata.signed.targets.get(release.file_target(name))
            if file is None or (file.hashes["sha256"], file.length) != (ref.sha256, ref.length):
                yield f"{release.name}: {name} is not the file that the release names"


def _expired(role: str, metadata: Signed, now: datetime) -> Iterator[str]:
    if metadata.signed.expires <= now:
        yield f"{role} {metadata.signed.version} expired at {metadata.signed.expires.isoformat()}"
