"""A copy of the repository in a folder, for gateways without a network: on a USB stick, good for some days.

Snapshot and timestamp of the copy are signed with the versions that the repository has and a longer life: a gateway
that is online again later goes on as if it had never been away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from cloud_sync.errors import RepositoryUnusable
from cloud_sync.rollout.repository import Repository, Signed, now_of
from wire.clock import Clock
from wire.durable import write_new


def export(
    repository: Repository,
    signers: Mapping[str, Signer],
    clock: Clock,
    folder: Path,
    families: Iterable[str],
    days: int,
    tell: Callable[[int], None],
) -> int:
    """Write `metadata/` and `targets/` into the folder, with the releases of these families (all, when none is named).

    `tell` gets the bytes of each file as it is written. Returns how many files there are.
    Raises:
        RepositoryUnusable: no such family, or the folder cannot be written or has a copy already.
    """
    files = dict(_metadata(repository, signers, clock, days))
    wanted = set(families)
    snapshot = repository.snapshot(repository.timestamp().signed.snapshot_meta.version)
    known = {name.removesuffix(".json") for name in snapshot.signed.meta} - {"targets"}
    if unknown := wanted - known:
        raise RepositoryUnusable(f"no family {min(unknown)}; there is {', '.join(sorted(known)) or 'none'}")
    for family in sorted(wanted or known):
        content = repository.targets(family, snapshot.signed.meta[f"{family}.json"].version).signed
        files |= _targets(repository, content)
    for name, data in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_new(path, data, 0o644)
        except FileExistsError as error:
            raise RepositoryUnusable(f"{path} is there already. Try: an empty folder") from error
        except OSError as error:
            raise RepositoryUnusable(f"{path}: {error.strerror}") from error
        tell(len(data))
    return len(files)


def _metadata(
    repository: Repository, signers: Mapping[str, Signer], clock: Clock, days: int
) -> Iterable[tuple[str, bytes]]:
    versions = repository.versions()
    for version in range(1, versions["root"] + 1):
        yield f"metadata/{version}.root.json", repository.bytes_of("root", version)
    until = now_of(clock) + timedelta(days=days)
    timestamp = repository.timestamp().signed
    snapshot = repository.snapshot(timestamp.snapshot_meta.version).signed
    timestamp.expires = snapshot.expires = until
    yield f"metadata/{snapshot.version}.snapshot.json", _resigned(snapshot, signers["snapshot"])
    yield "metadata/timestamp.json", _resigned(timestamp, signers["timestamp"])
    for name, meta in snapshot.meta.items():
        yield f"metadata/{meta.version}.{name}", repository.bytes_of(name.removesuffix(".json"), meta.version)


def _resigned(content: Snapshot | Timestamp, signer: Signer) -> bytes:
    metadata: Signed = Metadata(content)
    metadata.sign(signer)
    return metadata.to_bytes()


def _targets(repository: Repository, content: Targets) -> dict[str, bytes]:
    found = {}
    for path, entry in content.targets.items():
        folder, _, name = path.rpartition("/")
        found[f"targets/{folder}/{entry.hashes['sha256']}.{name}"] = repository.read_target(
            path, entry.hashes["sha256"]
        )
    return found
