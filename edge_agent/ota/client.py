"""The update client: brings the repository's metadata here, trusts only what is signed, downloads what that names.

It follows the client workflow of the TUF specification (1.0.34, section 5) with a persistence of its own: each file is
whole or absent after a crash at any step, and the next refresh goes on from what is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from tuf.api.metadata import TargetFile, Targets

from edge_agent.errors import StateUnusable
from edge_agent.ota.download import Download
from edge_agent.ota.durable import NEW_SUFFIX, make_folder, write_durable
from edge_agent.ota.errors import FetchFailed, FileMissing, MetadataRejected, OtaError, StorageFailed, TargetUnknown
from edge_agent.ota.fetch import Fetcher, fetch_bytes
from edge_agent.ota.trust import Trust
from edge_agent.outbox.lock import StateLock
from wire.clock import NS_PER_S, Clock

LOCK = "updater.lock"
TOP_LEVEL = ("root", "timestamp", "snapshot", "targets")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one refresh and one download. Metadata lengths in bytes; a signed length may only lower them."""

    root_bytes: int = 512_000
    timestamp_bytes: int = 16_384
    snapshot_bytes: int = 2_000_000
    targets_bytes: int = 5_000_000
    root_rotations: int = 256
    delegations: int = 32
    download_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Mirror:
    """Where a copy of the repository lies: base URLs of its metadata and its targets."""

    metadata_url: str
    target_url: str


class TufClient:
    """Trusted metadata in a folder of its own, and downloads by it. One process at a time; the folder is locked.

    Any number of `mirrors` may stand behind the first pair of URLs; a file that one of them lacks, cuts or falsifies is
    taken from the next.
    """

    def __init__(
        self,
        metadata_dir: Path,
        metadata_url: str,
        target_url: str,
        fetcher: Fetcher,
        clock: Clock,
        *,
        mirrors: Sequence[Mirror] = (),
        limits: Limits | None = None,
        hashed_targets: bool = True,
    ) -> None:
        """`hashed_targets`: with consistent snapshots, a target's file name begins with its hash on the server."""
        self._folder = metadata_dir
        self._mirrors = [Mirror(metadata_url, target_url), *mirrors]
        self._fetcher = fetcher
        self._clock = clock
        self._limits = limits or Limits()
        self._hashed_targets = hashed_targets
        self._trust: Trust | None = None

    def init(self, root_bytes: bytes) -> None:
        """Trust this root, unless a newer one is trusted already. No network.

        To be called at each start with the root that came with the agent: it also heals a damaged store.
        Raises:
            MetadataRejected: it is no root, or not signed by its own keys.
            StorageFailed, StateBusy.
        """
        given = Trust(root_bytes, self._wall()).root
        with self._locked():
            try:
                stored = self._stored("root")
                if stored is not None and Trust(stored, self._wall()).root.version >= given.version:
                    return
            except MetadataRejected:
                pass  # damaged: the given one takes its place
            self._store("root", root_bytes)

    def refresh(self) -> None:
        """Bring the four top-level roles up to date.

        Raises:
            MetadataRejected: what the repository offers is not to be trusted; what was trusted before still is.
            FetchFailed: no mirror gives a file.
            StorageFailed, StateBusy.
        """
        with self._locked():
            self._refresh()

    def download(self, target_name: str, path: Path) -> None:
        """Bring a target to `path`, after a refresh unless this client already made one.

        A file that is there and is the signed one is not fetched again.
        Raises:
            TargetUnknown: no role names it.
            TargetRejected, MetadataRejected, FetchFailed, StorageFailed, StateBusy.
        """
        target = self.find(target_name)
        with self._locked():
            Download(self._fetcher, self._clock, target, path, self._limits.download_s).run(
                [mirror.target_url.rstrip("/") + "/" + self._file_of(target) for mirror in self._mirrors]
            )

    def find(self, target_name: str) -> TargetFile:
        """What is signed about a target: length, hashes, custom fields. Roles are asked in their order (5.6.7).

        Raises:
            TargetUnknown: no role names it.
            MetadataRejected, FetchFailed, StorageFailed, StateBusy.
        """
        with self._locked():
            if self._trust is None:
                self._refresh()
            target = self._walk(target_name)
        if target is None:
            raise TargetUnknown(f"no role names the target {target_name[:200]!r}")
        return target

    def roles(self) -> list[str]:
        """The roles that the targets role delegates to by name, in their order. Raises as `find` does."""
        with self._locked():
            delegations = self._top().delegations
            return list(delegations.roles or {}) if delegations else []

    def director_keys(self) -> dict[str, bytes]:
        """Whose signatures on assignments count, by key id, as the root says. Raises as `find` does."""
        with self._locked():
            self._top()
            assert self._trust is not None
            return self._trust.director_keys

    def listed(self, role: str) -> list[str]:
        """Names of the targets that one of `roles` names itself. Raises TargetUnknown for another, and as `find`."""
        with self._locked():
            delegations = self._top().delegations
            if delegations is None or role not in (delegations.roles or {}):
                raise TargetUnknown(f"no role {role[:80]!r} is delegated to")
            assert self._trust is not None
            return list(self._load_targets(self._trust, role, "targets").targets)

    def _top(self) -> Targets:
        """The targets role, after a refresh unless there was one."""
        if self._trust is None:
            self._refresh()
        assert self._trust is not None
        return self._load_targets(self._trust, "targets", "root")

    def _refresh(self) -> None:
        self._trust = None
        root = self._stored("root")
        if root is None:
            raise MetadataRejected(f"{self._folder} has no trusted root; init comes first", "no_root")
        trust = Trust(root, self._wall())
        self._load_roots(trust)
        self._load_timestamp(trust)
        self._load_snapshot(trust)
        self._load_targets(trust, "targets", "root")
        self._sweep(trust)
        self._trust = trust

    def _load_roots(self, trust: Trust) -> None:
        """5.3: one version after the other, each signed by the one before, until there is none."""

        def take(data: bytes) -> None:
            trust.add_root(data)
            self._store("root", data)

        for _ in range(self._limits.root_rotations):
            try:
                self._fetched("root", trust.root.version + 1, self._limits.root_bytes, take)
            except FileMissing:
                return

    def _load_timestamp(self, trust: Trust) -> None:
        """5.4, with the stored one as the lower bound."""
        self._recall("timestamp", trust.recall_timestamp)
        trust.check_root()

        def take(data: bytes) -> None:
            if trust.add_timestamp(data):
                self._store("timestamp", data)

        self._fetched("timestamp", None, self._limits.timestamp_bytes, take)

    def _load_snapshot(self, trust: Trust) -> None:
        """5.5: the stored one where the timestamp names it."""
        if self._recall("snapshot", trust.recall_snapshot):
            return
        assert trust.timestamp is not None
        meta = trust.timestamp.snapshot_meta

        def take(data: bytes) -> None:
            trust.add_snapshot(data)
            self._store("snapshot", data)

        most = _least(self._limits.snapshot_bytes, meta.length)
        self._fetched("snapshot", meta.version if trust.root.consistent_snapshot else None, most, take)

    def _load_targets(self, trust: Trust, role: str, delegator: str) -> Targets:
        """5.6: the stored one where the snapshot names it."""
        if known := trust.targets(role, delegator):
            return known
        meta = trust.meta_of(role)
        if stored := self._recall(role, lambda data: trust.add_targets(data, role, delegator)):
            return stored

        def take(data: bytes) -> Targets:
            targets = trust.add_targets(data, role, delegator)
            self._store(role, data)
            return targets

        most = _least(self._limits.targets_bytes, meta.length)
        return self._fetched(role, meta.version if trust.root.consistent_snapshot else None, most, take)

    def _walk(self, target_name: str) -> TargetFile | None:
        """5.6.7: depth first, in the order of the delegations; each role once, and not more of them than the limit."""
        assert self._trust is not None
        visited: set[str] = set()
        todo = [("targets", "root")]
        while todo and len(visited) <= self._limits.delegations:
            role, delegator = todo.pop()
            if role in visited:
                continue
            targets = self._load_targets(self._trust, role, delegator)
            if target := targets.targets.get(target_name):
                return target
            visited.add(role)
            children = []
            for child, terminating in (
                targets.delegations.get_roles_for_target(target_name) if targets.delegations else ()
            ):
                children.append((child, role))
                if terminating:
                    todo.clear()
                    break
            todo += reversed(children)
        return None

    def _file_of(self, target: TargetFile) -> str:
        """The target's name on a server."""
        assert self._trust is not None
        if not (self._trust.root.consistent_snapshot and self._hashed_targets):
            return quote(target.path)
        folder, slash, name = target.path.rpartition("/")
        return quote(f"{folder}{slash}{next(iter(target.hashes.values()))}.{name}")

    def _fetched(self, role: str, version: int | None, most: int, take: Callable[[bytes], T]) -> T:
        """Fetch a role's file and `take` it, from the first mirror whose file is good.

        Raises what the first mirror did; a root that no mirror has, and one of them lacks, is missing: a dead or lying
        mirror must not stop the others.
        """
        name = f"{quote(role, '')}.json" if version is None else f"{version}.{quote(role, '')}.json"
        problems: list[OtaError] = []
        for mirror in self._mirrors:
            try:
                return take(fetch_bytes(self._fetcher, f"{mirror.metadata_url.rstrip('/')}/{name}", most))
            except (FetchFailed, MetadataRejected) as error:
                problems.append(error)
        problems.sort(key=lambda problem: isinstance(problem, FileMissing), reverse=role == "root")
        raise problems[0]

    def _recall(self, role: str, take: Callable[[bytes], T]) -> T | None:
        """`take` the stored file; None when there is none or it is not good any more."""
        data = self._stored(role)
        try:
            return None if data is None else take(data)
        except MetadataRejected:
            return None

    def _path(self, role: str) -> Path:
        return self._folder / f"{quote(role, '')}.json"

    def _stored(self, role: str) -> bytes | None:
        path = self._path(role)
        try:
            with path.open("rb") as file:
                return file.read(self._limits.targets_bytes + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageFailed.of(path, error) from error

    def _store(self, role: str, data: bytes) -> None:
        write_durable(self._path(role), data)

    def _sweep(self, trust: Trust) -> None:
        """Remove what no role needs any more, and what crashes left."""
        assert trust.snapshot is not None
        keep = {f"{quote(name, '')}.json" for name in TOP_LEVEL}
        keep |= {quote(name.removesuffix(".json"), "") + ".json" for name in trust.snapshot.meta}
        for path in self._folder.iterdir():
            if path.name.endswith(NEW_SUFFIX) or (path.name.endswith(".json") and path.name not in keep):
                with suppress(OSError):
                    os.unlink(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            make_folder(self._folder)
            lock = StateLock(self._folder, LOCK)
        except OSError as error:
            raise StorageFailed.of(self._folder, error) from error
        except StateUnusable as error:
            raise StorageFailed(str(error), "disk") from error
        try:
            yield
        finally:
            lock.release()

    def _wall(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall_ns() / NS_PER_S, UTC)


def _least(limit: int, signed: int | None) -> int:
    return limit if signed is None else min(limit, signed)
