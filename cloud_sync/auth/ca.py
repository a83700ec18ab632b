"""The private CA: one key in a folder, certificates for the server and for gateways. P-256 throughout, because
gRPC-Python refuses Ed25519."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_sync.auth.authority import Authority, DeviceKey
from cloud_sync.auth.x509_parts import builder, key_pem, leaf, pem, usage
from cloud_sync.catalog.identity_rows import Issued
from cloud_sync.errors import ConfigInvalid
from wire.durable import write_new

# A gateway without a battery clock must still connect, whatever it thinks the date is.
LONG_START = datetime(1970, 1, 1, tzinfo=UTC)
LONG_END = datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PkiFiles:
    """Where the CA and the server's certificate are."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The CAs that are trusted, PEM: one, or two while one takes the place of the other. The first signed the
        server's certificate."""
        return self.folder / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """Key of the one that signs gateways' certificates, 0600."""
        return self.folder / "ca.key"

    @property
    def next_key(self) -> Path:
        """Key of a CA that is trusted and does not sign yet, 0600; there may be none."""
        return self.folder / "ca.next.key"

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
    names = _alternative_names([*hosts, socket.gethostname(), "localhost", "127.0.0.1", "::1"])
    ca, ca_key = make_authority()
    server, server_key = make_server(ca, ca_key, x509.SubjectAlternativeName(names))
    write_new(files.ca_key, key_pem(ca_key), 0o600)
    write_new(files.ca, pem(ca), 0o644)
    write_new(files.server_key, key_pem(server_key), 0o600)
    write_new(files.server, pem(server), 0o644)


def make_authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A new CA. Its name has a part of its key's hash: two that are trusted at once must not have one name."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Tidegate CA {identifier.digest[:4].hex()}")])
    certificate = (
        builder(name, name, ca_key.public_key(), LONG_START, LONG_END)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate, ca_key


def make_server(
    ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, names: x509.SubjectAlternativeName
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate for a server under these names, and its new key."""
    server_key = ec.generate_private_key(ec.SECP256R1())
    server_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cloud-sync")])
    certificate = (
        leaf(builder(server_name, ca.subject, server_key.public_key(), LONG_START, LONG_END), ca_key)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate, server_key


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A private key that was made here, PEM, and the certificate for it."""

    issued: Issued
    device: DeviceKey
    pem: bytes


def issue_gateway(files: PkiFiles, gateway_id: str, now: datetime, days: int) -> GatewayKey:
    """A key and certificate for a gateway, valid from an hour before `now` for `days` days.

    Raises ConfigInvalid for a bad id or when the CA's files cannot be read.
    """
    authority = Authority.load(files.ca, files.ca_key)
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        issued = authority.sign(key.public_key(), gateway_id, now, days)
    except ValueError as error:
        raise ConfigInvalid(str(error)) from error
    return GatewayKey(issued, DeviceKey(key.public_key()), key_pem(key))


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
