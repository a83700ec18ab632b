"""A card that fails on demand, under the real SQLite: full, erroring, read-only, and what a power cut leaves of it.

It stands between SQLite and the file system (SQLite's own seam, the VFS: https://sqlite.org/vfs.html) and between
Python and the file system (the functions of `os` that make files or room). Programs above it are unchanged.

Of a file that SQLite writes, every sector written since the last fsync may be missing after a power cut. Names are
believed durable: a file that was made, renamed or removed stays so.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from unittest.mock import patch

from simulator.sqlite_vfs import (
    SQLITE_CANTOPEN,
    SQLITE_FULL,
    SQLITE_IOERR_FSYNC,
    SQLITE_IOERR_READ,
    SQLITE_IOERR_TRUNCATE,
    SQLITE_IOERR_WRITE,
    SQLITE_OK,
    watched,
)

SECTOR_BYTES = 512


class State(StrEnum):
    """What the card does now."""

    SOUND = "sound"
    FULL = "full"  # files may not grow beyond what is left
    FAILING = "failing"  # every read, write and fsync: EIO
    READ_ONLY = "read-only"  # as ext4 after an error: reads work, writes do not


@dataclass
class _Unsynced:
    """What a file held before the writes that no fsync followed."""

    size: int
    sectors: dict[int, bytes] = field(default_factory=dict)


class Disk:
    """The files below `root`. It works while `watching` (a context for all disks of a process) is entered."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = State.SOUND
        self._limit = 0
        self._unsynced: dict[str, _Unsynced] = {}

    def fill(self, free_bytes: int) -> None:
        """Another program takes all room but this."""
        self.state = State.FULL
        self._limit = self.used() + free_bytes

    def mend(self) -> None:
        """Sound again, with room."""
        self.state = State.SOUND

    def used(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def after_power_cut(self, image: Path, original: Path, rng: random.Random) -> int:
        """Make of `image`, a copy of folder `original`, what a power cut leaves: each sector that was not fsynced is
        there or not. Returns how many are not."""
        share = rng.choice([0.0, 0.5, 0.5, 1.0])  # of the sectors that the card had written by itself
        gone = 0
        for name, unsynced in sorted(self._unsynced.items()):
            path = image / Path(name).name
            if Path(name).parent != original or not path.exists():
                continue
            with path.open("r+b") as file:
                for sector, before in sorted(unsynced.sectors.items()):
                    if rng.random() >= share:
                        file.seek(sector * SECTOR_BYTES)
                        file.write(before)
                        gone += 1
                if unsynced.size < path.stat().st_size and rng.random() >= share:
                    file.truncate(unsynced.size)
        return gone

    def refusal(self, path: str, growth: int) -> int | None:
        """The errno that writing `growth` more bytes to a file meets; None for none."""
        match self.state:
            case State.FAILING:
                return errno.EIO
            case State.READ_ONLY:
                return errno.EROFS
            case State.FULL if growth > 0 and self.used() + growth > self._limit:
                return errno.ENOSPC
        return None

    # What SQLite does

    def write(self, path: str, offset: int, size: int) -> int:
        """SQLite is about to write; SQLITE_OK lets it."""
        length = _size(path)
        refusal = self.refusal(path, offset + size - length)
        if refusal is not None:
            return SQLITE_FULL if refusal == errno.ENOSPC else SQLITE_IOERR_WRITE
        unsynced = self._unsynced.setdefault(path, _Unsynced(length))
        first, last = offset // SECTOR_BYTES, (offset + size - 1) // SECTOR_BYTES
        wanted = [sector for sector in range(first, last + 1) if sector not in unsynced.sectors]
        if wanted:
            with open(path, "rb") as file:
                for sector in wanted:
                    file.seek(sector * SECTOR_BYTES)
                    unsynced.sectors[sector] = file.read(SECTOR_BYTES).ljust(SECTOR_BYTES, b"\0")
        return SQLITE_OK

    def read(self) -> int:
        """SQLite is about to read."""
        return SQLITE_IOERR_READ if self.state is State.FAILING else SQLITE_OK

    def truncate(self, path: str) -> int:
        """SQLite is about to cut a file; what it cuts is believed gone at once."""
        if self.refusal(path, 0) is not None:
            return SQLITE_IOERR_TRUNCATE
        self._unsynced.pop(path, None)
        return SQLITE_OK

    def sync(self, path: str) -> int:
        """SQLite fsyncs: on OK nothing of the file can be lost any more."""
        if self.refusal(path, 0) is not None:
            return SQLITE_IOERR_FSYNC
        self._unsynced.pop(path, None)
        return SQLITE_OK

    def open(self, path: str, *, create: bool) -> int:
        """SQLite opens a file; `create`: one that is not there."""
        if self.state is State.FAILING or (create and self.refusal(path, 0) is not None):
            return SQLITE_CANTOPEN
        self._unsynced.pop(path, None)
        return SQLITE_OK


class _Watch:
    """Every disk of this process, and the seam that finds the one a path belongs to."""

    def __init__(self) -> None:
        self.disks: list[Disk] = []

    def of(self, path: str) -> Disk | None:
        """The disk of a path."""
        for disk in self.disks:
            if path.startswith(f"{disk.root}/"):
                return disk
        return None


@contextmanager
def watching(*, files: bool = False) -> Iterator[Callable[[Path], Disk]]:
    """While the context lasts, SQLite and `os` ask the disks; the function makes one.

    `files`: so does `open`, where only the program under test opens files there.

    Raises:
        LabFailed: this Python's SQLite cannot be reached.
    """
    watch = _Watch()

    def make(root: Path) -> Disk:
        disk = Disk(root)
        watch.disks.append(disk)
        return disk

    with watched(watch.of), _patched_os(watch), _patched_open(watch) if files else nullcontext():
        yield make


@contextmanager
def _patched_os(watch: _Watch) -> Iterator[None]:
    """The calls by which Python code makes, grows, renames and removes files."""
    kept: dict[str, Any] = {name: getattr(os, name) for name in ("open", "posix_fallocate", "unlink", "replace")}

    def refuse(path: Any, growth: int) -> None:
        text = os.fspath(path)
        disk = watch.of(text) if isinstance(text, str) else None
        refusal = disk.refusal(text, growth) if disk is not None else None
        if refusal is not None:
            raise OSError(refusal, os.strerror(refusal), text)

    def open_(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path, 0)
        descriptor: int = kept["open"](path, flags, *rest, **named)
        return descriptor

    def posix_fallocate(descriptor: int, offset: int, length: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        refuse(path, offset + length - _size(path))
        kept["posix_fallocate"](descriptor, offset, length)

    def unlink(path: Any, **named: Any) -> None:
        refuse(path, 0)
        kept["unlink"](path, **named)

    def replace(source: Any, target: Any, **named: Any) -> None:
        refuse(target, 0)
        kept["replace"](source, target, **named)

    for function in (open_, posix_fallocate, unlink, replace):
        setattr(os, function.__name__.rstrip("_"), function)
    try:
        yield
    finally:
        for name, original in kept.items():
            setattr(os, name, original)


@contextmanager
def _patched_open(watch: _Watch) -> Iterator[None]:
    """`open` for writing is met by what `os.open` meets, and for reading by a card that fails."""
    kept = io.open

    def open_(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        path = os.fspath(file) if isinstance(file, str | os.PathLike) else None
        disk = watch.of(path) if isinstance(path, str) else None
        if disk is not None and (disk.state is State.FAILING or set(mode) & set("wax+")):
            refusal = disk.refusal(str(path), 0)
            if refusal is not None:
                raise OSError(refusal, os.strerror(refusal), path)
        return kept(file, mode, *rest, **named)

    with patch.object(io, "open", open_), patch.object(builtins, "open", open_):
        yield


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
