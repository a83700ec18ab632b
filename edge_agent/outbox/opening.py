"""Opening outbox and journal together: salvage if the file is damaged, then decide the epoch, then the ring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import OutboxCorrupt
from edge_agent.outbox.boot import Place, begin
from edge_agent.outbox.database import Database
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.lock import unusable
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.salvage import finish, salvage
from wire.series import content_id

OUTBOX = "outbox.db"
JOURNAL = "journal.ring"


@dataclass(frozen=True, slots=True)
class Opened:
    """Both, ready."""

    outbox: Outbox
    journal: Journal


def open_outbox(state_dir: Path, runtime_dir: Path, boot_id: str, machine_id: str, options: OutboxOptions) -> Opened:
    """See `Recorder.open`; the caller holds the lock."""
    try:
        runtime_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(runtime_dir, error) from error
    path = state_dir / OUTBOX
    ring_path = runtime_dir / JOURNAL
    place = Place(boot_id, content_id(boot_id.encode()), machine_id)
    finish(path)
    salvaged = False
    try:
        outbox = _ready(path, place, ring_path, options, salvaged=False)
    except OutboxCorrupt as error:
        salvage(path, options, str(error))
        salvaged = True
    if salvaged:
        outbox = _ready(path, place, ring_path, options, salvaged=True)
    try:
        row = outbox.current()
        journal = Journal(
            ring_path, int(outbox.meta("outbox") or 0), place.boot, options.journal_bytes, row.journal_lsn
        )
    except BaseException:
        outbox.database.close()
        raise
    return Opened(outbox, journal)


def _ready(path: Path, place: Place, ring_path: Path, options: OutboxOptions, *, salvaged: bool) -> Outbox:
    checked = path.exists() and path.stat().st_size <= options.check_bytes_max
    database = Database(path, options)
    try:
        outbox = Outbox(database)
        begin(outbox, place, Journal.head(ring_path), options, salvaged=salvaged, checked=checked)
    except BaseException:
        database.close()
        raise
    return outbox
