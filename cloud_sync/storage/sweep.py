"""Deletes packs that no catalog row names: what a crash between PUT and commit leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from cloud_sync.storage.object_store import ObjectStore
from cloud_sync.storage.pack_keys import PACK_PREFIX, pack_key_opened_us
from wire.clock import US_PER_S

log = logging.getLogger(__name__)

ORPHAN_AGE_US_MIN = 24 * 3600 * US_PER_S  # far beyond the commit deadline of 10 minutes
KEYS_PER_QUESTION = 500


class PackNames(Protocol):
    """What the sweeper asks of a catalog."""

    def packs_named(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys are committed packs."""
        ...

    def now_us(self) -> int:
        """The database's clock."""
        ...


def sweep_orphans(catalog: PackNames, store: ObjectStore) -> int:
    """Delete packs older than 24 h that the catalog does not name; returns how many.

    A key tells when its ticket was opened; a commit of a ticket that old is refused, so no row can appear later. Must
    not be called while catalog and store are of different generations. Raises StoreDown, CatalogDown.
    """
    limit_us = catalog.now_us() - ORPHAN_AGE_US_MIN
    dated = ((key, pack_key_opened_us(key)) for key in store.list(PACK_PREFIX))
    old = (key for key, opened_us in dated if opened_us is not None and opened_us < limit_us)
    count = 0
    for keys in _chunks(old):
        for key in sorted(set(keys) - catalog.packs_named(keys)):
            store.delete(key)
            log.info("orphan deleted key=%s", key)
            count += 1
    return count


def _chunks(keys: Iterator[str]) -> Iterator[list[str]]:
    while chunk := list(islice(keys, KEYS_PER_QUESTION)):
        yield chunk
