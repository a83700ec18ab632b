"""What offline keys sign: the root, the targets role that only delegates, families, and their releases.

A family's releases stand in its own role (`models/FAMILY/*`, terminating), signed by a threshold of its team's keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from securesystemslib.signer import Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from cloud_sync.errors import KeyUnusable, RepositoryUnusable
from cloud_sync.rollout.repository import FAMILY_LIFE, LIFE, Delegator, Repository, Signed, is_signed, now_of
from wire.clock import Clock
from wire.release import Release, check_family

HASH = "sha256"
DIRECTOR = "x-tidegate-director"  # a field of the root, as `edge_agent.ota.trust` reads it


@dataclass(frozen=True, slots=True)
class Quorum:
    """The keys of a role, and how many of them must sign."""

    signers: Sequence[Signer]
    threshold: int

    def __post_init__(self) -> None:
        """Raises RepositoryUnusable when the threshold cannot be reached."""
        if not 1 <= self.threshold <= len(self.signers):
            raise RepositoryUnusable(f"a threshold of {self.threshold} with {len(self.signers)} keys")


class Ceremony:
    """Changes that need offline keys; each is one new version of one role, stored when a threshold signed it."""

    def __init__(self, repository: Repository, clock: Clock) -> None:
        self._repository = repository
        self._clock = clock

    def begin(self, root: Quorum, targets: Quorum, online: Mapping[str, Signer]) -> bytes:
        """Make the first root and an empty targets role. Returns the root, which gateways are given.

        `online`: the service's keys of snapshot, timestamp and director.

        Raises:
            RepositoryUnusable: there is a repository already.
        """
        if "root" in self._repository.versions():
            raise RepositoryUnusable("there is a repository already. Try: edge-ota key rotate")
        content = Root(expires=now_of(self._clock) + LIFE["root"], consistent_snapshot=True)
        content.unrecognized_fields[DIRECTOR] = director_keys([online["director"]])
        tuf = {role: Quorum([online[role]], 1) for role in ("snapshot", "timestamp")}
        for role, quorum in {"root": root, "targets": targets, **tuf}.items():
            for signer in quorum.signers:
                content.add_key(signer.public_key, role)
            content.roles[role].threshold = quorum.threshold
        first = self._sign(content, root.signers)
        self._store("root", first, first)
        empty = Targets(expires=now_of(self._clock) + LIFE["targets"])
        self._store("targets", self._sign(empty, targets.signers), first)
        return first.to_bytes()

    def add_family(self, family: str, team: Quorum, targets: Sequence[Signer]) -> None:
        """Delegate `models/FAMILY/*` to a team's keys, or to other keys than before.

        Raises:
            ReleaseInvalid: the name.
            KeyUnusable: `targets` are fewer than the threshold of that role's keys.
        """
        check_family(family)
        root = self._repository.root()
        content = self._repository.targets().signed
        if content.delegations is None:
            content.delegations = Delegations({}, {})
        assert content.delegations.roles is not None
        role = DelegatedRole(family, [], team.threshold, True, paths=[f"models/{family}/*/*"])
        content.delegations.roles[family] = role
        for signer in team.signers:
            content.add_key(signer.public_key, family)
        self._drop_unused_keys(content)
        self._renew(content, LIFE["targets"])
        metadata = self._sign(content, targets)
        self._store("targets", metadata, root)
        versions = self._repository.versions()
        releases = self._repository.targets(family).signed if family in versions else Targets()
        releases.version = versions.get(family, 0)
        self._renew(releases, FAMILY_LIFE)
        self._store(family, self._sign(releases, team.signers), metadata)

    def rotate(self, role: str, quorum: Quorum, root_signers: Sequence[Signer]) -> None:
        """Give a top-level role or the Director other keys. For the root itself `root_signers` are the old keys.

        Targets are signed anew by the new keys; snapshot and timestamp are left to the service.
        Raises:
            KeyUnusable: a threshold of the root's keys did not sign.
        """
        old = self._repository.root()
        content = self._repository.root().signed
        if role == "director":
            content.unrecognized_fields[DIRECTOR] = director_keys(quorum.signers)
        else:
            for keyid in list(content.roles[role].keyids):
                content.revoke_key(keyid, role)
            for signer in quorum.signers:
                content.add_key(signer.public_key, role)
            content.roles[role].threshold = quorum.threshold
        self._renew(content, LIFE["root"])
        signers = [*root_signers, *(quorum.signers if role == "root" else ())]
        new = self._sign(content, signers)
        if not is_signed(old, "root", new):
            raise KeyUnusable(f"{old.signed.roles['root'].threshold} of the root's keys must sign; fewer did")
        self._store("root", new, new)
        if role == "targets":
            targets = self._repository.targets().signed
            self._renew(targets, LIFE["targets"])
            self._store("targets", self._sign(targets, quorum.signers), new)

    def release(
        self, release: Release, files: Mapping[str, bytes], team: Sequence[Signer], tell: Callable[[int], None]
    ) -> None:
        """Sign a release into its family's role, after its files are in the store; `tell` gets each one's bytes.

        Raises:
            RepositoryUnusable: no such family, or the counter is not the next one.
            KeyUnusable: fewer than the threshold of the family's keys.
        """
        delegator = self._repository.targets()
        content = self.releases(release.family)
        if release.counter != content.counter_next:
            raise RepositoryUnusable(f"{release.name} is not the next release, {content.counter_next} is. Try: again")
        targets = content.targets
        entries = {release.file_target(name): data for name, data in files.items()}
        document = TargetFile.from_data(release.target, release.document(), [HASH])
        document.unrecognized_fields["custom"] = release.custom()
        targets.targets[release.target] = document
        targets.targets |= {path: TargetFile.from_data(path, data, [HASH]) for path, data in entries.items()}
        self._renew(targets, FAMILY_LIFE)
        metadata = self._sign(targets, team)
        self._check(release.family, metadata, delegator)
        for path, data in {**entries, release.target: release.document()}.items():
            self._repository.write_target(path, hashlib.sha256(data).hexdigest(), data)
            tell(len(data))
        self._repository.write(release.family, metadata)

    def releases(self, family: str) -> FamilyReleases:
        """What a family has. Raises RepositoryUnusable when there is no such family."""
        known = {one.family: one for one in families_of(self._repository)}
        if family not in known:
            raise RepositoryUnusable(
                f"no family {family!r}; there is {', '.join(known) or 'none'}. Try: edge-ota key init --family {family}"
            )
        return known[family]

    def _renew(self, content: Root | Targets, life: timedelta) -> None:
        content.version += 1
        content.expires = now_of(self._clock) + life

    def _sign(self, content: Root | Targets, signers: Sequence[Signer]) -> Signed:
        metadata: Signed = Metadata(content)
        for signer in signers:
            try:
                metadata.sign(signer, append=True)
            except UnsignedMetadataError as error:
                raise KeyUnusable(str(error.__cause__ or error)) from error
        return metadata

    def _store(self, role: str, metadata: Signed, delegator: Delegator) -> None:
        self._check(role, metadata, delegator)
        self._repository.write(role, metadata)

    @staticmethod
    def _check(role: str, metadata: Signed, delegator: Delegator) -> None:
        if not is_signed(delegator, role, metadata):
            needed = delegator.signed.get_delegated_role(role)
            raise KeyUnusable(
                f"{needed.threshold} of the {len(needed.keyids)} keys of {role} must sign; fewer were given"
            )

    @staticmethod
    def _drop_unused_keys(content: Targets) -> None:
        assert content.delegations is not None
        used = {keyid for role in (content.delegations.roles or {}).values() for keyid in role.keyids}
        for keyid in content.delegations.keys.keys() - used:
            del content.delegations.keys[keyid]


@dataclass(frozen=True, slots=True)
class FamilyReleases:
    """A family's role."""

    family: str
    targets: Targets

    @property
    def counters(self) -> list[int]:
        """Releases, oldest first."""
        names = (path.split("/") for path in self.targets.targets if path.endswith("/release.json"))
        return sorted(int(parts[2]) for parts in names if len(parts) == 4 and parts[2].isdigit())

    @property
    def counter_next(self) -> int:
        """The next release's counter."""
        return max(self.counters, default=0) + 1


def families_of(repository: Repository) -> list[FamilyReleases]:
    """Every family that is delegated to."""
    delegations = repository.targets().signed.delegations
    names = list(delegations.roles or {}) if delegations else []
    return [FamilyReleases(name, repository.targets(name).signed) for name in names]


def director_keys(signers: Sequence[Signer]) -> dict[str, str]:
    """What the root says of the Director: key id → Ed25519 public key, in hex."""
    return {signer.public_key.keyid: str(signer.public_key.keyval["public"]) for signer in signers}
