"""Replacing the CA in three steps, between which every gateway that comes by keeps connecting.

| step | trusted | signs gateways | signed the server |
|---|---|---|---|
| none | one | it | it |
| `introduce` | both | old | old |
| `switch` | both | new | old |
| `retire` | new | new | new |

A gateway learns whom to trust when it connects, and has the new CA for sure once it has a certificate of it. Files
change one rename after the other, so that a step that was cut short is ended by doing it again; the service takes them
at its next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_sync.auth.ca import PkiFiles, make_authority, make_server
from cloud_sync.auth.x509_parts import issuer_of, key_identifier_of, key_pem, pem
from cloud_sync.errors import ConfigInvalid
from wire.durable import replace_file


class Step(Enum):
    """The last that was done."""

    SETTLED = "settled"  # one CA
    INTRODUCED = "introduced"
    SWITCHED = "switched"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replacement is. `trusted`: the CA that signed the server's certificate first."""

    step: Step
    trusted: tuple[x509.Certificate, ...]

    @property
    def old(self) -> x509.Certificate:
        """The only one, or the one that goes."""
        return self.trusted[0]

    @property
    def new(self) -> x509.Certificate:
        """The only one, or the one that comes."""
        return self.trusted[-1]


def standing(files: PkiFiles) -> Standing:
    """Raises ConfigInvalid where the CA's key is not, or the files are not as a step leaves them."""
    trusted, signer = _trusted(files), _key(files.ca_key).public_key()
    signs = [certificate.public_key() == signer for certificate in trusted]
    match signs:
        case [True]:
            return Standing(Step.SETTLED, trusted)
        case [True, False]:
            return Standing(Step.INTRODUCED, trusted)
        case [False, True]:
            return Standing(Step.SWITCHED, trusted)
    raise ConfigInvalid(
        f"{files.ca} has {len(trusted)} CAs, {files.ca_key} is the key of {sum(signs)} of them: not as the steps of "
        f"`cloud-sync ca` leave it. Try: a backup of {files.folder}"
    )


def introduce(files: PkiFiles) -> Standing:
    """Make a new CA, which is trusted beside the old one. Raises ConfigInvalid."""
    before = _require(files, Step.SETTLED)
    ca, key = make_authority()
    replace_file(files.next_key, key_pem(key), 0o600)
    replace_file(files.ca, pem(before.old) + pem(ca), 0o644)
    return standing(files)


def switch(files: PkiFiles) -> Standing:
    """Let the new CA sign gateways' certificates. The old key is gone: it has signed what it had to. Raises
    ConfigInvalid."""
    before = _require(files, Step.INTRODUCED)
    key = _key(files.next_key)
    if key.public_key() != before.new.public_key():
        raise ConfigInvalid(f"{files.next_key} is not the new CA's key. Try: a backup of {files.folder}")
    replace_file(files.ca_key, key_pem(key), 0o600)
    files.next_key.unlink()
    return standing(files)


def retire(files: PkiFiles) -> Standing:
    """A new certificate for the server, under the names it had, by the new CA; the old one is trusted no more.

    Raises ConfigInvalid.
    """
    before = _require(files, Step.SWITCHED)
    names = _server(files).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    server, key = make_server(before.new, _key(files.ca_key), names)
    replace_file(files.server_key, key_pem(key), 0o600)
    replace_file(files.server, pem(server), 0o644)
    replace_file(files.ca, pem(before.new), 0o644)
    return standing(files)


def behind(now: Standing, certificates: Mapping[str, bytes]) -> list[str]:
    """Whose certificate (PEM, by gateway) is not of the CA that comes: they could not connect without the old one."""
    ours = key_identifier_of(now.new)
    return [name for name, each in certificates.items() if issuer_of(x509.load_pem_x509_certificate(each)) != ours]


def fingerprint(ca: x509.Certificate) -> str:
    """SHA-256 of a CA's certificate, hex, as it stands in join tokens."""
    return ca.fingerprint(hashes.SHA256()).hex()


def _require(files: PkiFiles, step: Step) -> Standing:
    now = standing(files)
    if now.step is not step:
        following = {Step.SETTLED: "introduce", Step.INTRODUCED: "switch", Step.SWITCHED: "retire"}[now.step]
        raise ConfigInvalid(f"the CA is {now.step.value}: the next step is another. Try: cloud-sync ca {following}")
    return now


def _trusted(files: PkiFiles) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificates(files.ca.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{files.ca} cannot be read: {error}") from error


def _server(files: PkiFiles) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(files.server.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{files.server} cannot be read: {error}") from error


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{path} cannot be read: {error}. Try: where cloud-sync init made it") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigInvalid(f"{path} is no P-256 key")
    return key
