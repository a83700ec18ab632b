"""The cloud's two stores as they are on bad days: errors, time-outs of which nobody knows the outcome, kills."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TypeVar

from cloud_sync.catalog.catalog import PackEntry, PackTicket
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import CatalogDown, StoreDown
from cloud_sync.storage.object_store import ObjectStore
from wire.alarm import Alarm
from wire.reading import Tombstone
from wire.series import SeriesSet
from wire.sync.frames import Hello
from wire.sync.outcomes import CatalogOutcome, HelloAnswer

T = TypeVar("T")


class Weather(StrEnum):
    """How a store answers."""

    FAIR = "fair"
    DOWN = "down"  # 5xx, connection refused: nothing was done
    TIMEOUT = "timeout"  # it was done, and the answer is lost


class CloudKilled(Exception):
    """SIGKILL, in the middle of a pack."""


class StormyStore:
    """An `ObjectStore`: the real one, behind the weather."""

    def __init__(self, store: ObjectStore) -> None:
        self.weather = Weather.FAIR
        self.slow_s = 0.0  # a put takes so much longer, in real time
        self._store = store

    def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore`."""
        if self.slow_s:
            time.sleep(self.slow_s)
        if self.weather is not Weather.DOWN:
            self._store.put(key, data)
        self._complain()

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        self._complain()
        return self._store.get(key, offset, length)

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        if self.weather is not Weather.DOWN:
            self._store.delete(key)
        self._complain()

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        self._complain()
        return self._store.list(prefix, after)

    def _complain(self) -> None:
        if self.weather is not Weather.FAIR:
            raise StoreDown(f"the simulated store: {self.weather.value}")


class StormyCatalog(SqlCatalog):
    """The real catalog behind the weather; its process can be killed on either side of a commit."""

    kill = ""  # "before" or "after"
    weather = Weather.FAIR

    def commit_pack(self, ticket: PackTicket, size: int, entries: Sequence[PackEntry]) -> list[CatalogOutcome]:
        """See `Catalog`."""
        if self.kill == "before":
            raise CloudKilled
        outcomes = self._through(lambda: SqlCatalog.commit_pack(self, ticket, size, entries))
        if self.kill == "after":
            raise CloudKilled
        return outcomes

    def hello(self, gateway: str, hello: Hello) -> HelloAnswer:
        """See `Catalog`."""
        return self._through(lambda: SqlCatalog.hello(self, gateway, hello))

    def open_pack(self) -> PackTicket:
        """See `Catalog`."""
        return self._through(lambda: SqlCatalog.open_pack(self))

    def record_tombstones(self, gateway: str, tombstones: Sequence[Tombstone]) -> None:
        """See `Catalog`."""
        self._through(lambda: SqlCatalog.record_tombstones(self, gateway, tombstones))

    def record_alarms(self, gateway: str, alarms: Sequence[tuple[int, Alarm]]) -> None:
        """See `Catalog`."""
        self._through(lambda: SqlCatalog.record_alarms(self, gateway, alarms))

    def put_series_sets(self, gateway: str, sets: Sequence[SeriesSet]) -> None:
        """See `Catalog`."""
        self._through(lambda: SqlCatalog.put_series_sets(self, gateway, sets))

    def _through(self, call: Callable[[], T]) -> T:
        if self.weather is Weather.DOWN:
            raise CatalogDown("the simulated database: down")
        answer = call()
        if self.weather is Weather.TIMEOUT:
            raise CatalogDown("the simulated database: the connection was lost; it may have committed")
        return answer
