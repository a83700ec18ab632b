"""Logging to stderr: one line per event. Under systemd each line carries its priority, as `<N>` (sd-daemon(3))."""

from __future__ import annotations

import logging
import os
import sys
import time

PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # syslog(3): err, warning, info
DEBUG_PRIORITY = 7


class LineFormatter(logging.Formatter):
    """`level=info part=sources.sensor msg="…"`; with the time where no journal adds it."""

    def __init__(self, in_journal: bool) -> None:
        super().__init__()
        self._in_journal = in_journal

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}: {self.formatException(record.exc_info)}"
        message = message.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        part = record.name.removeprefix("edge_agent.")
        line = f'level={record.levelname.lower()} part={part} msg="{message}"'
        if self._in_journal:
            return f"<{priority(record.levelno)}>{line}"
        return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(record.created))} {line}"


def priority(level: int) -> int:
    """The journal's number for a level."""
    return next((number for bound, number in PRIORITIES if level >= bound), DEBUG_PRIORITY)


def in_journal() -> bool:
    """Whether stderr is the journal: systemd.exec(5), JOURNAL_STREAM holds device:inode of it."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up(level: str) -> None:
    """Log the project's events from `level` on, others' warnings; to stderr. Call it before gRPC is imported."""
    # gRPC's core would write lines of its own, in its own form; what they tell is in our errors.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(in_journal()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("edge_agent", "wire", "hardware"):
        logging.getLogger(name).setLevel(level.upper())
