"""Signing keys as files. Offline ones are sealed with a passphrase; the service's two online ones lie open, mode 0600.

Ed25519. A sealed file is JSON: scrypt (RFC 7914; N 2^15, r 8, p 1: 32 MiB) makes the key of AES-256-GCM around the 32
secret bytes.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from securesystemslib.signer import CryptoSigner

from cloud_sync.errors import KeyUnusable
from wire.durable import write_new

KIND = "tidegate-key-1"
SALT_BYTES = 16
NONCE_BYTES = 12
FILE_BYTES_MAX = 4096
SCRYPT_N = 1 << 15
PASSPHRASE_BYTES_MIN = 8


def create_key(path: Path, passphrase: str | None) -> CryptoSigner:
    """Make a key and its file, which must not exist. Without a passphrase it lies open.

    Raises:
        KeyUnusable: the file is there, cannot be written, or the passphrase is shorter than 8 bytes.
    """
    private = Ed25519PrivateKey.generate()
    told = {"kind": KIND, "public": private.public_key().public_bytes_raw().hex()}
    secret = private.private_bytes_raw()
    if passphrase is None:
        told["secret"] = secret.hex()
    else:
        if len(passphrase.encode()) < PASSPHRASE_BYTES_MIN:
            raise KeyUnusable(f"a passphrase of at least {PASSPHRASE_BYTES_MIN} bytes is needed for {path}")
        salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        sealed = AESGCM(_derive(passphrase, salt)).encrypt(nonce, secret, told["public"].encode())
        told |= {"salt": salt.hex(), "nonce": nonce.hex(), "sealed": sealed.hex()}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, json.dumps(told, indent=1).encode() + b"\n", 0o600)
    except OSError as error:
        raise KeyUnusable(f"{path}: {error.strerror}") from error
    return CryptoSigner(private)


def load_key(path: Path, passphrase: str | None) -> CryptoSigner:
    """The key of a file.

    Raises:
        KeyUnusable: it is not there, is no key, or the passphrase does not fit.
    """
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(FILE_BYTES_MAX))
        if told["kind"] != KIND:
            raise KeyUnusable(f"{path} is a {told['kind']!r}, not a {KIND}")
        if "secret" in told:
            secret = bytes.fromhex(told["secret"])
        elif passphrase is None:
            raise KeyUnusable(f"{path} is sealed. Try: EDGE_OTA_PASSPHRASE, or a terminal that can be asked")
        else:
            key = _derive(passphrase, bytes.fromhex(told["salt"]))
            opened = AESGCM(key).decrypt(
                bytes.fromhex(told["nonce"]), bytes.fromhex(told["sealed"]), told["public"].encode()
            )
            secret = bytes(opened)
        private = Ed25519PrivateKey.from_private_bytes(secret)
        if private.public_key().public_bytes_raw().hex() != told["public"]:
            raise KeyUnusable(f"{path}: secret and public part are of two keys")
        return CryptoSigner(private)
    except InvalidTag as error:
        raise KeyUnusable(f"{path}: the passphrase does not open it") from error
    except OSError as error:
        raise KeyUnusable(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise KeyUnusable(f"{path} is no key file: {error}") from error


def _derive(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=SCRYPT_N, r=8, p=1).derive(passphrase.encode())
