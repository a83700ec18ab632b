"""What both ends of an enrolment must agree on: the join token, a gateway's id and its name in certificates, the code
that people compare.

A token is one word, `tg1.<sha256 of the CA>.<id>.<secret>`, and may carry the address of the cloud's enrolment port
after an `@`. The hash (of the CA's certificate in DER, hex) lets a device know the cloud before it says anything
secret; see `docs/formats/enrolment.md`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

VERSION = "tg1"
TOKEN_CHARS_MAX = 400
ENROL_PORT = 8444  # of the cloud, where neither side names another
JOIN_METHOD = "/tidegate.wire.v1.EnrolService/Join"
RECOVER_METHOD = "/tidegate.wire.v1.EnrolService/Recover"
RENEW_METHOD = "/tidegate.wire.v1.IdentityService/Renew"
LEAVE_METHOD = "/tidegate.wire.v1.IdentityService/Leave"
MESSAGE_BYTES_MAX = 64 << 10  # of an enrolment call, each way; a first configuration is the longest part
CONFIG_BYTES_MAX = 32 << 10

URN_PREFIX = "urn:tidegate:gateway:"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_WORD = r"[a-z2-7]"  # base32 without padding, lower case: no two symbols look alike
_TOKEN = re.compile(
    rf"{VERSION}\.(?P<ca>[0-9a-f]{{64}})\.(?P<id>{_WORD}{{10}})\.(?P<secret>{_WORD}{{32}})(?:@(?P<address>\S+))?"
)
_SECRET_BYTES = 20  # 160 bits: guessing is hopeless, so a plain hash is enough to store
_ID_BYTES = 6
_HOST = re.compile(r"\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})")
_CODE_CONTEXT = b"tidegate join code 1\0"
_RECOVER_CONTEXT = b"tidegate recover 1\0"


class TokenMalformed(ValueError):
    """The text is no join token. The message says what one looks like, never what was given."""


def check_gateway_id(gateway_id: str) -> str:
    """Return the id. Raises ValueError unless it is 1 to 63 of a-z, 0-9 and '-', not starting with '-'."""
    if not _ID.fullmatch(gateway_id):
        raise ValueError(f"gateway id {gateway_id[:80]!r} must be 1 to 63 of a-z 0-9 -, not starting with '-'")
    return gateway_id


def split_address(text: str, port: int) -> tuple[str, int]:
    """Host and port of `HOST`, `HOST:PORT` or `[IPV6]:PORT`; `port` where none is named. Raises ValueError."""
    host, colon, digits = text.rpartition(":")
    if not colon or (text.startswith("[") and text.endswith("]")):
        host, digits = text, str(port)
    if not _HOST.fullmatch(host) or not digits.isascii() or not digits.isdigit() or not 0 < int(digits[:6]) < 65536:
        raise ValueError(f"{text[:80]!r} is not HOST:PORT with a port of 1 to 65535")
    return host.strip("[]"), int(digits)


def join_address(host: str, port: int) -> str:
    """`HOST:PORT`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class JoinToken:
    """One token. `str` gives the text; `repr` hides the secret."""

    ca_sha256: bytes
    id: str
    secret: str
    address: str = ""  # HOST:PORT of the enrolment port; empty: to be told apart

    @classmethod
    def new(cls, ca_der: bytes, address: str) -> JoinToken:
        """A fresh one for this CA."""
        return cls(hashlib.sha256(ca_der).digest(), _word(_ID_BYTES), _word(_SECRET_BYTES), address)

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises TokenMalformed."""
        text = text.strip()
        match = _TOKEN.fullmatch(text) if len(text) <= TOKEN_CHARS_MAX else None
        if match is None:
            shape = f"{VERSION}.HASH.ID.SECRET@HOST:PORT, with 64, 10 and 32 symbols between the dots"
            raise TokenMalformed(
                f"this is no join token ({len(text)} characters given): one looks like {shape}. "
                "Try: copy the whole line that `cloud-sync token create` printed"
            )
        address = match["address"] or ""
        if address:
            try:
                address = join_address(*split_address(address, ENROL_PORT))
            except ValueError as error:
                raise TokenMalformed(f"the address in the join token: {error}. Try: --cloud HOST:PORT") from error
        return cls(bytes.fromhex(match["ca"]), match["id"], match["secret"], address)

    @property
    def secret_sha256(self) -> bytes:
        """What the cloud keeps of the secret."""
        return secret_hash(self.secret)

    def __str__(self) -> str:
        at = f"@{self.address}" if self.address else ""
        return f"{VERSION}.{self.ca_sha256.hex()}.{self.id}.{self.secret}{at}"

    def __repr__(self) -> str:
        return f"JoinToken(id={self.id!r}, address={self.address!r})"


def secret_hash(secret: str) -> bytes:
    """SHA-256 of a random secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def matches(secret: str, digest: bytes) -> bool:
    """Whether this is the secret with that hash, in constant time."""
    return hmac.compare_digest(secret_hash(secret), digest)


def confirmation_code(public_key_der: bytes) -> str:
    """Eight symbols that both sides make of the device's public key (DER SubjectPublicKeyInfo): `k4zt-9q2m`-like.

    40 bits: whoever wants another key to show the same code must make some 2^39 keys while somebody looks.
    """
    text = base64.b32encode(hashlib.sha256(_CODE_CONTEXT + public_key_der).digest()[:5]).decode().lower()
    return f"{text[:4]}-{text[4:]}"


def recovery_text(request_der: bytes) -> bytes:
    """What a device signs with its old key to get a new certificate for the key of this request (DER, PKCS#10)."""
    return _RECOVER_CONTEXT + request_der


def _word(count: int) -> str:
    return base64.b32encode(secrets.token_bytes(count)).decode().rstrip("=").lower()
