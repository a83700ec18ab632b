"""The outbox: whole, and with room. A running agent is asked; without one a copy of the file is looked at.

Opening the file itself would change it: SQLite makes or empties the files beside it, and in root's name if root asks.
"""

from __future__ import annotations

import errno
import shlex
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.config.model import Config
from edge_agent.config.values import show_size, show_span
from edge_agent.doctor.agent import Agent
from edge_agent.doctor.finding import SUDO, Finding, all_skipped, failed, ok, skipped, warning
from edge_agent.errors import OutboxCorrupt, OutboxFull, StateUnusable
from edge_agent.outbox.database import SUSPECT, Database, translated
from edge_agent.outbox.opening import OUTBOX
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox

IDS = ("buffer.integrity", "buffer.salvaged", "buffer.trend")
FILL_WARNING, FILL_FAILED = 0.8, 0.95  # of [buffer] max_size; at 1 the oldest readings are given up
AUTONOMY_S_MIN = 86_400.0  # a day: people have time to come
WAIT_S_MAX = 600.0  # beyond [cloud] batch, for a reading on a link that works
RESTART = "sudo systemctl restart edge-agent"
EXPLAIN = "edge-agent sync explain"


def check_buffer(config: Config, agent: Agent) -> Iterator[Finding]:
    """Integrity, what is left of earlier damage, and how full it is."""
    path = config.state_dir / OUTBOX
    if agent.refused:
        yield from all_skipped(IDS, agent.refused, SUDO)
        return
    if agent.status is None:
        if not path.exists():
            yield from all_skipped(IDS, "there is no outbox yet")
            return
        integrity, fill = _copied(path, config)
        yield integrity
        yield _salvaged(path)
        yield fill
        return
    yield _asked(path, agent.status["buffer"])
    yield _salvaged(path)
    yield _trend(config, agent.status)


def _asked(path: Path, buffer: dict[str, Any]) -> Finding:
    if path.with_name(SUSPECT).exists():
        return _suspect(path)
    if buffer["commits_failed"] and buffer["disk_full"]:
        return failed("buffer.integrity", "commits fail: the disk is full", f"df -h {shlex.quote(str(path.parent))}")
    return ok("buffer.integrity", f"the running agent has met no damaged page in {buffer['commits']} commits")


def _suspect(path: Path) -> Finding:
    text = f"{path}: a damaged page was met; the next start saves what can be read, and keeps the damaged file"
    return failed("buffer.integrity", text, RESTART)


def _salvaged(path: Path) -> Finding:
    damaged = path.with_name(path.name + ".corrupt")
    if damaged.exists():
        text = f"the outbox was damaged and saved before; {damaged} is what is left of it. Is the card worn out?"
        return warning("buffer.salvaged", text, f"sudo rm {shlex.quote(str(damaged))}*")
    return ok("buffer.salvaged", "no damaged outbox was put aside")


def _trend(config: Config, status: dict[str, Any]) -> Finding:
    buffer, sync = status["buffer"], status["sync"]
    left, oldest = buffer["offline_autonomy_s"], buffer["oldest_age_s"]
    full = _fill(buffer["used_bytes"], buffer["disk_bytes_max"], buffer["cells"])
    if full.result != "ok":
        return full
    if left is not None and left < AUTONOMY_S_MIN and not sync["connected"]:
        return warning("buffer.trend", f"readings are given up in {show_span(left)} if the link stays down", EXPLAIN)
    held = any(hold["bulk"] for hold in sync["holds"] or ())
    batch = config.cloud.batch if config.cloud is not None else 0.0
    if sync["connected"] and not held and oldest is not None and oldest > batch + WAIT_S_MAX:
        return warning("buffer.trend", f"connected, and the oldest reading waits for {show_span(oldest)}", EXPLAIN)
    return full


def _fill(used: int, most: int, cells: int) -> Finding:
    share = used / most
    text = f"{cells:,} readings wait, {show_size(used)} of {show_size(most)} are taken"
    if share >= FILL_FAILED:
        return failed("buffer.trend", f"{text}: the oldest are given up", EXPLAIN)
    if share >= FILL_WARNING:
        return warning("buffer.trend", text, EXPLAIN)
    return ok("buffer.trend", text)


def _copied(path: Path, config: Config) -> tuple[Finding, Finding]:
    """Look at a private copy, as the agent would at its start. Raises OSError when it cannot be made."""
    options = OutboxOptions()
    files = [each for each in (path, path.with_name(path.name + "-wal")) if each.exists()]
    size = sum(each.stat().st_size for each in files)
    trend = skipped("buffer.trend", "the outbox could not be read")
    if path.with_name(SUSPECT).exists():
        return _suspect(path), trend
    if size > options.check_bytes_max:
        why = f"{show_size(size)} are more than is read whole ({show_size(options.check_bytes_max)})"
        return skipped("buffer.integrity", why), _fill(size, config.buffer.max_size, 0)
    with tempfile.TemporaryDirectory(prefix="edge-agent-doctor-") as folder:
        before = [_mark(each) for each in files]
        try:
            for each in files:
                shutil.copyfile(each, Path(folder) / each.name)
            if before != [_mark(each) for each in files]:
                why = "somebody writes the outbox at this moment"
                return skipped("buffer.integrity", why, "edge-agent doctor"), trend
            return _opened(Path(folder) / path.name, path, options, config.buffer.max_size)
        except OutboxCorrupt as error:
            told = str(error).replace(folder, str(path.parent))
            text = f"{told}; the agent saves what can be read when it starts, and keeps the damaged file"
            return failed("buffer.integrity", text, RESTART), trend
        except (OutboxFull, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOSPC:
                raise
            why = f"there is no room for a copy in {tempfile.gettempdir()}"
            return skipped("buffer.integrity", why, f"df -h {shlex.quote(tempfile.gettempdir())}"), trend
        except StateUnusable as error:
            told, _, fix = str(error).replace(folder, str(path.parent)).partition(" Try: ")
            return failed("buffer.integrity", told.rstrip("."), fix), trend


def _opened(copy: Path, path: Path, options: OutboxOptions, most: int) -> tuple[Finding, Finding]:
    database = Database(copy, options)
    try:
        outbox = Outbox(database)
        outbox.series_sets()
        cells = outbox.totals().cells or 0
        return ok("buffer.integrity", f"every page of {path} is whole"), _fill(database.used(), most, cells)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise translated(error, copy) from error
    finally:
        database.connection.close()


def _mark(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size
