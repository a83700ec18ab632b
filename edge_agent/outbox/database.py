"""The outbox' SQLite file: opening, checking, transactions, and the room that is held back for a full disk."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_agent.errors import AgentError, OutboxCorrupt, OutboxFull, StateBusy, StateUnusable
from edge_agent.outbox.columns import fault_of_columns
from edge_agent.outbox.options import KIB, OutboxOptions

APPLICATION_ID = 0x54474F42  # "TGOB"
VERSION = 4
# A commit of 2.5 kB of readings with an ack of as many writes 8.9 kB of WAL at 1024, 14.3 at 2048, 28.8 at 4096; one of
# 300 B 6.3, 9.1 and 13.7. 512 would save a third more, in pieces smaller than any file system's block.
PAGE_BYTES = 1024
FRAME_BYTES = PAGE_BYTES + 24
CACHE_KIB = 512
BUSY_S = 10.0
RESERVE_EXTRA = 256 * KIB  # beside the WAL's length: a few new pages
FLOOR_SHARE = 20  # the floor is at most this part of the disk: a small partition is there to be used
RESERVE = "outbox.reserve"  # taken once an outbox is complete
DAMAGED = ".corrupt"  # after the name of a damaged file that was put aside
# SQLite file format 1.3: magic, page size, who may write and read (2: with a WAL), reserved bytes, payload fractions.
HEAD = b"SQLite format 3\0" + PAGE_BYTES.to_bytes(2, "big") + b"\2\2\0\x40\x20\x20"
FORMAT = slice(18, 20)
SUSPECT = "outbox.suspect"  # a damaged page was met at run time: check the whole file at the next start


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, without any check.

    The file is this process' alone while one is open ("unix-excl"), so the WAL's index is in its memory instead of in a
    mapped file, which the kernel would write back every 30 s (a quarter of all that reached the flash).
    """
    uri = f"{path.absolute().as_uri()}?vfs=unix-excl"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")  # reads the schema: a damaged file is met here
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def translated(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> AgentError:
    """What SQLite's error asks of the caller. Text that is not UTF-8 is damage, in a row or in SQLite's own message."""
    name = getattr(error, "sqlite_errorname", "") or ""
    is_text = isinstance(error, UnicodeDecodeError) or "decode to UTF-8" in str(error)
    if is_text or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "unsupported file format" in str(error):
        return OutboxCorrupt(f"{path}: {error}")
    if name in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"):
        return OutboxFull(f"{path}: {error}. Try: df {path.parent}")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StateBusy(f"{path} was locked by another program for {BUSY_S:.0f} s. Try: fuser {path}")
    return StateUnusable(f"{path}: {error} ({name}). Try: journalctl -k, or chown -R $(id -un) {path.parent}")


class Database:
    """The writer's connection. Not for two threads at once."""

    def __init__(self, path: Path, options: OutboxOptions) -> None:
        """Open the file, making it if it is missing.

        Raises:
            OutboxCorrupt: it is damaged or not an outbox.
            OutboxFull: the disk has no room to open it.
            StateUnusable: it cannot be read or written, or a newer version wrote it.
        """
        self.path = path
        self._options = options
        self._reserve = path.with_name(RESERVE)
        self.release_reserve()  # a migration or a checkpoint may need a page, on a full disk too
        try:
            _check_format(path)
            self.connection = connect(path)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translated(error, path) from error
        try:
            self._prepare()
            self._grow_wal()
            self.hold_reserve()
        except BaseException as error:
            self.connection.close()
            if isinstance(error, sqlite3.Error | UnicodeDecodeError):
                raise translated(error, path) from error
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One fsynced transaction; nothing of it stays when the block raises.

        Raises:
            OutboxFull, OutboxCorrupt, StateUnusable, StateBusy: see `translated`.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._noted(translated(error, self.path)) from error
            raise

    @property
    def size(self) -> int:
        """Bytes on disk: database, WAL, reserve, and the copy of a damaged outbox."""
        return _size(self.path) + self._beside()

    def used(self) -> int:
        """Bytes in use: pages that are not free, and all beside the database."""
        return self._pragma("page_count") * PAGE_BYTES - self.free_bytes() + self._beside()

    def limit(self, *, growing: bool = True) -> int:
        """Bytes that may be in use: the budget, or less where the disk would have less free than its floor.

        `growing=False`: no more than there are.

        Raises:
            StateUnusable: the disk does not say how much is free.
        """
        grown = self._pragma("page_count") * PAGE_BYTES + self._beside()  # some of it is still in the WAL
        if not growing:
            return min(self._options.bytes_max, grown)
        free, floor = self._disk()
        return min(self._options.bytes_max, max(grown, self.size + free - floor)) if floor else self._options.bytes_max

    def is_disk_taken(self) -> bool:
        """Is the disk so far below its floor that another program must have filled it? Raises as `limit`."""
        free, floor = self._disk()
        return free < floor // 2

    def _disk(self) -> tuple[int, int]:
        """Bytes free for us, and those that shall stay free."""
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:
            raise StateUnusable(f"{self.path.parent}: {error.strerror}. Try: df {self.path.parent}") from error
        floor = min(self._options.floor_bytes, disk.f_blocks * disk.f_frsize // FLOOR_SHARE)
        return disk.f_bavail * disk.f_frsize, floor

    def drop_damaged(self) -> bool:
        """Delete the copy of a damaged outbox that is kept for people; False when there is none."""
        found = [path for path in self._damaged if path.exists()]
        for path in found:
            path.unlink(missing_ok=True)
        return bool(found)

    def free_bytes(self) -> int:
        """What can be written without the file growing."""
        return self._pragma("freelist_count") * PAGE_BYTES

    def hold_reserve(self) -> bool:
        """Set room aside that other files cannot take: what a checkpoint needs to empty the WAL on a full disk.

        While it is held the database may grow; False when the disk has no room for it.
        """
        if self._reserve.exists():
            return True
        try:
            descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._options.wal_bytes + RESERVE_EXTRA)
            finally:
                os.close(descriptor)
        except OSError as error:
            with suppress(OSError):  # a disk that takes nothing keeps what is there
                self._reserve.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise StateUnusable(f"{self._reserve}: {error.strerror}") from error
        return True

    def release_reserve(self) -> None:
        """Give the room back, for the database's own use."""
        try:
            self._reserve.unlink(missing_ok=True)
        except OSError as error:
            raise StateUnusable(f"{self._reserve}: {error.strerror}. Try: ls -l {self._reserve.parent}") from error

    def empty_wal(self) -> None:
        """Copy the WAL into the database, so that it is written from its start again."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            raise self._noted(translated(error, self.path)) from error

    def close(self) -> None:
        """Close the file; the room of its WAL stays taken, so that a full disk cannot keep the next start from it.

        Where the disk takes nothing now, the next start asks for that room again.
        """
        self.connection.close()
        with suppress(StateUnusable):
            self._grow_wal()
            self.hold_reserve()

    @property
    def _wal(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    @property
    def _damaged(self) -> tuple[Path, Path]:
        aside = self.path.with_name(self.path.name + DAMAGED)
        return aside, aside.with_name(aside.name + "-wal")

    def _beside(self) -> int:
        return sum(_size(path) for path in (self._wal, self._reserve, *self._damaged))

    def _pragma(self, name: str) -> int:
        return int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _noted(self, error: AgentError) -> AgentError:
        if isinstance(error, OutboxCorrupt):
            self.path.with_name(SUSPECT).touch()
        return error

    def _grow_wal(self) -> None:
        """Give the WAL its length, so that acks need no new room. Zeros are no frame: SQLite starts it afresh.

        On a full disk it stays as it is; the reserve stands in.
        """
        missing = self._options.wal_bytes - _size(self._wal)
        if missing <= 0:
            return
        try:
            with self._wal.open("ab") as file:
                # Written, not only allocated: ext4 journals the first write to each allocated block.
                file.write(bytes(missing))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise StateUnusable(f"{self._wal}: {error.strerror}. Try: ls -l {self._wal.parent}") from error

    def _prepare(self) -> None:
        """Check what is there, bring the schema up to date, set how it is written."""
        execute = self.connection.execute
        execute("PRAGMA cell_size_check = ON")
        execute("PRAGMA secure_delete = OFF")  # Debian's SQLite writes zeros over what is deleted: flash for nothing
        version, application = self._pragma("user_version"), self._pragma("application_id")
        empty = execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty and application != APPLICATION_ID:
            raise OutboxCorrupt(f"{self.path}: application id {application:#x}, expected {APPLICATION_ID:#x}")
        if version > VERSION:
            if execute("SELECT count(*) FROM _sqlite_migrations").fetchone()[0] == VERSION:
                raise OutboxCorrupt(f"{self.path}: schema version {version}, and no migration made it")
            raise StateUnusable(
                f"{self.path}: schema version {version}, this agent knows {VERSION}. "
                "Try: install the newer edge-agent again"
            )
        if empty:
            execute(f"PRAGMA page_size = {PAGE_BYTES}")
        else:
            self._check_whole()
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute(f"PRAGMA journal_size_limit = {self._options.wal_bytes}")  # one large transaction leaves no long WAL
        execute(f"PRAGMA wal_autocheckpoint = {self._options.wal_bytes // 2 // FRAME_BYTES}")
        if version == VERSION and not empty and (fault := fault_of_columns(self.connection)):
            raise OutboxCorrupt(f"{self.path}: {fault}")
        if version < VERSION:
            from edge_agent.outbox.schema import migrate

            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            migrate(self.connection, VERSION)

    def _check_whole(self) -> None:
        """Every page and index, if the file is small or damage was met; about 20 ms per MB of warm file, card speed
        when cold. (`quick_check` takes as long, and leaves out whether an index still finds its rows.)

        A larger file is believed until a damaged page is met: that leaves the mark which asks for this check.
        """
        suspect = self.path.with_name(SUSPECT)
        if _size(self.path) > self._options.check_bytes_max and not suspect.exists():
            return
        found = [row[0] for row in self.connection.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            raise OutboxCorrupt(f"{self.path}: {found[0]}")
        if suspect.exists():
            raise OutboxCorrupt(f"{self.path}: a damaged page was met at run time, and the check finds none")


def _check_format(path: Path) -> None:
    """SQLite opens what looks like a newer format for reading only. Raises OutboxCorrupt: there is none."""
    try:
        with path.open("rb") as file:
            told = file.read(len(HEAD))[FORMAT]
    except OSError:  # there is none yet, or SQLite says why it can't be read
        return
    if told and max(told) > max(HEAD[FORMAT]):
        raise OutboxCorrupt(f"{path}: file format {told.hex(' ')}, the newest there is is {HEAD[FORMAT].hex(' ')}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
