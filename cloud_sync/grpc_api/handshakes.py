"""Whom TLS refused on a port of ours, and why: gRPC tells that in its own log alone, on C's stderr. It is read here.

This module does not import grpc: its log begins with the import.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import threading
import time
from collections.abc import Callable

from cloud_sync.metrics import Metrics

log = logging.getLogger(__name__)

REPEAT_S = 60.0  # between two lines of one reason: a gateway that is refused comes back every half minute
LINE_BYTES_MAX = 4096
_UNBUFFERED = 2  # _IONBF of stdio.h
_FAILED = re.compile(rb"Handshake failed with error \S+ error:[0-9a-f]+:SSL routines:OPENSSL_internal:(\w+)(?:: (.*))?")
# By what BoringSSL says, or for a certificate what it finds wrong with it: a stable label, and words for people.
REASONS: dict[str, tuple[str, str]] = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        "no_certificate",
        "it showed no certificate",
    ),
    "UNSUPPORTED_PROTOCOL": ("old_tls", "it speaks no TLS of version 1.2 or later"),
    "certificate has expired": ("expired", "its certificate has expired. There: edge-agent renew"),
    "certificate is not yet valid": (
        "not_yet_valid",
        "its certificate is not valid yet",
    ),
    "unable to get local issuer certificate": ("other_ca", "its certificate is of a CA that is not trusted here"),
    "self signed certificate": ("other_ca", "its certificate is of a CA that is not trusted here"),
    "certificate signature failure": ("other_ca", "its certificate is of a CA that is not trusted here"),
    "unsupported certificate purpose": ("not_a_client", "its certificate is not for a client"),
    "TLSV1_ALERT_UNKNOWN_CA": ("distrusted", "it does not trust the CA of this cloud"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": ("distrusted", "it does not trust the certificate of this cloud"),
    "SSLV3_ALERT_BAD_CERTIFICATE": ("distrusted", "it does not trust the certificate of this cloud"),
    # A TLS 1.3 client's alert comes under the wrong keys when it breaks off at our certificate.
    "BAD_PACKET_LENGTH": ("distrusted", "it broke off, most likely as it does not trust this cloud's certificate"),
    "HTTP_REQUEST": ("no_tls", "it speaks HTTP without TLS"),
    "WRONG_VERSION_NUMBER": ("no_tls", "it speaks no TLS"),
}


def reason_in(line: bytes) -> tuple[str, str] | None:
    """Label and words of a refusal; None for a line about something else."""
    found = _FAILED.search(line)
    if found is None:
        return None
    code, detail = str(found[1], "ascii"), str(found[2] or b"", "utf-8", "replace")
    said: str = detail if code == "CERTIFICATE_VERIFY_FAILED" else code
    return REASONS.get(said, ("other", said.lower().replace("_", " ")[:200]))


class Handshakes:
    """Counts and tells refusals. `now_s` is monotonic seconds."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._metrics: Metrics | None = None
        self._told_at: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def count_in(self, metrics: Metrics) -> None:
        """From now on."""
        self._metrics = metrics

    def read_core(self) -> None:
        """Take over C's stderr, which is not Python's. Before grpc is imported; without effect where its log was asked
        for in the environment, and where the C library has no such thing."""
        if os.environ.get("GRPC_VERBOSITY", "NONE") != "NONE":
            return
        try:
            stderr = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "stderr")
        except ValueError:
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)  # when nobody reads, lines are lost: the core's threads must not stand
        stderr.value = _c_file(writer)
        os.environ["GRPC_VERBOSITY"] = "INFO"
        threading.Thread(target=self._read, args=(reader,), name="grpc log", daemon=True).start()

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as lines:
            while line := lines.readline(LINE_BYTES_MAX):
                self.take(line)

    def take(self, line: bytes) -> None:
        """A line of the core's log."""
        reason = reason_in(line)
        if reason is None:
            return
        label, words = reason
        if self._metrics is not None:
            self._metrics.tls_refused.labels(label).inc()
        self._untold[words] = self._untold.get(words, 0) + 1
        now_s = self._now_s()
        if now_s - self._told_at.get(words, -REPEAT_S) < REPEAT_S:
            return
        self._told_at[words] = now_s
        log.warning("TLS refused a peer reason=%s times=%d detail=%s", label, self._untold.pop(words), words)
        if len(self._told_at) > len(REASONS) + 100:  # words of `other` are the library's, and few
            self._told_at.clear()


def _c_file(descriptor: int) -> int:
    """An unbuffered FILE* that writes there."""
    libc = ctypes.CDLL(None)
    libc.fdopen.restype = ctypes.c_void_p
    stream = libc.fdopen(descriptor, b"w")
    libc.setvbuf(ctypes.c_void_p(stream), None, _UNBUFFERED, 0)
    return int(stream)
