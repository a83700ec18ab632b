"""Objects as files under one folder, each fsynced before it is named."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from cloud_sync.errors import ObjectMissing, StoreDown
from cloud_sync.storage.object_store import check_key
from wire.durable import fsync_folder

_PARTIAL = ".partial-"  # a crash leaves at most such files; no key can name them


class LocalStore:
    """An `ObjectStore` in a local folder. Thread-safe; one process at a time may call `sweep_partial`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreDown(f"cannot create {root}: {error.strerror}") from error

    def put(self, key: str, data: bytes) -> None:
        """See `ObjectStore`: write beside, fsync, rename, fsync the folder."""
        path = self._root / check_key(key)
        partial = path.parent / f"{_PARTIAL}{secrets.token_hex(8)}"
        try:
            self._make_folder(path.parent)
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(partial, path)
            fsync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise StoreDown(f"cannot write {len(data)} bytes to {path}: {error.strerror}") from error

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `ObjectStore`."""
        path = self._root / check_key(key)
        try:
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                end = size if length is None else offset + length
                if not 0 <= offset <= end <= size:
                    raise ObjectMissing(f"{key} has {size} bytes, asked for {offset}..{end}")
                return _read_exactly(file.fileno(), offset, end - offset, key)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectMissing(f"no object {key} in {self._root}") from error
        except OSError as error:
            raise StoreDown(f"cannot read {path}: {error.strerror}") from error

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        path = self._root / check_key(key)
        try:
            path.unlink(missing_ok=True)
        except (IsADirectoryError, NotADirectoryError):
            return
        except OSError as error:
            raise StoreDown(f"cannot delete {path}: {error.strerror}") from error

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See `ObjectStore`."""
        try:
            yield from self._walk(self._root, "", prefix, after)
        except OSError as error:
            raise StoreDown(f"cannot list {self._root}: {error.strerror}") from error

    def sweep_partial(self) -> int:
        """Delete what an earlier process left half-written; returns how many files. Call before the first `put`."""
        count = 0
        for path in self._root.rglob(f"{_PARTIAL}*"):
            path.unlink(missing_ok=True)
            count += 1
        return count

    def _walk(self, folder: Path, inner: str, prefix: str, after: str) -> Iterator[str]:
        """Keys below a folder, in the order of whole keys ('a-b' stands before 'a/b')."""
        with os.scandir(folder) as entries:
            names = sorted(
                f"{inner}{e.name}/" if e.is_dir() else f"{inner}{e.name}" for e in entries if e.name[0] != "."
            )
        for name in names:
            if not name.endswith("/"):
                if name.startswith(prefix) and name > after:
                    yield name
            elif (name.startswith(prefix) or prefix.startswith(name)) and (name > after or after.startswith(name)):
                yield from self._walk(self._root / name, name, prefix, after)

    def _make_folder(self, folder: Path) -> None:
        """Create the folder and make its name durable in each parent up to the root."""
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_exactly(descriptor: int, offset: int, length: int, key: str) -> bytes:
    parts = []
    while length:
        part = os.pread(descriptor, length, offset)
        if not part:
            raise ObjectMissing(f"{key} ended {length} bytes early while it was read")
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
