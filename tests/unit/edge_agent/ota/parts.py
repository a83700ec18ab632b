"""A client on a folder, with a repository in memory and a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Metadata

from edge_agent.ota.client import Limits, Mirror, TufClient
from edge_agent.ota.fetch import Fetcher
from tests.unit.edge_agent.ota.repository import METADATA, NOW, TARGETS, Repository
from wire.clock import NS_PER_S, SyncState


class DialClock:
    """Both clocks move only when told."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now
        self.boot_s = 1000.0

    def wall_ns(self) -> int:
        return int(self.now.timestamp()) * NS_PER_S

    def boottime_ns(self) -> int:
        return int(self.boot_s * NS_PER_S)

    def sync_state(self) -> SyncState:
        return SyncState(True, 1000)

    def sleep(self, seconds: float) -> None:
        self.boot_s += seconds
        self.now += timedelta(seconds=seconds)


class Device:
    """What survives is `metadata` and `store`; `client()` is a new process."""

    def __init__(self, folder: Path, repository: Repository, *, init: bool = True) -> None:
        self.metadata = folder / "metadata"
        self.store = folder / "store"
        self.repository = repository
        self.clock = DialClock()
        if init:
            self.client().init(repository.roots[0])

    def client(
        self, *, fetcher: Fetcher | None = None, mirrors: Sequence[Mirror] = (), limits: Limits | None = None
    ) -> TufClient:
        return TufClient(
            self.metadata,
            METADATA,
            TARGETS,
            fetcher or self.repository,
            self.clock,
            mirrors=mirrors,
            limits=limits,
        )

    def refresh(self, **options: Limits) -> None:
        self.client(**options).refresh()

    def version(self, role: str) -> int:
        return int(Metadata.from_file(str(self.metadata / f"{role}.json")).signed.version)

    def versions(self) -> tuple[int, ...]:
        """Of root, timestamp, snapshot and targets; 0 where there is none."""
        roles = ("root", "timestamp", "snapshot", "targets")
        return tuple(self.version(role) if (self.metadata / f"{role}.json").exists() else 0 for role in roles)
