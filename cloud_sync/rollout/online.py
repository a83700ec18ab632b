"""What the service signs: snapshot and timestamp, with two keys that can install nothing.

A family's new file in the store becomes part of a snapshot once a threshold of its keys signed it. Both roles are
signed again long before they expire. Replicas may do it at the same time: snapshots of one version say the
same.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from cloud_sync.errors import KeyUnusable, RepositoryUnusable
from cloud_sync.rollout.ceremony import FamilyReleases
from cloud_sync.rollout.keys import load_key
from cloud_sync.rollout.repository import LIFE, Delegator, Repository, Signed, is_signed, now_of
from cloud_sync.rollout.signings import Signing
from wire.clock import Clock

log = logging.getLogger(__name__)

SIGNED_AT = "x-tidegate-signed-at"  # a floor to the clocks of gateways, as `edge_agent.ota.trust` reads it
ROLES = ("snapshot", "timestamp")
SNAPSHOTS_KEPT = 8  # for gateways that are in the middle of a refresh


@dataclass(frozen=True, slots=True)
class Resigned:
    """What one round did. `refused`: role → why its newest file is not in the snapshot."""

    snapshot: int = 0  # the new version, 0 = not signed anew
    timestamp: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def load_online_keys(folder: Path) -> dict[str, Signer]:
    """The service's keys, by role. Raises KeyUnusable."""
    return {role: load_key(online_key(folder, role), None) for role in ROLES}


def online_key(folder: Path, role: str) -> Path:
    """Where the service's key for a role lies."""
    return folder / f"{role}.key"


class OnlineRoles:
    """Keeps snapshot and timestamp of a repository current.

    `note` is told of each role's version that offline keys signed, at every round, before it is in a snapshot.
    """

    def __init__(
        self, repository: Repository, signers: Mapping[str, Signer], clock: Clock, note: Callable[[Signing], None]
    ) -> None:
        self._repository = repository
        self._signers = signers
        self._clock = clock
        self._note = note

    def tick(self) -> Resigned:
        """Take in what was signed since, and sign again what is past half of its life.

        Raises:
            KeyUnusable: the root does not name our keys.
            RepositoryUnusable: there is no repository, or the clock is behind what was signed last.
            StoreDown, and what `note` raises.
        """
        root = self._repository.root()
        for role in ROLES:
            if self._signers[role].public_key.keyid not in root.signed.roles[role].keyids:
                raise KeyUnusable(f"the root does not name this service's {role} key. Try: edge-ota key rotate {role}")
        self._tell("root", root, root)
        versions = self._repository.versions()
        refused: dict[str, str] = {}
        meta = self._meta(root, versions, refused)
        snapshot = self._snapshot(root, versions, meta)
        timestamp = self._timestamp(root, snapshot or versions["snapshot"])
        return Resigned(snapshot, timestamp, refused)

    def _meta(self, root: Metadata[Root], versions: Mapping[str, int], refused: dict[str, str]) -> dict[str, MetaFile]:
        """The newest good file of each targets role; never one older than the last snapshot names."""
        named = self._repository.snapshot().signed.meta if "snapshot" in versions else {}
        targets = self._newest("targets", root, versions, named, refused)
        families = list(targets.signed.delegations.roles or {}) if targets.signed.delegations else []
        self._tell("targets", targets, root, ", ".join(families))
        meta = {"targets.json": self._file("targets", targets)}
        for family in families:
            try:
                newest = self._newest(family, targets, versions, named, refused)
                counters = FamilyReleases(family, newest.signed).counters
                self._tell(family, newest, targets, f"up to {family}/{counters[-1]}" if counters else "")
                meta[f"{family}.json"] = self._file(family, newest)
            except RepositoryUnusable as error:
                refused[family] = str(error)
                if f"{family}.json" in named:
                    meta[f"{family}.json"] = named[f"{family}.json"]
        return {**{name: one for name, one in named.items() if name not in meta}, **meta}

    def _tell(self, role: str, metadata: Signed, delegator: Delegator, holds: str = "") -> None:
        """Note a version, with those of its delegator's keys whose signatures on it are good."""
        found = delegator.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        self._note(Signing(role, metadata.signed.version, sorted(found.signed), holds))

    def _newest(
        self,
        role: str,
        delegator: Delegator,
        versions: Mapping[str, int],
        named: Mapping[str, MetaFile],
        refused: dict[str, str],
    ) -> Metadata[Targets]:
        least = named[f"{role}.json"].version if f"{role}.json" in named else 1
        for version in range(versions.get(role, 0), least - 1, -1):
            metadata = self._repository.targets(role, version)
            if isinstance(metadata.signed, Targets) and is_signed(delegator, role, metadata):
                return metadata
            refused[role] = f"{version}.{role}.json is not signed by a threshold of its keys"
        raise RepositoryUnusable(f"no file of {role} is signed by a threshold of its keys")

    def _file(self, role: str, metadata: Metadata[Targets]) -> MetaFile:
        data = self._repository.bytes_of(role, metadata.signed.version)
        return MetaFile(metadata.signed.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def _snapshot(self, root: Metadata[Root], versions: Mapping[str, int], meta: dict[str, MetaFile]) -> int:
        now = now_of(self._clock)
        version = versions.get("snapshot", 0)
        if version:
            old = self._repository.snapshot(version)
            fresh = old.signed.expires - now > LIFE["snapshot"] / 2
            if fresh and old.signed.meta == meta and is_signed(root, "snapshot", old):
                return 0
        new = Metadata(Snapshot(version + 1, expires=now + LIFE["snapshot"], meta=meta))
        new.sign(self._signers["snapshot"])
        self._repository.write("snapshot", new)
        self._repository.drop_snapshots(version + 2 - SNAPSHOTS_KEPT)
        return version + 1

    def _timestamp(self, root: Metadata[Root], snapshot: int) -> int:
        now = now_of(self._clock)
        version = 0
        try:
            old = self._repository.timestamp()
        except RepositoryUnusable:
            old = None
        if old is not None:
            version = old.signed.version
            named = old.signed.snapshot_meta.version
            fresh = old.signed.expires - now > LIFE["timestamp"] / 2
            if fresh and named >= snapshot and is_signed(root, "timestamp", old):
                return 0
            said = str(old.signed.unrecognized_fields.get(SIGNED_AT, ""))
            if said > now.isoformat():
                raise RepositoryUnusable(
                    f"the last timestamp was signed at {said}, it is {now.isoformat()}. Try: the time of this machine"
                )
        new = Timestamp(version + 1, expires=now + LIFE["timestamp"], snapshot_meta=MetaFile(snapshot))
        new.unrecognized_fields[SIGNED_AT] = now.isoformat()
        metadata = Metadata(new)
        metadata.sign(self._signers["timestamp"])
        self._repository.write("timestamp", metadata)
        return version + 1
