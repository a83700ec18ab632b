"""Files that are whole or not there, whatever happens: written beside, fsynced, renamed, and the folder fsynced.

A name that begins with a dot is a file in the making; a crash leaves at most those.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edge_agent.ota.errors import StorageFailed
from wire.durable import fsync_folder

NEW_SUFFIX = ".new"
_BESIDE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def write_durable(path: Path, data: bytes) -> None:
    """Put `data` at `path`. On return a power cut loses nothing; before it, the old file is whole.

    Raises:
        StorageFailed: no space, or the disk refuses; the old file is still there.
    """
    beside = path.with_name(f".{path.name}{NEW_SUFFIX}")
    try:
        with Growing(beside, 0) as file:
            file.write(data)
        name_durable(beside, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(beside)
        raise StorageFailed.of(path, error) from error


def name_durable(beside: Path, path: Path) -> None:
    """Give a fsynced file its final name, in one step. Raises OSError."""
    os.rename(beside, path)
    fsync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents where they are missing, each name durable. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o755)
    fsync_folder(folder.parent)


class Growing:
    """A file that is written from `offset` on; what stood behind is cut off. Fsynced when the block ends, however.

    All methods raise OSError.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def __enter__(self) -> Growing:
        self._descriptor = os.open(self._path, _BESIDE, 0o600)
        try:
            os.ftruncate(self._descriptor, self._offset)
            os.lseek(self._descriptor, self._offset, os.SEEK_SET)
        except OSError:
            os.close(self._descriptor)
            raise
        return self

    def write(self, data: bytes) -> None:
        """Append all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Make what was written so far durable."""
        os.fsync(self._descriptor)

    def __exit__(self, *_: object) -> None:
        try:
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
