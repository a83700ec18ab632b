"""Small files that must be there whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import StateUnusable
from edge_agent.outbox.lock import unusable
from wire.durable import fsync_folder

PRIVATE = 0o600
SECRET_BYTES_MAX = 1 << 20  # of a file that is overwritten before it is deleted; ours are below 64 KiB


def write_file(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Replace a file durably: beside, fsync, rename, fsync the folder. Raises StateUnusable, on a full disk too."""
    beside = path.with_name(path.name + ".new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask
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
    except OSError as error:
        raise unusable(path.parent, error) from error


def erase(path: Path) -> None:
    """Overwrite and delete a file; nothing where there is none. A link is deleted, and what it leads to stays.

    Flash may keep old copies: renewal ends what a key is good for. Raises StateUnusable.
    """
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(min(status.st_size, SECRET_BYTES_MAX)))
                file.flush()
                os.fsync(file.fileno())
        path.unlink()
        fsync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise unusable_file(path, error) from error


def unusable_file(path: Path, error: OSError) -> StateUnusable:
    """What went wrong with a file, and what helps."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        help_ = f"free a few kilobytes there (df {path.parent}); nothing was lost, a second try is safe"
    else:
        help_ = f"run it as root (sudo), or chown -R edge-agent {path.parent}"
    return StateUnusable(f"{path} cannot be written: {error.strerror or error}. Try: {help_}")
