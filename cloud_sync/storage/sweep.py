"""Deletes packs that no catalog row names: what a crash between PUT and commit leaves behind."""

from __future__ import annotations

import logging

from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import ObjectMissing, PackCorrupt
from cloud_sync.ingest.reindex import missing, unnamed
from cloud_sync.storage.object_store import ObjectStore
from cloud_sync.storage.pack_keys import PACK_PREFIX, pack_key_id, pack_key_opened_us
from wire.clock import US_PER_S

log = logging.getLogger(__name__)

ORPHAN_AGE_US_MIN = 24 * 3600 * US_PER_S  # far beyond the commit deadline of 10 minutes


def sweep_orphans(catalog: SqlCatalog, store: ObjectStore) -> int:
    """Delete packs older than 24 h that the catalog does not name and has no need of; returns how many.

    A key tells when its ticket was opened; a commit of a ticket that old is refused, so no row can appear later. A
    pack is needed while a message of it is not stored elsewhere, and while its id was never given: an older catalog
    may have been put back. Must not be called while catalog and store are of different generations. Raises StoreDown,
    CatalogDown.
    """
    limit_us = catalog.now_us() - ORPHAN_AGE_US_MIN
    dated = ((key, pack_key_opened_us(key)) for key in store.list(PACK_PREFIX))
    old = (key for key, opened_us in dated if opened_us is not None and opened_us < limit_us)
    count = needed = 0
    for key in unnamed(catalog, old):
        if _needed(catalog, store, key):
            needed += 1
            continue
        store.delete(key)
        log.info("orphan deleted key=%s", key)
        count += 1
    if needed:
        log.warning("packs that the catalog does not name hold what it does not have, and are kept packs=%d. "
                    "Try: stop the service, then cloud-sync restored", needed)  # fmt: skip
    return count


def _needed(catalog: SqlCatalog, store: ObjectStore, key: str) -> bool:
    """May it hold what is nowhere else?"""
    pack_id = pack_key_id(key)
    if pack_id is None or pack_id >= catalog.packs_reached().id_next:
        return True
    try:
        return bool(missing(catalog, store, key)[1])
    except ObjectMissing:
        return False
    except PackCorrupt as error:
        log.warning("orphan is no pack error=%s key=%s", error, key)
        return True
