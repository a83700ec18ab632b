"""Whom TLS refused on a port of ours, and why: gRPC tells that in its own log alone, on C's stderr. It is read here.

This module does not import grpc: its log begins with the import.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable

from cloud_sync.grpc_api.core_log import CoreLog, is_of_core
from cloud_sync.metrics import Metrics

log = logging.getLogger(__name__)

REPEAT_S = 60.0  # between two lines of one reason: a gateway that is refused comes back every half minute
WORDS_MAX = 100  # reasons that are told apart
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
UNREAD = ("other", "in words that this version of the service cannot read")


def reason_in(line: bytes) -> tuple[str, str] | None:
    """Label and words of a refusal; None for a line about something else."""
    found = _FAILED.search(line)
    if found is None:
        return UNREAD if is_of_core(line) and b"andshake fail" in line else None
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
        """Read gRPC's log from now on. Before grpc is imported; without effect where its log was asked for in the
        environment, and where C's stderr cannot be read."""
        if os.environ.get("GRPC_VERBOSITY", "NONE") == "NONE" and CoreLog(self.take).open():
            os.environ["GRPC_VERBOSITY"] = "INFO"

    def take(self, line: bytes) -> bool:
        """A line of C's stderr: whether it is of gRPC's core, whose log beside this nobody asked for."""
        reason = reason_in(line)
        if reason is None:
            return is_of_core(line)
        label, words = reason
        if self._metrics is not None:
            self._metrics.tls_refused.labels(label).inc()
        if words not in self._untold and len(self._untold) >= WORDS_MAX:  # those of `other` are the library's, and few
            words = "other reasons"
        self._untold[words] = self._untold.get(words, 0) + 1
        now_s = self._now_s()
        if now_s - self._told_at.get(words, -REPEAT_S) < REPEAT_S:
            return True
        self._told_at[words] = now_s
        log.warning("TLS refused a peer reason=%s times=%d detail=%s", label, self._untold[words], words)
        self._untold[words] = 0
        return True
