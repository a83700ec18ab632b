"""Root works in another user's folder as that user: links that were put there lead root nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.errors import StateUnusable


@contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """The process is the folder's owner until the end, if it is root's and the folder is not; else nothing changes.

    For file work only: code that is imported meanwhile might lie where that user may not read.
    Raises StateUnusable where root may not become that user.
    """
    owner = folder.stat() if folder.is_dir() else None
    if os.geteuid() != 0 or owner is None or owner.st_uid == 0:
        yield
        return
    groups, group = os.getgroups(), os.getegid()
    try:
        os.setgroups([owner.st_gid])
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
    except OSError as error:
        raise StateUnusable(
            f"{folder} belongs to user {owner.st_uid}, and root may not work as that one here: {error.strerror}. "
            f"Try: the same command as user {owner.st_uid}"
        ) from error
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)
