"""One agent per directory: an advisory lock that the kernel drops with the process."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from edge_agent.errors import StateBusy, StateUnusable

PID_WIDTH = 10  # always the same, so that a new pid overwrites the old one in place


class StateLock:
    """Held from construction to `release`."""

    def __init__(self, directory: Path, name: str) -> None:
        """Make the directory if need be and lock it.

        Raises:
            StateBusy: another process has it; the message names its pid.
            StateUnusable: the directory cannot be made or written.
        """
        path = directory / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(directory, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StateBusy(
                f"{directory} is in use by process {holder}. Try: systemctl stop edge-agent, or another directory"
            ) from error
        with suppress(OSError):  # a full disk: the lock holds without a name in it
            os.pwrite(self._descriptor, f"{os.getpid():<{PID_WIDTH}}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have the directory."""
        os.close(self._descriptor)


def unusable(directory: Path, error: OSError) -> StateUnusable:
    """A directory that cannot be used, and what helps."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        help_ = "another directory: a file is in the way"
    elif error.errno == errno.EROFS:
        help_ = f"another directory, or: mount -o remount,rw $(findmnt -no TARGET -T {directory.parent})"
    else:
        help_ = f"install -d -o $(id -un) {directory}, or chown -R $(id -un) {directory}"
    return StateUnusable(f"{directory}: {error.strerror or error}. Try: {help_}")
