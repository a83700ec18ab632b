"""Lines of gRPC's own log: which tell of a refusal, how often that is said, and what is counted."""

from __future__ import annotations

import logging

import pytest

from cloud_sync.grpc_api.handshakes import REPEAT_S, Handshakes, reason_in
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
