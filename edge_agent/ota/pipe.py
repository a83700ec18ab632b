"""How the process that installs gets its files from the agent: it asks on stdout, the agent answers on stdin.

A line of JSON each way; behind an answer's line come so many bytes as it says. The agent fetches over its own
connection.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from edge_agent.ota.errors import FetchFailed, FileMissing
from edge_agent.ota.fetch import Body
from wire.fetching import PIECE_BYTES_MAX

LINE_BYTES_MAX = 64 << 10
FIRST_BYTES = 4 << 10  # of a piece, before the rate is known
QUICK_S = 1.0  # a piece that came within it is followed by one twice as long
SLOW_S = 4.0  # one that took longer, by one half as long: an alarm waits no longer behind it


def write_line(stream: BinaryIO, told: dict[str, Any], data: bytes = b"") -> None:
    """One line and what follows it."""
    stream.write(json.dumps(told).encode() + b"\n" + data)
    stream.flush()


class PipeFetcher:
    """A `Fetcher` whose URLs are paths in the repository."""

    def __init__(self, answers: BinaryIO, questions: BinaryIO) -> None:
        self._answers = answers
        self._questions = questions
        self._piece_bytes = FIRST_BYTES

    @contextmanager
    def open(self, url: str, offset: int = 0, validator: str = "") -> Iterator[Body]:
        """See `Fetcher`. The first piece is asked for at once: it tells whether the file is there."""
        yield _PipeBody(self, url, offset)

    def piece(self, path: str, offset: int, most: int) -> tuple[bytes, int]:
        """Bytes, and the length of the file. Raises FetchFailed."""
        length = min(most, self._piece_bytes, PIECE_BYTES_MAX)
        began = time.monotonic()
        write_line(self._questions, {"fetch": {"path": path, "offset": offset, "length": length}})
        line = self._answers.readline(LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            raise FetchFailed("the agent has ended", "unreachable")
        told = json.loads(line)
        if "error" in told:
            if told["error"] == "missing":
                raise FileMissing(f"{path} is not in the repository")
            raise FetchFailed(f"{path}: {told['text']}", told["error"])
        data = self._answers.read(told["length"])
        took_s = time.monotonic() - began
        if took_s < QUICK_S and length == self._piece_bytes:
            self._piece_bytes = min(2 * self._piece_bytes, PIECE_BYTES_MAX)
        elif took_s > SLOW_S:
            self._piece_bytes = max(self._piece_bytes // 2, FIRST_BYTES)
        return data, told["total"]


class _PipeBody:
    """See `Body`."""

    def __init__(self, fetcher: PipeFetcher, path: str, offset: int) -> None:
        self.offset = offset
        self.validator = ""
        self._fetcher = fetcher
        self._path = path
        self._at = offset
        self._ahead, self._total = fetcher.piece(path, offset, FIRST_BYTES)

    def read(self, most: int) -> bytes:
        """See `Body`."""
        if not self._ahead and self._at < self._total:
            self._ahead, self._total = self._fetcher.piece(self._path, self._at, most)
            if not self._ahead:
                raise FetchFailed(f"{self._path} ends at {self._at} of {self._total} bytes", "cut_short")
        data, self._ahead = self._ahead[:most], self._ahead[most:]
        self._at += len(data)
        return data
