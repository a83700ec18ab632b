"""`cloud-sync` whose object store and catalog fail on demand: run as a script by the fault lab.

The service is the real one; the weather stands between it and its folder and database (`simulator.virtual.store`).
"""

from __future__ import annotations

from typing import Any

from cloud_sync import data_folder
from cloud_sync.cli import main as cloud
from cloud_sync.data_folder import DataFolder
from cloud_sync.storage.object_store import ObjectStore
from simulator.lab.conditions import follow
from simulator.virtual.store import StormyCatalog, StormyStore, Weather


def main() -> None:
    """Follow the conditions, and be the service."""
    stores: list[StormyStore] = []
    now: dict[str, Any] = {}
    open_fair = DataFolder.open_store

    def apply(conditions: dict[str, Any]) -> None:
        now.clear()
        now.update(conditions)
        StormyCatalog.weather = Weather(now.get("catalog", Weather.FAIR))
        for store in stores:
            store.weather = Weather(now.get("store", Weather.FAIR))
            store.slow_s = now.get("store_slow_s", 0.0)

    def open_store(folder: DataFolder) -> ObjectStore:
        store = StormyStore(open_fair(folder))
        stores.append(store)
        apply(dict(now))
        return store

    setattr(DataFolder, "open_store", open_store)  # noqa: B010 - of this process
    setattr(data_folder, "SqlCatalog", StormyCatalog)  # noqa: B010
    follow(apply)
    cloud()


if __name__ == "__main__":
    main()
