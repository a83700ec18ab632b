"""This device's key: made here, never sent.

Imported by the commands, and by the running agent for the moment of a renewal.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wire.join import URN_PREFIX, confirmation_code, recovery_text


class DeviceKey:
    """A P-256 private key: gRPC-Python refuses Ed25519."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    @classmethod
    def new(cls) -> DeviceKey:
        """From the kernel's random numbers."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, pem: bytes) -> DeviceKey:
        """Of a file that holds it, whatever else it holds. Raises ValueError."""
        start = pem.find(b"-----BEGIN PRIVATE KEY-----")
        key = serialization.load_pem_private_key(pem[max(start, 0) :], None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("no P-256 key")
        return cls(key)

    @property
    def pem(self) -> bytes:
        """PKCS#8, not encrypted: the file's mode protects it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def code(self) -> str:
        """What people compare with what the cloud shows."""
        public = self._key.public_key()
        return confirmation_code(
            public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def request(self, gateway: str) -> bytes:
        """A PKCS#10 request, DER, with the identity as URI among its names."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
        uri = x509.UniformResourceIdentifier(f"{URN_PREFIX}{gateway}")
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(name)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return request.public_bytes(serialization.Encoding.DER)

    def sign_recovery(self, request: bytes) -> bytes:
        """Proof for a request with another key."""
        return self._key.sign(recovery_text(request), ec.ECDSA(hashes.SHA256()))

    def fits(self, certificate_pem: bytes) -> bool:
        """Whether the certificate is for this key. Raises ValueError when it is none."""
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        return certificate.public_key() == self._key.public_key()


def certificate_of(pem: bytes) -> bytes:
    """The certificate in a file that holds it beside a key, PEM. Raises ValueError."""
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.PEM)


def validity(pem: bytes) -> tuple[int, int]:
    """From when to when the certificate in this PEM is valid, seconds since 1970. Raises ValueError."""
    certificate = x509.load_pem_x509_certificate(pem)
    return round(certificate.not_valid_before_utc.timestamp()), round(certificate.not_valid_after_utc.timestamp())
