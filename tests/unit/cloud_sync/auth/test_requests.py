"""Certificate requests and old certificates from anybody: a key, or a refusal that says what helps."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.auth.authority import REQUEST_BYTES_MAX, Authority, check_request
from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway
from cloud_sync.errors import AccessDenied, JoinRefused
from edge_agent.enrol.keys import DeviceKey

KEY = DeviceKey.new()
GOOD = KEY.request("gw-a")


def request_with(key: object, algorithm: hashes.HashAlgorithm | None, names: int = 0) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        sans = x509.SubjectAlternativeName([x509.DNSName(f"a{number}.example") for number in range(names)])
        builder = builder.add_extension(sans, critical=False)
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)  # type: ignore[arg-type]


def der(tag: int, body: bytes) -> bytes:
    size = len(body)
    return bytes([tag]) + (bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")) + body


def costly_rsa() -> bytes:
    """A public exponent as long as the modulus: 7 ms to look at its signature."""
    modulus, exponent = (der(2, first + b"\xff" * 383) for first in (b"\0\xff", b"\x7f"))
    null = bytes.fromhex("0500")
    key = der(
        0x30, der(0x30, bytes.fromhex("06092a864886f70d010101") + null) + der(3, b"\0" + der(0x30, modulus + exponent))
    )
    signed = der(0x30, bytes.fromhex("020100") + der(0x30, b"") + key + der(0xA0, b""))
    return der(0x30, signed + der(0x30, bytes.fromhex("06092a864886f70d01010b") + null) + der(3, b"\0\1" + bytes(383)))


ODD = {
    "ed25519": request_with(ed25519.Ed25519PrivateKey.generate(), None),
    "rsa": request_with(rsa.generate_private_key(65537, 2048), hashes.SHA256()),
    "costly rsa": costly_rsa(),
    "dsa": request_with(dsa.generate_private_key(1024), hashes.SHA256()),
    "p384": request_with(ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
}


@pytest.mark.parametrize("kind", ODD)
def test_keys_of_other_kinds(kind: str) -> None:
    """Refused by a look at the key: its signature, which may be made to cost much, is not looked at."""
    with pytest.raises(JoinRefused, match=r"not P-256.*Try: edge-agent join"):
        check_request(ODD[kind])


def test_many_names_cost_nothing_and_count_for_nothing() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert check_request(request_with(key, hashes.SHA256(), 150)).public == key.public_key()
    with pytest.raises(JoinRefused, match=f"at most {REQUEST_BYTES_MAX}"):
        check_request(request_with(key, hashes.SHA256(), 400))


def test_a_version_of_another_age() -> None:
    data = bytearray(GOOD)
    data[data.index(bytes.fromhex("020100")) + 2] = 7
    with pytest.raises(JoinRefused, match="no certificate request"):
        check_request(bytes(data))


def test_a_signature_of_another_key() -> None:
    with pytest.raises(JoinRefused, match="not signed by its own key"):
        check_request(GOOD[:-1] + bytes([GOOD[-1] ^ 1]))


@given(st.binary(max_size=300) | st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)))
def test_any_bytes_give_a_key_or_a_refusal(change: bytes | tuple[int, int]) -> None:
    data = change
    if isinstance(change, tuple):
        data = GOOD[: change[0]] + bytes([GOOD[change[0]] ^ change[1]]) + GOOD[change[0] + 1 :]
    assert isinstance(data, bytes)
    with suppress(JoinRefused):
        check_request(data)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, bytes]:
    files = PkiFiles(tmp_path_factory.mktemp("pki"))
    create_ca(files, [])
    return Authority.load(files.ca, files.ca_key), issue_gateway(files, "gw-a", datetime.now(UTC), 1).issued.pem


@given(data=st.data())
def test_any_certificate_recovers_nothing_without_its_key(
    authority: tuple[Authority, bytes], data: st.DataObject
) -> None:
    ours, certificate = authority
    raw = bytearray(x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER))
    for _ in range(data.draw(st.integers(0, 2))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    text = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(raw)) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(AccessDenied, match="Try: "):
        ours.recoverable(text, GOOD, KEY.sign_recovery(GOOD), datetime.now(UTC))


@given(st.binary(max_size=200))
def test_what_is_no_certificate_recovers_nothing(authority: tuple[Authority, bytes], data: bytes) -> None:
    with pytest.raises(AccessDenied):
        authority[0].recoverable(data, GOOD, data, datetime.now(UTC))


def test_the_servers_certificate_is_no_gateways(tmp_path: Path) -> None:
    """It is of the same CA; whoever has its key has no gateway's."""
    files = PkiFiles(tmp_path)
    create_ca(files, [])
    key = DeviceKey.load(files.server_key.read_bytes())
    with pytest.raises(AccessDenied, match="no certificate of this cloud"):
        Authority.load(files.ca, files.ca_key).recoverable(
            files.server.read_bytes(), GOOD, key.sign_recovery(GOOD), datetime.now(UTC)
        )
