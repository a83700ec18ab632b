"""The service's timer: snapshot and timestamp stay current as long as it runs."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from cloud_sync.errors import CloudError
from cloud_sync.rollout.signings import Signings
from cloud_sync.storage.object_store import ObjectStore
from wire.clock import Clock

log = logging.getLogger(__name__)

PERIOD_S = 60.0  # how long a release that was pushed from elsewhere waits at most


async def keep_current(folder: Path, store: ObjectStore, clock: Clock, signings: Signings) -> None:
    """Every minute, on a worker thread. Idle while the folder has no keys: then there is no repository to keep."""
    told = ""
    while True:
        try:
            if (folder / "timestamp.key").exists():
                problem = await asyncio.to_thread(_round, folder, store, clock, signings)
            else:
                problem = ""
        except CloudError as error:
            problem = str(error)
        if problem and problem != told:
            log.warning("repository of releases is not kept current error=%s", problem)
        elif told and not problem:
            log.info("repository of releases is kept current again")
        told = problem
        await asyncio.sleep(PERIOD_S)


def _round(folder: Path, store: ObjectStore, clock: Clock, signings: Signings) -> str:
    from cloud_sync.rollout.online import (
        OnlineRoles,
        load_online_keys,
    )  # TUF's model takes 14 MB: only where there is a repository
    from cloud_sync.rollout.repository import Repository

    done = OnlineRoles(Repository(store), load_online_keys(folder), clock, signings.note).tick()
    if done.snapshot:
        log.info("snapshot signed version=%d", done.snapshot)
    return "; ".join(f"{role}: {why}" for role, why in done.refused.items())
