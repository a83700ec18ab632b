"""A repository of releases on a local store with keys in memory, and a gateway's client of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from cloud_sync.rollout.ceremony import Ceremony, Quorum
from cloud_sync.rollout.online import ROLES, OnlineRoles
from cloud_sync.rollout.publish import Wishes, read_model
from cloud_sync.rollout.repository import Repository
from cloud_sync.rollout.signings import Signing
from cloud_sync.storage.local_store import LocalStore
from edge_agent.ota.client import TufClient
from edge_agent.ota.folder import METADATA, TARGETS, FolderFetcher
from tests.unit.edge_agent.detect.toys import write
from tests.unit.edge_agent.ota.parts import DialClock
from wire.release import Release

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def quorum(count: int = 3, threshold: int = 2) -> Quorum:
    return Quorum([CryptoSigner.generate_ed25519() for _ in range(count)], threshold)


class Fleet:
    """Repository, its keys, the service's round, and one gateway."""

    def __init__(self, folder: Path, *, family: str = "toy", now: datetime = NOW) -> None:
        self.folder = folder
        self.clock = DialClock(now)
        self.store = LocalStore(folder / "objects")
        self.repository = Repository(self.store)
        self.ceremony = Ceremony(self.repository, self.clock)
        self.root, self.targets, self.team = quorum(), quorum(), quorum()
        self.online = {role: CryptoSigner.generate_ed25519() for role in (*ROLES, "director")}
        self.first_root = self.ceremony.begin(self.root, self.targets, self.online)
        self.ceremony.add_family(family, self.team, self.targets.signers)
        self.noted: list[Signing] = []
        self.roles = OnlineRoles(self.repository, self.online, self.clock, self.noted.append)
        self.roles.tick()
        self.model = write(folder / "models")

    def later(self, **span: float) -> None:
        self.clock.now += timedelta(**span)

    def push(self, wishes: Wishes | None = None) -> Release:
        counter = self.ceremony.releases("toy").counter_next
        release, files = read_model(self.model, counter, wishes or Wishes())
        self.ceremony.release(release, files, self.team.signers[:2], lambda _: None)
        return release

    def client(self) -> TufClient:
        fetcher = FolderFetcher(self.folder / "objects" / "ota")
        client = TufClient(self.folder / "gateway", METADATA, TARGETS, fetcher, self.clock)
        client.init(self.first_root)
        return client
