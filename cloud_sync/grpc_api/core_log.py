"""C's stderr, which is not Python's, line by line: a taker is shown each; what it does not take comes out where it did
before.

This module does not import grpc: its core's log begins with the import.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import re
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

LINE_BYTES_MAX = 4096  # of a line that is looked at; the rest of it shares its fate
PIPE_BYTES = 1 << 20  # what may wait for the reader: 5,000 lines. Linux lets anybody have so much
CLOSE_S_MAX = 5.0
_UNBUFFERED = 2  # _IONBF of stdio.h
_STDERR = 2
_FREE = 3  # the least descriptor that is nobody's standard stream
# As absl writes them: level, month and day, time, thread, FILE:LINE. A fatal one is for people, it ends the process.
_CORE = re.compile(rb"[IWE]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [^ ]+:\d+\] |WARNING: All log messages before absl::")


def is_of_core(line: bytes) -> bool:
    """Whether gRPC's core wrote it, as far as its form tells."""
    return _CORE.match(line) is not None


class CoreLog:
    """`take` is called for each line on a thread of its own, and says whether it took it."""

    def __init__(self, take: Callable[[bytes], bool]) -> None:
        self._take = take
        self._out: int | None = None  # where C's stderr led; None: it was closed
        self._writer = -1
        self._thread = threading.Thread(target=lambda: None)

    def open(self) -> bool:
        """Begin. False, and nothing has changed: this C library has no such thing, or no descriptor is left."""
        if not _is_glibc():  # elsewhere `stderr` is a constant, or has another name
            return False
        try:
            self._out = _above(os.dup(_STDERR))
        except OSError as error:
            if error.errno != errno.EBADF:
                return self._given_up(error)
        try:
            reader, self._writer = (_above(end) for end in os.pipe())
            with contextlib.suppress(OSError):  # the owner of many pipes may not: then less waits
                fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            os.set_blocking(self._writer, False)  # when nobody reads, lines are lost: the core's threads must not stand
            stream = _c_file(self._writer)
        except OSError as error:
            return self._given_up(error)
        self._thread = threading.Thread(target=self._read, args=(reader,), name="grpc log", daemon=True)
        self._thread.start()
        ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr").value = stream
        atexit.register(self.close)
        return True

    def close(self) -> None:
        """From now on all goes where it went before; returns when what waited has come out."""
        with contextlib.suppress(OSError):
            out = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if self._out is None else self._out
            os.dup2(out, self._writer, inheritable=False)  # the reader's pipe ends with it
        self._thread.join(CLOSE_S_MAX)

    def _given_up(self, error: OSError) -> bool:
        log.warning("gRPC's own log is not read, whom TLS refuses is not told error=%s", error.strerror)
        return False

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as lines:
            taken, whole = False, True
            while piece := lines.readline(LINE_BYTES_MAX):
                if whole:
                    taken = self._is_taken(piece)
                whole = piece.endswith(b"\n")
                if not taken:
                    self._put(piece)

    def _is_taken(self, line: bytes) -> bool:
        try:
            return self._take(line)
        except Exception:  # a mistake of ours: whoever writes here must not find the pipe full for it
            log.exception("a line of gRPC's log could not be taken")
            return False

    def _put(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more, as before
            while data and self._out is not None:
                data = data[os.write(self._out, data) :]


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):
        return False


def _above(descriptor: int) -> int:
    """The same above the standard streams: where one of those was closed, the next to be opened gets its number."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FREE)
    finally:
        os.close(descriptor)


def _c_file(descriptor: int) -> int:
    """An unbuffered FILE* that writes there. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fdopen.restype = ctypes.c_void_p
    stream = libc.fdopen(descriptor, b"w")
    if not stream:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.setvbuf(ctypes.c_void_p(stream), None, _UNBUFFERED, 0)
    return int(stream)
