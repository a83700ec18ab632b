"""Small files that must be there whole or not at all, also after a power cut, and belong to whom the folder belongs."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import StateUnusable
from edge_agent.ota.durable import fsync_folder
from edge_agent.outbox.lock import unusable

PRIVATE = 0o600


def write_file(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Replace a file durably: beside, fsync, rename, fsync the folder. Raises StateUnusable, on a full disk too."""
    beside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask
            give_to_owner(descriptor, path.parent)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        beside.rename(path)
        fsync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise unusable_file(path, error) from error


def make_folder(path: Path) -> None:
    """For us alone, where it is missing. Raises StateUnusable."""
    try:
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                give_to_owner(descriptor, path.parent)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise unusable(path.parent, error) from error


def erase(path: Path) -> None:
    """Overwrite and delete a file; nothing where there is none. Flash may keep old copies: renewal ends what a key is
    good for. Raises StateUnusable."""
    try:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
        fsync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unusable_file(path, error) from error


def give_to_owner(descriptor: int, folder: Path) -> None:
    """What root makes in the agent's folder is the agent's."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def unusable_file(path: Path, error: OSError) -> StateUnusable:
    """What went wrong with a file, and what helps."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        help_ = f"free a few kilobytes there (df {path.parent}); nothing was lost, a second try is safe"
    else:
        help_ = f"run it as root (sudo), or chown -R edge-agent {path.parent}"
    return StateUnusable(f"{path} cannot be written: {error.strerror or error}. Try: {help_}")
