"""The development CA: one key in a folder, certificates for the server and for gateways. P-256 throughout, because
gRPC-Python refuses Ed25519."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_sync.auth.identity import URN_PREFIX, check_gateway_id
from cloud_sync.errors import ConfigInvalid

# A gateway without a battery clock must still connect, whatever it thinks the date is.
LONG_START = datetime(2000, 1, 1, tzinfo=UTC)
LONG_END = datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)
BACKDATE = timedelta(hours=1)  # the issuing machine's clock may be ahead of the server's


@dataclass(frozen=True, slots=True)
class PkiFiles:
    """Where the CA and the server's certificate are."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The CA's certificate, PEM."""
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """Its key, 0600."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """The server's certificate, PEM."""
        return self.folder / "server.pem"

    @property
    def server_key(self) -> Path:
        """Its key, 0600."""
        return self.folder / "server.key"

    def all(self) -> tuple[Path, ...]:
        """Every file."""
        return (self.ca, self.ca_key, self.server, self.server_key)


def create_ca(files: PkiFiles, hosts: Sequence[str]) -> None:
    """Make the CA and the server's certificate for loopback, this machine's name and `hosts`.

    Raises ConfigInvalid for a host that is neither a name nor an address. Existing files are never overwritten
    (FileExistsError).
    """
    names = _alternative_names(["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts])
    ca_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Tidegate development CA")])
    ca = (
        _builder(name, name, ca_key.public_key(), LONG_START, LONG_END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cloud-sync")])
    server = (
        _leaf(_builder(server_name, ca.subject, server_key.public_key(), LONG_START, LONG_END), ca_key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write_new(files.ca_key, _key_pem(ca_key), 0o600)
    write_new(files.ca, _pem(ca), 0o644)
    write_new(files.server_key, _key_pem(server_key), 0o600)
    write_new(files.server, _pem(server), 0o644)


def issue_gateway(files: PkiFiles, gateway_id: str, now: datetime, days: int) -> tuple[bytes, bytes]:
    """A gateway's certificate and key, PEM. Valid from an hour before `now` for `days` days.

    Raises ConfigInvalid for a bad id or when the CA's files cannot be read.
    """
    try:
        check_gateway_id(gateway_id)
        ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
        ca_key = serialization.load_pem_private_key(files.ca_key.read_bytes(), None)
    except (ValueError, OSError) as error:
        raise ConfigInvalid(str(error)) from error
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway_id)])
    uri = x509.UniformResourceIdentifier(f"{URN_PREFIX}{gateway_id}")
    certificate = (
        _leaf(_builder(name, ca.subject, key.public_key(), now - BACKDATE, now + timedelta(days=days)), ca_key)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What `cloud-sync cert show` tells."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    valid_from: datetime
    valid_until: datetime
    sha256: str
    authority: bool


def read_certificate(path: Path) -> CertificateFacts:
    """The first certificate in a PEM file. Raises ConfigInvalid when there is none."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigInvalid(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigInvalid(f"{path} holds no PEM certificate. Try: cert.pem, as `cert issue` made it") from error
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    try:
        authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        authority = False
    return CertificateFacts(
        certificate.subject.rfc4514_string(),
        certificate.issuer.rfc4514_string(),
        tuple(str(name.value) for name in names),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate.fingerprint(hashes.SHA256()).hex(),
        authority,
    )


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Create a durable file with this mode. Raises FileExistsError rather than overwrite."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _leaf(builder: x509.CertificateBuilder, ca_key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(identifier, critical=False)
    )


def _usage(signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            try:
                names.append(x509.DNSName(host))
            except ValueError as error:
                raise ConfigInvalid(f"host {host!r} is neither a DNS name nor an address: {error}") from error
    return names


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
