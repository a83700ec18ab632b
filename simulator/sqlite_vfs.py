"""The seam between SQLite and the file system: each write, fsync and open of a watched file is asked for first.

Source: https://sqlite.org/c3ref/vfs.html and https://sqlite.org/c3ref/io_methods.html (the structures, unchanged
since 3.7.17). A VFS of ours opens files with the default one and exchanges four methods of those that are watched; the
others, shared memory and locks among them, stay SQLite's own.
"""

from __future__ import annotations

import _sqlite3
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from functools import lru_cache
from typing import Protocol

from simulator.lab.processes import LabFailed

# https://sqlite.org/rescode.html
SQLITE_OK = 0
SQLITE_FULL = 13
SQLITE_CANTOPEN = 14
SQLITE_IOERR_READ = 266
SQLITE_IOERR_WRITE = 778
SQLITE_IOERR_FSYNC = 1034
SQLITE_IOERR_TRUNCATE = 1546
OPEN_CREATE = 0x4

_Transfer = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Cut = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
# The name stays a pointer: SQLite keeps it, and reads the URI's parameters behind its end.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, POINTER(c_int))


class _Methods(Structure):
    """sqlite3_io_methods; those that are not exchanged are mere pointers."""

    _fields_ = (
        ("iVersion", c_int),
        ("xClose", c_void_p),
        ("xRead", _Transfer),
        ("xWrite", _Transfer),
        ("xTruncate", _Cut),
        ("xSync", _Sync),
        ("rest", c_void_p * 13),
    )


class _Vfs(Structure):
    """sqlite3_vfs."""

    _fields_ = (
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", _Open),
        ("rest", c_void_p * 14),
    )


class Watched(Protocol):
    """What a file's disk is asked. Each answers with a result code; SQLITE_OK lets SQLite go on."""

    def open(self, path: str, *, create: bool) -> int: ...
    def read(self) -> int: ...
    def write(self, path: str, offset: int, size: int) -> int: ...
    def truncate(self, path: str) -> int: ...
    def sync(self, path: str) -> int: ...


DiskOf = Callable[[str], Watched | None]  # finds the disk of a path; None: the file is none of ours


@contextmanager
def watched(disk_of: DiskOf) -> Iterator[None]:
    """SQLite asks while the context lasts. One at a time per process. Raises LabFailed."""
    seam = _seam()
    seam.begin(disk_of)
    try:
        yield
    finally:
        seam.end()


@lru_cache(maxsize=1)
def _seam() -> _Seam:
    """One for the whole process: a file that outlives its context still calls the methods it was opened with."""
    return _Seam()


EXCLUSIVE = b"unix-excl"  # https://sqlite.org/vfs.html, "Standard Unix VFSes"


class _Seam:
    def __init__(self) -> None:
        self._disk_of: DiskOf = lambda path: None
        self._files: dict[int, tuple[Watched, str]] = {}  # by the address of SQLite's file object
        self._tables: dict[int, _Methods] = {}  # by the address of the original
        self._library = ctypes.CDLL(_sqlite3.__file__)
        try:
            find = self._library.sqlite3_vfs_find
        except AttributeError as error:
            raise LabFailed(
                f"the SQLite of this Python ({_sqlite3.__file__}) hides its functions, so that a card cannot be "
                "simulated. Try: the python3 of Debian"
            ) from error
        find.restype = POINTER(_Vfs)
        self._default = find(None).contents
        self._open_default = self._default.xOpen
        self._callback = _Open(self._open)
        self._ours = self._copy(self._default, b"tidegate-lab")
        self._exclusive = self._copy(find(EXCLUSIVE).contents, EXCLUSIVE)

    def begin(self, disk_of: DiskOf) -> None:
        """Become SQLite's default, and stand before the one that the outbox names."""
        self._disk_of = disk_of
        self._library.sqlite3_vfs_register(ctypes.byref(self._ours), 1)
        self._library.sqlite3_vfs_register(ctypes.byref(self._exclusive), 0)

    def end(self) -> None:
        """Give the place back."""
        self._library.sqlite3_vfs_register(ctypes.byref(self._default), 1)
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._ours))
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._exclusive))

    def _copy(self, original: _Vfs, name: bytes) -> _Vfs:
        """A VFS that opens files by way of ours. SQLite goes by the name: unix-excl locks the file for the process."""
        ours = _Vfs.from_buffer_copy(original)
        ours.zName, ours.pNext, ours.xOpen = name, None, self._callback
        return ours

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out_flags: object) -> int:
        path = ctypes.string_at(name).decode() if name else ""
        disk = self._disk_of(path) if path else None
        if disk is None:
            return int(self._open_default(vfs, name, file, flags, out_flags))
        refused = disk.open(path, create=bool(flags & OPEN_CREATE))
        if refused:
            ctypes.memset(file, 0, ctypes.sizeof(c_void_p))  # no methods: SQLite does not close it
            return refused
        result = int(self._open_default(vfs, name, file, flags, out_flags))
        if result == SQLITE_OK:
            self._files[file] = (disk, path)
            methods = c_void_p.from_address(file)
            assert methods.value is not None
            methods.value = ctypes.addressof(self._table(methods.value))
        return result

    def _table(self, original_at: int) -> _Methods:
        """The methods of a kind of file, with ours in their places."""
        if original_at in self._tables:
            return self._tables[original_at]
        original = _Methods.from_address(original_at)
        table = _Methods.from_buffer_copy(original)

        def read(file: int, into: int, size: int, offset: int) -> int:
            return self._files[file][0].read() or int(original.xRead(file, into, size, offset))

        def write(file: int, data: int, size: int, offset: int) -> int:
            disk, path = self._files[file]
            return disk.write(path, offset, size) or int(original.xWrite(file, data, size, offset))

        def truncate(file: int, size: int) -> int:
            disk, path = self._files[file]
            return disk.truncate(path) or int(original.xTruncate(file, size))

        def sync(file: int, flags: int) -> int:
            disk, path = self._files[file]
            return disk.sync(path) or int(original.xSync(file, flags))

        table.xRead, table.xWrite = _Transfer(read), _Transfer(write)
        table.xTruncate, table.xSync = _Cut(truncate), _Sync(sync)
        self._tables[original_at] = table
        return table
