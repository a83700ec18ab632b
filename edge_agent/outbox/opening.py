"""Opening outbox and journal together: salvage if the file is damaged, then decide the epoch, then the ring."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import OutboxCorrupt
from edge_agent.outbox.boot import Instance, begin
from edge_agent.outbox.database import RESERVE, Database, translated
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.lock import StateLock
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.salvage import finish, salvage
from wire.series import content_id

OUTBOX = "outbox.db"
JOURNAL = "journal.ring"


@dataclass(frozen=True, slots=True)
class Opened:
    """Both, ready; `close` lets go of them and of the locks."""

    outbox: Outbox
    journal: Journal
    close: Callable[[], None]


def open_outbox(state_dir: Path, runtime_dir: Path, boot_id: str, machine_id: str, options: OutboxOptions) -> Opened:
    """See `Recorder.open`."""
    with ExitStack() as stack:
        for directory, name in ((state_dir, "lock"), (runtime_dir, "journal.lock")):
            stack.callback(StateLock(directory, name).release)
        instance = Instance(boot_id, content_id(boot_id.encode()), machine_id)
        path, ring_path = state_dir / OUTBOX, runtime_dir / JOURNAL
        finish(path)
        try:
            outbox = _ready(path, instance, ring_path, options, salvaged=False)
        except OutboxCorrupt as error:
            _salvaged(path, options, str(error))
            outbox = _ready(path, instance, ring_path, options, salvaged=True)
        stack.callback(outbox.database.close)
        outbox_id, after = int(outbox.meta("outbox") or 0), outbox.current().journal_lsn
        journal = Journal(ring_path, outbox_id, instance.boot, options.journal_bytes, after)
        stack.callback(journal.close)
        return Opened(outbox, journal, stack.pop_all().close)


def _salvaged(path: Path, options: OutboxOptions, cause: str) -> None:
    """Salvage; a disk that refuses it now is tried again at the next start."""
    try:
        salvage(path, options, cause)
    except sqlite3.Error as error:
        raise translated(error, path) from error


def _ready(path: Path, instance: Instance, ring_path: Path, options: OutboxOptions, *, salvaged: bool) -> Outbox:
    if path.exists() and not path.stat().st_size and path.with_name(RESERVE).exists():
        raise OutboxCorrupt(f"{path}: empty, and it was not")  # SQLite would make a new one of it, and drop its WAL
    checked = path.exists() and path.stat().st_size <= options.check_bytes_max
    database = Database(path, options)
    try:
        outbox = Outbox(database)
        outbox.series_sets()  # a definition that is not what its name says is damage too
        begin(outbox, instance, Journal.head(ring_path), options, salvaged=salvaged, checked=checked)
    except BaseException as error:
        database.close()
        if isinstance(error, sqlite3.Error | UnicodeDecodeError):
            raise translated(error, path) from error
        raise
    return outbox
