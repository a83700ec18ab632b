"""The catalog on a SQL database: SQLite embedded; the same statements serve PostgreSQL."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from cloud_sync.catalog import alarm_rows, audit_rows, epoch_rows, gap_rows, hello_rows, machine_rows, pack_commit
from cloud_sync.catalog.access import Access
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.assignments import Assignments
from cloud_sync.catalog.audit import Audit
from cloud_sync.catalog.catalog import (
    Account,
    AlarmRow,
    EpochLedger,
    GatewayRow,
    MachineRow,
    MessageRow,
    PackEntry,
    PackTicket,
)
from cloud_sync.catalog.database import Database, open_sqlite, storable
from cloud_sync.catalog.database_clock import database_time, now_us
from cloud_sync.catalog.join_tokens import JoinTokens
from cloud_sync.catalog.ledger import accounts, ledger
from cloud_sync.catalog.message_index import messages
from cloud_sync.catalog.people import People
from cloud_sync.catalog.postgresql import open_postgresql
from cloud_sync.catalog.schema import SCHEMA_VERSION, gateway, meta, metadata, pack
from cloud_sync.catalog.series_rows import SeriesRows
from cloud_sync.catalog.tombstone_rows import record_tombstones
from cloud_sync.catalog.upgrade import OLDEST, mark, upgrade
from cloud_sync.catalog.webhooks import Webhooks
from cloud_sync.errors import ConfigInvalid
from cloud_sync.storage.pack_keys import pack_key
from wire.alarm import Alarm
from wire.clock import US_PER_S, Clock
from wire.ranges import SEQ_MAX
from wire.reading import Tombstone
from wire.series import SeriesSet
from wire.sync.frames import Hello
from wire.sync.outcomes import CatalogOutcome, HelloAnswer

COMMIT_DEADLINE_US = 600 * US_PER_S  # docs/decisions/0051-pack-ids-and-deadlines.md
PACK_IDS_PER_BLOCK = 256  # ids reserved by one write; a restart leaves the rest unused

_take_pack_ids = (
    meta.update().values(pack_id_next=meta.c.pack_id_next + PACK_IDS_PER_BLOCK).returning(meta.c.pack_id_next)
)
_gateways = sa.select(
    gateway.c.id,
    gateway.c.first_seen_us,
    gateway.c.last_seen_us,
    gateway.c.agent_version,
    gateway.c.config_version,
    gateway.c.machine,
).order_by(gateway.c.id)
_gateway = _gateways.where(gateway.c.id == sa.bindparam("id"))


@dataclass(frozen=True, slots=True)
class PacksReached:
    """Packs of a catalog: ids from `id_next` on were never given; `newest_key` is its last pack's, "" without any."""

    id_next: int
    newest_key: str


class SqlCatalog:
    """See `Catalog`. Any thread may call; writes wait for each other in the database."""

    def __init__(self, database: Database, create: bool = True) -> None:
        """Creates the tables in an empty database if told so.

        Raises ConfigInvalid when it is empty all the same, or when another version made them.
        """
        self._database = database
        self.access = Access(database)
        self.join_tokens = JoinTokens(database)
        self.people = People(database)
        self.audit = Audit(database)
        self.webhooks = Webhooks(database)
        self.assignments = Assignments(database)
        self._series = SeriesRows(database)
        self._tickets = threading.Lock()
        self._pack_ids: list[int] = []
        with database.write() as connection:
            database.prepare(connection)
            self._generation = _prepare(database, connection, create)

    @classmethod
    def open(cls, path: Path, clock: Clock) -> SqlCatalog:
        """A catalog in one SQLite file, created when missing. Raises ConfigInvalid when the file is unusable."""
        return cls._on(open_sqlite(path, clock), create=True)

    @classmethod
    def open_postgresql(cls, url: str, clock: Clock, create: bool = False) -> SqlCatalog:
        """A catalog in a PostgreSQL database, where `create` makes the tables of an empty one.

        Raises ConfigInvalid when the database refuses, may lose commits or holds something else, CatalogDown when it
        cannot be reached.
        """
        return cls._on(open_postgresql(url, clock), create)

    @classmethod
    def require_empty(cls, url: str, clock: Clock) -> None:
        """Raise ConfigInvalid unless a PostgreSQL database can take a new catalog; as `open_postgresql` else."""
        database = open_postgresql(url, clock)
        try:
            with database.read() as connection:
                database.require_creatable(connection)
                found = sa.inspect(connection).get_table_names()
        finally:
            database.close()
        if found:
            raise ConfigInvalid(
                f"the database is not empty ({', '.join(sorted(found)[:3])}) and is not overwritten. Try: another "
                "database; for one more replica copy pki/ of the first into its --data folder instead of init"
            )

    @classmethod
    def _on(cls, database: Database, create: bool) -> SqlCatalog:
        try:
            return cls(database, create)
        except BaseException:
            database.close()
            raise

    def generation(self) -> int:
        """See `Catalog`."""
        return self._generation

    def begin_generation(self) -> int:
        """Mint a new generation: after this catalog or its bucket was restored from a backup."""
        fresh = _new_generation()
        with self._database.write() as connection:
            connection.execute(meta.update().values(generation=fresh))
            audit_rows.record(connection, ACTOR_LOCAL, "generation.begin", f"{fresh:016x}")
        self._generation = fresh
        return fresh

    def hello(self, gateway: str, hello: Hello) -> HelloAnswer:
        """See `Catalog`."""
        with self._database.write() as connection:
            coverage = hello_rows.note(self._database, connection, gateway, hello, self._generation)
            defined = self._series.defined(connection, hello.series_sets)
            uses = self._series.use(connection, ((gateway, set_id) for set_id in defined))
        self._series.remember(uses)
        need = tuple(set_id for set_id in dict.fromkeys(hello.series_sets) if set_id not in defined)
        return HelloAnswer(self._generation, coverage, need)

    def open_pack(self) -> PackTicket:
        """See `Catalog`."""
        with self._tickets:
            if not self._pack_ids:
                with self._database.write() as connection:
                    end = connection.execute(_take_pack_ids).scalar_one()
                self._pack_ids = list(range(end - 1, end - PACK_IDS_PER_BLOCK - 1, -1))
            pack_id = self._pack_ids.pop()
        opened_us = self.now_us()
        return PackTicket(pack_id, pack_key(pack_id, opened_us), opened_us + COMMIT_DEADLINE_US)

    def commit_pack(self, ticket: PackTicket, size: int, entries: Sequence[PackEntry]) -> list[CatalogOutcome]:
        """See `Catalog`."""
        return pack_commit.commit_pack(self._database, self._series, ticket, size, entries)

    def record_tombstones(self, gateway: str, tombstones: Sequence[Tombstone]) -> None:
        """See `Catalog`."""
        if tombstones:
            record_tombstones(self._database, gateway, tombstones)

    def record_alarms(self, gateway: str, alarms: Sequence[tuple[int, Alarm]]) -> None:
        """See `Catalog`."""
        if alarms:
            alarm_rows.record_alarms(self._database, gateway, alarms)

    def alarms(
        self, gateway: str | None, start_us: int, end_us: int, limit: int, active: bool = False
    ) -> list[AlarmRow]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return alarm_rows.alarms(connection, gateway, start_us, end_us, limit, active)

    def active_alarms(self) -> dict[str, int]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return alarm_rows.active_alarms(connection)

    def put_series_sets(self, gateway: str, sets: Sequence[SeriesSet]) -> None:
        """See `Catalog`."""
        if not sets:
            return
        with self._database.write() as connection:
            epoch_rows.lock_gateways(self._database, connection, [gateway])
            self._series.define(connection, sets)
            uses = self._series.use(connection, ((gateway, s.id) for s in sets))
        self._series.remember(uses)

    def gateways(self) -> list[GatewayRow]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return [GatewayRow(*row) for row in connection.execute(_gateways)]

    def gateway(self, gateway: str) -> GatewayRow | None:
        """See `Catalog`."""
        with self._database.read() as connection:
            row = connection.execute(_gateway, {"id": storable(gateway)}).one_or_none()
        return None if row is None else GatewayRow(*row)

    def series_sets(self, gateway: str) -> list[SeriesSet]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return self._series.of_gateway(connection, gateway)

    def definitions(self, set_ids: Sequence[int]) -> list[SeriesSet]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return self._series.definitions(connection, set_ids)

    def messages(
        self, gateway: str, set_ids: Sequence[int], start_us: int, end_us: int, after_id: int = 0
    ) -> list[MessageRow]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return messages(connection, gateway, set_ids, start_us=start_us, end_us=end_us, after_id=after_id)

    def ledger(self, gateway: str) -> list[EpochLedger]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return ledger(connection, gateway)

    def accounts(self, gateway: str | None = None) -> dict[str, Account]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return accounts(connection, gateway)

    def machines(self, gateway: str) -> list[MachineRow]:
        """See `Catalog`."""
        with self._database.read() as connection:
            return machine_rows.of_gateway(connection, gateway)

    def is_cloned(self, gateway: str) -> bool:
        """See `Catalog`."""
        with self._database.read() as connection:
            return machine_rows.is_cloned(connection, gateway)

    def retire_machine(self, gateway: str, machine: bytes, actor: str = ACTOR_LOCAL) -> bool:
        """See `Catalog`."""
        with self._database.write() as connection:
            epoch_rows.lock_gateways(self._database, connection, [gateway])
            known = machine_rows.retire(connection, gateway, machine)
            gap_rows.decide(connection, gateway, {})
            if known:
                audit_rows.record(connection, actor, "machine.retire", gateway, machine.hex())
        return known

    def require_writable(self) -> None:
        """See `Catalog`."""
        if self._database.refused:
            with self._database.write() as connection:  # skips one id: SQLite does not write what has not changed
                connection.execute(meta.update().values(pack_id_next=meta.c.pack_id_next + 1))

    def packs_named(self, keys: Sequence[str]) -> set[str]:
        """Which of these object keys are packs of this catalog."""
        with self._database.read() as connection:
            return set(connection.execute(sa.select(pack.c.key).where(pack.c.key.in_(keys))).scalars())

    def packs_reached(self) -> PacksReached:
        """How far the catalog has come with packs."""
        with self._database.read() as connection:
            newest = connection.execute(sa.select(sa.func.max(pack.c.key))).scalar_one()
            return PacksReached(connection.execute(sa.select(meta.c.pack_id_next)).scalar_one(), newest or "")

    def raise_pack_ids(self, id_next: int) -> None:
        """Give no pack an id below `id_next` from now on."""
        with self._tickets, self._database.write() as connection:
            connection.execute(meta.update().where(meta.c.pack_id_next < id_next).values(pack_id_next=id_next))
            self._pack_ids.clear()

    def covered(self, entries: Sequence[PackEntry]) -> list[bool]:
        """Which of these messages are stored, every Seq of them."""
        with self._database.read() as connection:
            return pack_commit.covered(connection, entries)

    def now_us(self) -> int:
        """The database's clock."""
        with self._database.read() as connection:
            return database_time(connection)

    def close(self) -> None:
        """See `Catalog`."""
        self._database.close()


def _prepare(database: Database, connection: Connection, create: bool) -> int:
    """Create the tables where there are none, check their version, return the generation."""
    found = sa.inspect(connection).get_table_names()
    if not found:
        if not create:
            raise ConfigInvalid("the database holds no catalog yet. Try: cloud-sync init with the same --catalog")
        database.require_creatable(connection)
        metadata.create_all(connection)
        audit_rows.seal(connection)
        row = {"id": 1, "schema_version": SCHEMA_VERSION, "generation": _new_generation()}
        connection.execute(meta.insert().values(**row, pack_id_next=1, message_id_next=1, created_us=now_us))
    if found and meta.name not in found:
        raise ConfigInvalid(f"the database holds tables of something else ({', '.join(sorted(found)[:3])})")
    version = connection.execute(sa.select(meta.c.schema_version)).scalar_one()
    if OLDEST <= version < SCHEMA_VERSION:
        database.require_creatable(connection)
        upgrade(connection, version)
        mark(connection, SCHEMA_VERSION)
    elif version != SCHEMA_VERSION:
        raise ConfigInvalid(
            f"the catalog has schema version {version}, this cloud-sync knows {SCHEMA_VERSION}. "
            f"Try: the cloud-sync version that wrote it, or a newer one"
        )
    return int(connection.execute(sa.select(meta.c.generation)).scalar_one())


def _new_generation() -> int:
    return secrets.randbelow(SEQ_MAX - 1) + 1
