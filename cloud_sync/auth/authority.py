"""Signs gateways' certificates, and says what is wrong with what they send: requests and old certificates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_sync.auth.identity import IdentityRefused, gateway_of
from cloud_sync.auth.x509_parts import builder, issuer_of, key_identifier_of, leaf, pem, public_key_der
from cloud_sync.catalog.identity_rows import Issued
from cloud_sync.errors import AccessDenied, ConfigInvalid, JoinRefused
from wire.clock import US_PER_S
from wire.join import URN_PREFIX, check_gateway_id, confirmation_code, recovery_text

CERTIFICATE_DAYS = 90
RECOVERY_DAYS_MAX = 400  # a year on a shelf; whoever steals a card older than this needs a token
REQUEST_BYTES_MAX = 4096  # a P-256 request is about 250
UNREADABLE = (  # what the library raises for bytes that are no request, no certificate or of a kind it does not know
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
BACKDATE = timedelta(hours=1)  # the issuing machine's clock may be ahead of the server's


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A device's public key, which proved that it has the private one."""

    public: ec.EllipticCurvePublicKey

    @property
    def sha256(self) -> bytes:
        """Of the key in DER."""
        return hashlib.sha256(public_key_der(self.public)).digest()

    @property
    def code(self) -> str:
        """What people compare."""
        return confirmation_code(public_key_der(self.public))


@dataclass(frozen=True, slots=True)
class OldCertificate:
    """One that we signed, whenever that was."""

    gateway: str
    serial: str


class Authority:
    """The CA that signs gateways' certificates with its key, and all that are trusted, in memory."""

    def __init__(
        self, trusted: Sequence[x509.Certificate], certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self._trusted = trusted
        self._certificate = certificate
        self._key = key

    @classmethod
    def load(cls, trusted: Path, key: Path) -> Authority:
        """Of the CAs in a PEM file, the one with this key signs.

        Raises ConfigInvalid when a file cannot be read, or when the key is of none of them.
        """
        try:
            loaded = x509.load_pem_x509_certificates(trusted.read_bytes())
            private = serialization.load_pem_private_key(key.read_bytes(), None)
        except (ValueError, OSError) as error:
            raise ConfigInvalid(f"the CA cannot be used: {error}") from error
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ConfigInvalid(f"{key} is no P-256 key")
        for certificate in loaded:
            if certificate.public_key() == private.public_key():
                return cls(loaded, certificate, private)
        raise ConfigInvalid(f"{key} is the key of no CA in {trusted}. Try: a backup of {key.parent}")

    @property
    def key_identifier(self) -> bytes:
        """Of the CA that signs, as it stands in what it signed."""
        return key_identifier_of(self._certificate)

    def sign(self, key: ec.EllipticCurvePublicKey, gateway: str, now: datetime, days: int) -> Issued:
        """A client certificate from an hour before `now` for `days` days. Raises ValueError for a bad id."""
        check_gateway_id(gateway)
        end = now + timedelta(days=days)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
        uri = x509.UniformResourceIdentifier(f"{URN_PREFIX}{gateway}")
        certificate = (
            leaf(builder(name, self._certificate.subject, key, now - BACKDATE, end), self._key)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Issued(pem(certificate), serial_of(certificate), round(end.timestamp()) * US_PER_S)

    def recoverable(
        self, certificate_pem: bytes, request_der: bytes, signature: bytes, now: datetime
    ) -> OldCertificate:
        """Whose certificate this is, after it ended. Raises AccessDenied with the reason.

        The old key must have signed the request for the new one. A replay of the whole is harmless: it gives a
        certificate to the same new key.
        """
        try:
            old = x509.load_pem_x509_certificate(certificate_pem)
            self._require_signed(old)
            public = old.public_key()
            if not isinstance(public, ec.EllipticCurvePublicKey):
                raise TypeError("a key that is not ours: whoever has the CA's key can sign it")
            public.verify(signature, recovery_text(request_der), ec.ECDSA(hashes.SHA256()))
            names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            gateway = gateway_of(names.get_values_for_type(x509.UniformResourceIdentifier))
        except (*UNREADABLE, InvalidSignature, x509.ExtensionNotFound, IdentityRefused) as error:
            raise AccessDenied(
                "this is no certificate of this cloud with its key's signature. Try: edge-agent leave --force, then "
                "edge-agent join with a token of cloud-sync token create --gateway ID"
            ) from error
        over = now - old.not_valid_after_utc
        if over > timedelta(days=RECOVERY_DAYS_MAX):
            raise AccessDenied(
                f"the certificate of gateway {gateway} ended {over.days} days ago, at most {RECOVERY_DAYS_MAX} can be "
                f"bridged. Try: cloud-sync token create --gateway {gateway}, then edge-agent join"
            )
        return OldCertificate(gateway, serial_of(old))

    def _require_signed(self, certificate: x509.Certificate) -> None:
        for each in self._trusted:
            if each.subject == certificate.issuer:
                certificate.verify_directly_issued_by(each)
                return
        raise ValueError("no CA that is trusted here has this name")


def check_request(request_der: bytes) -> DeviceKey:
    """The key that a PKCS#10 request (DER) asks a certificate for. What else it says is not looked at.

    Raises JoinRefused unless it is a P-256 key and has signed the request.
    """
    if len(request_der) > REQUEST_BYTES_MAX:
        raise JoinRefused(f"the certificate request has {len(request_der)} bytes, at most {REQUEST_BYTES_MAX}")
    try:
        request = x509.load_der_x509_csr(request_der)
        public = request.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
            raise JoinRefused("the key of the request is not P-256: gRPC takes no other. Try: edge-agent join")
        valid = request.is_signature_valid  # after the look at the key: RSA of odd numbers takes 7 ms
    except UNREADABLE as error:
        raise JoinRefused("this is no certificate request (PKCS#10). Try: edge-agent join") from error
    if not valid:
        raise JoinRefused("the request is not signed by its own key. Try: edge-agent join")
    return DeviceKey(public)


def serial_of(certificate: x509.Certificate) -> str:
    """The serial number, hex."""
    return f"{certificate.serial_number:x}"


def serial_and_issuer(certificate_pem: bytes) -> tuple[str, bytes]:
    """Of a certificate that TLS has accepted: the serial number, hex, and the key identifier of the CA. Raises
    ValueError."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return serial_of(certificate), issuer_of(certificate)
