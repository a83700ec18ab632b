"""A TUF repository in memory that can break every rule: what it serves is signed anew at each request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from edge_agent.ota.errors import FetchFailed, FileMissing
from edge_agent.ota.fetch import Body

METADATA = "https://repo.example/metadata"
TARGETS = "https://repo.example/targets"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOP = ("root", "timestamp", "snapshot", "targets")


class MemoryBody:
    """All bytes of a file from an offset on."""

    def __init__(self, data: bytes, offset: int, validator: str = "") -> None:
        self.offset = offset
        self.validator = validator
        self._rest = data[offset:]
        self.read_bytes = 0

    def read(self, most: int) -> bytes:
        data, self._rest = self._rest[:most], self._rest[most:]
        self.read_bytes += len(data)
        return data


class Repository:
    """Keys, metadata and targets; the four top-level roles have a key each. Itself a `Fetcher` of what it holds."""

    def __init__(self, *, consistent: bool = True) -> None:
        expires = NOW + timedelta(days=30)
        self.root = Root(expires=expires, consistent_snapshot=consistent)
        self.timestamp = Timestamp(expires=expires)
        self.snapshot = Snapshot(expires=expires)
        self.targets = Targets(expires=expires)
        self.delegated: dict[str, Targets] = {}
        self.signers: dict[str, list[Signer]] = {}
        self.roots: list[bytes] = []
        self.artifacts: dict[str, bytes] = {}
        self.served: dict[str, bytes] = {}  # path → bytes that stand in for what would be served
        self.requests: list[str] = []
        self.hashes = False  # whether snapshot and timestamp name lengths and hashes
        self.down = False
        for role in TOP:
            self.rotate(role)
        self.publish_root()

    def rotate(self, role: str, signer: Signer | None = None) -> Signer:
        """Give a top-level role another key, its only one."""
        signer = signer or CryptoSigner.generate_ed25519()
        self.root.roles[role].keyids.clear()
        self.signers[role] = []
        return self.add_key(role, signer)

    def add_key(self, role: str, signer: Signer | None = None) -> Signer:
        """One more key for a top-level role, which signs too."""
        signer = signer or CryptoSigner.generate_ed25519()
        self.root.add_key(signer.public_key, role)
        self.signers[role].append(signer)
        return signer

    def publish_root(self, *, version: int | None = None) -> bytes:
        """Sign the root as it stands, as the next version."""
        self.root.version = version or len(self.roots) + 1
        self.roots.append(self.signed("root", self.root))
        return self.roots[-1]

    def delegate(
        self,
        child: str,
        parent: str = "targets",
        *,
        paths: tuple[str, ...] = ("*",),
        terminating: bool = False,
        threshold: int = 1,
    ) -> Targets:
        """A role under another, in the order of calls; the same child may stand under several parents."""
        signers = self.signers.setdefault(child, [CryptoSigner.generate_ed25519()])
        delegator = self.content(parent)
        assert isinstance(delegator, Targets)
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, {})
        assert delegator.delegations.roles is not None
        delegator.delegations.roles[child] = DelegatedRole(child, [], threshold, terminating, paths=list(paths))
        for signer in signers:
            delegator.add_key(signer.public_key, child)
        return self.delegated.setdefault(child, Targets(expires=NOW + timedelta(days=30)))

    def delegate_bins(self, bits: int, prefix: str) -> None:
        """Hash bins under targets (TAP 15), one key for all."""
        signer = CryptoSigner.generate_ed25519()
        roles = SuccinctRoles([signer.public_key.keyid], 1, bits, prefix)
        self.targets.delegations = Delegations({signer.public_key.keyid: signer.public_key}, succinct_roles=roles)
        for name in roles.get_roles():
            self.signers[name] = [signer]
            self.delegated[name] = Targets(expires=NOW + timedelta(days=30))

    def add_target(self, name: str, data: bytes, role: str = "targets") -> None:
        """A target file that a role names."""
        content = self.content(role)
        assert isinstance(content, Targets)
        content.targets[name] = TargetFile.from_data(name, data)
        self.artifacts[name] = data

    def publish(self, *bumped: str) -> None:
        """Bump these targets roles, then a new snapshot and timestamp name what there is."""
        for role in bumped:
            self.content(role).version += 1
        names = {"targets": self.targets, **self.delegated}
        self.snapshot.meta = {f"{role}.json": self._meta(role, content) for role, content in names.items()}
        self.snapshot.version += 1
        self.publish_timestamp()

    def publish_timestamp(self) -> None:
        """A new timestamp names the snapshot as it stands."""
        self.timestamp.snapshot_meta = self._meta("snapshot", self.snapshot)
        self.timestamp.version += 1

    def content(self, role: str) -> Signed:
        """What would be signed for a role now."""
        top = {"root": self.root, "timestamp": self.timestamp, "snapshot": self.snapshot, "targets": self.targets}
        return {**self.delegated, **top}[role]

    def signed(self, role: str, content: Signed) -> bytes:
        """The file, signed by all signers of the role."""
        metadata = Metadata(content)
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def _meta(self, role: str, content: Signed) -> MetaFile:
        if not self.hashes:
            return MetaFile(content.version)
        data = self.signed(role, content)
        return MetaFile(content.version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})

    def file(self, path: str) -> bytes:
        """What is served under `metadata/...` or `targets/...`. Raises FileMissing."""
        kind, _, name = path.partition("/")
        if path in self.served:
            return self.served[path]
        if kind == "targets":
            wanted = unquote(name)
            folder, slash, last = wanted.rpartition("/")
            plain = f"{folder}{slash}{last.partition('.')[2]}" if self.root.consistent_snapshot else wanted
            if plain in self.artifacts:
                return self.artifacts[plain]
            raise FileMissing(path)
        stem = name.removesuffix(".json")
        number, dot, rest = stem.partition(".")
        version, role = (int(number), unquote(rest)) if dot and number.isdigit() else (None, unquote(stem))
        if role == "root" and version is not None:
            if 1 <= version <= len(self.roots):
                return self.roots[version - 1]
            raise FileMissing(path)
        try:
            return self.signed(role, self.content(role))
        except KeyError as error:
            raise FileMissing(path) from error

    @contextmanager
    def open(self, url: str, offset: int = 0, validator: str = "") -> Iterator[Body]:
        """See `Fetcher`."""
        path = url.removeprefix("https://repo.example/")
        self.requests.append(path)
        if self.down:
            raise FetchFailed(f"{url}: connection refused", "unreachable")
        yield MemoryBody(self.file(path), offset)

    def roles_asked(self) -> list[str]:
        """Metadata roles in the order in which they were asked for, and forget them."""
        asked = [path.removeprefix("metadata/").removesuffix(".json") for path in self.requests if path[0] == "m"]
        self.requests.clear()
        return [name.partition(".")[2] if name.partition(".")[0].isdigit() else name for name in asked]


def quoted(role: str) -> str:
    """A role's file name in the client's folder."""
    return f"{quote(role, '')}.json"
