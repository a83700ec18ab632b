"""The service's folder: what lies where, made by `init`, held by one process at a time.

Catalog and objects may lie elsewhere: in PostgreSQL and in a bucket, which replicas share.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway
from cloud_sync.auth.credentials import Credential
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import ConfigInvalid
from cloud_sync.storage.local_store import LocalStore
from cloud_sync.storage.object_store import ObjectStore
from cloud_sync.storage.pack_keys import PACK_PREFIX, pack_key_id
from cloud_sync.wall import wall_time
from wire.clock import Clock
from wire.durable import write_new

if TYPE_CHECKING:
    from cloud_sync.ingest.reindex import Reindexed

GENERATION_PREFIX = "meta/generation-"  # one object in the bucket names the catalog's generation


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths under the folder given as --data, and where catalog and objects are if not there."""

    root: Path
    catalog_url: str | None = field(default=None, repr=False)  # PostgreSQL; may hold a password
    store_url: str | None = None  # S3

    @property
    def pki(self) -> PkiFiles:
        """Keys and certificates."""
        return PkiFiles(self.root / "pki")

    @property
    def catalog(self) -> Path:
        """The SQLite catalog."""
        return self.root / "catalog.sqlite"

    @property
    def objects(self) -> Path:
        """The local object store."""
        return self.root / "objects"

    @property
    def ota_keys(self) -> Path:
        """The two keys with which the service keeps the repository of releases current."""
        return self.root / "ota"

    @property
    def addresses(self) -> Path:
        """Where a running service tells what it listens on."""
        return self.root / "run" / "addresses.json"

    def require_initialised(self) -> None:
        """Raise ConfigInvalid with the command that helps unless `init` was run here."""
        needed = [self.pki.ca, self.pki.server, self.pki.server_key]  # the CA's own key only where it issues
        missing = [path for path in needed if not path.exists()]
        if missing:
            raise ConfigInvalid(f"{missing[0]} is missing. Try: cloud-sync init --data {self.root}")
        if self.catalog_url is None and not self.catalog.exists():
            raise ConfigInvalid(
                f"{self.catalog} is missing. Try: --catalog as it was given to init, or restore the file from a backup"
            )
        if not os.access(self.root, os.W_OK | os.X_OK):
            user = os.geteuid()
            raise ConfigInvalid(
                f"{self.root} cannot be written by user {user}. Try: chown -R {user} {self.root}, "
                "or another folder where its disk is mounted read-only"
            )

    def open_catalog(self, clock: Clock, create: bool = False) -> SqlCatalog:
        """The catalog. Raises ConfigInvalid, CatalogDown."""
        if self.catalog_url is None:
            return SqlCatalog.open(self.catalog, clock)
        return SqlCatalog.open_postgresql(self.catalog_url, clock, create)

    def open_store(self) -> ObjectStore:
        """The object store. Raises ConfigInvalid, StoreDown."""
        if self.store_url is None:
            return LocalStore(self.objects)
        from cloud_sync.storage.minio_store import MinioStore

        return MinioStore.open(self.store_url)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder. Raises ConfigInvalid when another process does."""
        path = self.root / "lock"
        try:
            file = path.open("a+")
        except OSError as error:
            raise ConfigInvalid(f"{path} cannot be written: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                owner = file.read(20).strip() or "unknown"
                raise ConfigInvalid(f"{self.root} is in use by process {owner}. Stop it first: kill {owner}") from error
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def write_addresses(self, addresses: dict[str, str]) -> None:
        """Tell others of this machine where the service listens."""
        self.addresses.parent.mkdir(exist_ok=True)
        beside = self.addresses.with_suffix(".new")
        beside.write_text(json.dumps(addresses, indent=1) + "\n", encoding="utf-8")
        beside.rename(self.addresses)


def open_parts(folder: DataFolder, clock: Clock) -> tuple[SqlCatalog, ObjectStore]:
    """The catalog and the object store, of one generation and of one moment.

    Raises ConfigInvalid when they disagree: one of them was restored or replaced without the other.
    """
    store = folder.open_store()
    catalog = folder.open_catalog(clock)
    try:
        _require_one_generation(folder, catalog, store)
        _require_packs_reached(folder, catalog, store)
    except BaseException:
        catalog.close()
        raise
    return catalog, store


def _require_one_generation(folder: DataFolder, catalog: SqlCatalog, store: ObjectStore) -> None:
    told, ours = bucket_generations(store), catalog.generation()
    if told != [ours]:
        found = ", ".join(f"{one:016x}" for one in told) or "none"
        raise ConfigInvalid(
            f"the catalog's generation is {ours:016x}, the object store's {found}: one was restored or replaced. "
            f"Try: cloud-sync restored --data {folder.root}"
        )


def _require_packs_reached(folder: DataFolder, catalog: SqlCatalog, store: ObjectStore) -> None:
    """Refuse an older copy of the catalog: then the store holds packs of ids that it has never given.

    Keys begin with the time: only those behind the catalog's last pack are looked at.
    """
    id_next = (reached := catalog.packs_reached()).id_next
    for key in store.list(PACK_PREFIX, after=reached.newest_key):
        pack_id = pack_key_id(key)
        if pack_id is None or pack_id < id_next:
            continue
        id_next = catalog.packs_reached().id_next  # another replica may have taken ids meanwhile
        if pack_id >= id_next:
            raise ConfigInvalid(
                f"the object store holds pack {pack_id} ({key}), the catalog has given ids up to {id_next - 1}: it is "
                f"an older copy. Try: cloud-sync restored --data {folder.root}"
            )


def bucket_generations(store: ObjectStore) -> list[int]:
    """The generations that the object store names; one, unless something went wrong."""
    return [int(key.removeprefix(GENERATION_PREFIX), 16) for key in store.list(GENERATION_PREFIX)]


def mark_generation(store: ObjectStore, generation: int) -> None:
    """Let the object store name this generation and no other."""
    store.put(f"{GENERATION_PREFIX}{generation:016x}", b"")
    for other in bucket_generations(store):
        if other != generation:
            store.delete(f"{GENERATION_PREFIX}{other:016x}")


def initialise(folder: DataFolder, hosts: Sequence[str], clock: Clock) -> Credential:
    """Make CA, certificates, catalog and object store in a new or empty folder, database and bucket; an admin's link.

    Raises ConfigInvalid when something is there already, or the folder cannot be written; then nothing was made
    elsewhere.
    """
    ours = (*folder.pki.all(), *((folder.catalog,) if folder.catalog_url is None else ()))
    there = [path for path in (*ours, *((folder.objects,) if folder.store_url is None else ())) if path.exists()]
    if there:
        raise ConfigInvalid(f"{there[0]} is there already and is not overwritten. Try: another --data folder")
    if folder.catalog_url is not None:
        SqlCatalog.require_empty(folder.catalog_url, clock)
    if folder.store_url is not None and bucket_generations(folder.open_store()):
        raise ConfigInvalid("the bucket's prefix belongs to another catalog. Try: another prefix in --object-store")
    try:
        folder.root.mkdir(mode=0o750, parents=True, exist_ok=True)
        folder.pki.folder.mkdir(exist_ok=True)
        folder.pki.folder.chmod(0o700)
        create_ca(folder.pki, hosts)
    except OSError as error:
        raise ConfigInvalid(
            f"cannot write {error.filename or folder.root}: {error.strerror}. Try: another --data folder"
        ) from error
    catalog = folder.open_catalog(clock, create=True)
    try:
        mark_generation(folder.open_store(), catalog.generation())
        catalog.audit.record(ACTOR_LOCAL, "cloud.init", f"{catalog.generation():016x}")
        return catalog.people.create_link()
    finally:
        catalog.close()


def issue_certificate(folder: DataFolder, gateway_id: str, out: Path, days: int, clock: Clock) -> None:
    """Write ca.pem, cert.pem and key.pem (0600) into `out`, and note the certificate in the catalog.

    Raises ConfigInvalid; overwrites nothing.
    """
    if not folder.pki.ca_key.exists():
        raise ConfigInvalid(f"{folder.pki.ca_key} is missing. Try: cloud-sync init --data {folder.root}")
    made = issue_gateway(folder.pki, gateway_id, wall_time(clock), days)
    files = {
        out / "key.pem": (made.pem, 0o600),
        out / "cert.pem": (made.issued.pem, 0o644),
        out / "ca.pem": (folder.pki.ca.read_bytes(), 0o644),
    }
    there = [path for path in files if path.exists()]
    if there:
        raise ConfigInvalid(f"{there[0]} is there already and is not overwritten. Try: another --out folder")
    folder.require_initialised()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path, (data, mode) in files.items():
            write_new(path, data, mode)
    except OSError as error:
        raise ConfigInvalid(
            f"cannot write {error.filename or out}: {error.strerror}. Try: another --out folder"
        ) from error
    with closing(folder.open_catalog(clock)) as catalog:
        catalog.access.register(gateway_id, made.device.sha256, made.issued)


def begin_generation(folder: DataFolder, clock: Clock) -> tuple[int, Reindexed]:
    """Start a new generation after a restore, and take in again what the catalog forgot of the object store.

    The store is marked last: a service does not start on what was begun and not ended. Raises ConfigInvalid while a
    service holds the folder, StoreDown, CatalogDown.
    """
    from cloud_sync.ingest.reindex import reindex

    folder.require_initialised()
    with folder.lock():
        store = folder.open_store()
        catalog = folder.open_catalog(clock)
        try:
            generation = catalog.begin_generation()
            found = reindex(catalog, store)
            mark_generation(store, generation)
        finally:
            catalog.close()
    return generation, found
