"""Lines of gRPC's own log: which tell of a refusal, how often that is said, and what is counted."""

from __future__ import annotations

import logging

import pytest

from cloud_sync.grpc_api.handshakes import REPEAT_S, WORDS_MAX, Handshakes, reason_in
from cloud_sync.metrics import Metrics

HEAD = b"I1128 08:27:54.210425   26117 ssl_transport_security.cc:2563] Handshake failed with error SSL_ERROR_SSL: "
EXPIRED = HEAD + b"error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has expired\n"
OLD = (
    HEAD
    + b"error:100000f0:SSL routines:OPENSSL_internal:UNSUPPORTED_PROTOCOL: Invalid certificate verification context\n"
)


@pytest.mark.parametrize(
    ("line", "label"),
    [
        (EXPIRED, "expired"),
        (OLD, "old_tls"),
        (HEAD + b"error:10000001:SSL routines:OPENSSL_internal:SOMETHING_NEW", "other"),
        (HEAD.replace(b"failed with", b"failure:"), "other"),
        (b"another library: Handshake failed\n", None),
        (b"W1128 log.cc:102] Log level INFO is not suitable for production.\n", None),
        (b"\xff" * 4096, None),
        (b"", None),
    ],
)
def test_what_a_line_says(line: bytes, label: str | None) -> None:
    reason = reason_in(line)
    assert (reason and reason[0]) == label


def test_each_is_counted_and_one_in_a_minute_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    now_s = 0.0
    metrics = Metrics()
    handshakes = Handshakes(lambda: now_s)
    handshakes.count_in(metrics)
    for _ in range(3):
        handshakes.take(EXPIRED)
    handshakes.take(OLD)
    now_s = REPEAT_S
    handshakes.take(EXPIRED)
    told = [record.getMessage() for record in caplog.records]
    assert [line.partition(" detail=")[0].removeprefix("TLS refused a peer ") for line in told] == [
        "reason=expired times=1",
        "reason=old_tls times=1",
        "reason=expired times=3",
    ]
    assert metrics.registry.get_sample_value("tidegate_tls_refused_total", {"reason": "expired"}) == 4


def test_whose_line_it_is() -> None:
    handshakes = Handshakes()
    core = b"W1128 08:27:54.210425   26117 log.cc:102] Log level INFO is not suitable for production.\n"
    fatal = core.replace(b"W1128", b"F1128")
    assert [handshakes.take(line) for line in (EXPIRED, core, fatal, b"duckdb: words\n", b"\n")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_reasons_that_nobody_foresaw_are_bounded() -> None:
    handshakes = Handshakes()
    for number in range(1000):
        handshakes.take(HEAD + b"error:10000001:SSL routines:OPENSSL_internal:NEW_%d" % number)
    assert len(handshakes._told_at) == len(handshakes._untold) == WORDS_MAX + 1
