"""Packs that the catalog does not name: what is in them, and how they come into it again after a restore.

A pack describes itself, and coverage makes doing it twice harmless: what is stored already is not stored again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cloud_sync.catalog.catalog import PackEntry
from cloud_sync.catalog.definitions import definition_set
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import ObjectMissing, PackCorrupt
from cloud_sync.ingest.check import Checked, check
from cloud_sync.ingest.ingestor import SERIES_PREFIX
from cloud_sync.storage.object_store import ObjectStore
from cloud_sync.storage.pack import decode_pack
from cloud_sync.storage.pack_keys import PACK_PREFIX, pack_key_id
from wire.sync.outcomes import Stored

log = logging.getLogger(__name__)

KEYS_PER_QUESTION = 500


@dataclass(frozen=True, slots=True)
class Reindexed:
    """What came into the catalog."""

    packs: int
    messages: int


def reindex(catalog: SqlCatalog, store: ObjectStore) -> Reindexed:
    """Bring every message into the catalog that lies in a pack it does not name. No service may be running.

    First no pack id that the store shows is given again. An object that is no pack, or a message that cannot be
    decoded, is said in the log and left where it is. Raises StoreDown, CatalogDown.
    """
    keys = [key for key in store.list(PACK_PREFIX) if pack_key_id(key) is not None]
    catalog.raise_pack_ids(1 + max((pack_key_id(key) or 0 for key in keys), default=0))
    packs = messages = 0
    for key in unnamed(catalog, iter(keys)):
        stored = _bring(catalog, store, key)
        packs += stored > 0
        messages += stored
    return Reindexed(packs, messages)


def unnamed(catalog: SqlCatalog, keys: Iterator[str]) -> Iterator[str]:
    """Those of these keys that the catalog does not name."""
    while chunk := list(islice(keys, KEYS_PER_QUESTION)):
        yield from sorted(set(chunk) - catalog.packs_named(chunk))


def missing(catalog: SqlCatalog, store: ObjectStore, key: str) -> tuple[int, list[PackEntry]]:
    """A pack's size, and its messages that the catalog does not have whole. Raises ObjectMissing, PackCorrupt."""
    data = store.get(key)
    pack = decode_pack(data)
    entries = []
    for record, offset in zip(pack.records, pack.offsets):
        checked = check(record.segment)
        if isinstance(checked, Checked):
            place = offset, len(record.segment), checked.t_min_us, checked.t_max_us
            entries.append(PackEntry(record.gateway, record.epoch, record.next_seq, checked.header, *place))
        else:
            log.warning("message left out pack=%s gateway=%s detail=%s", key, record.gateway, checked.detail)
    covered = catalog.covered(entries)
    return len(data), [entry for entry, there in zip(entries, covered) if not there]


def _bring(catalog: SqlCatalog, store: ObjectStore, key: str) -> int:
    """One pack; returns how many of its messages are new to the catalog."""
    try:
        size, entries = missing(catalog, store, key)
    except (ObjectMissing, PackCorrupt) as error:
        log.warning("pack left out key=%s error=%s", key, error)
        return 0
    if not entries:
        return 0
    _define(catalog, store, entries)
    outcomes = catalog.commit_pack(replace(catalog.open_pack(), key=key), size, entries)
    return sum(isinstance(outcome, Stored) for outcome in outcomes)


def _define(catalog: SqlCatalog, store: ObjectStore, entries: Sequence[PackEntry]) -> None:
    """Read from the store what the catalog forgot of the messages' series."""
    asked = {block.set_id: entry.gateway for entry in entries for block in entry.header.blocks}
    for set_id in asked.keys() - {one.id for one in catalog.definitions(sorted(asked))}:
        try:
            definition = definition_set(store.get(f"{SERIES_PREFIX}{set_id:016x}.json").decode())
        except ObjectMissing as error:
            log.warning("series set %016x is nowhere, its messages are left out error=%s", set_id, error)
        else:
            catalog.put_series_sets(asked[set_id], [definition])
