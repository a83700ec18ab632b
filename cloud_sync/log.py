"""Log lines on stderr: time, level, logger, then the message as `key=value`."""

from __future__ import annotations

import logging
import time


def log_to_stderr(level: str) -> None:
    """Set up logging for the process. Times are UTC."""
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ level=%(levelname)s logger=%(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
