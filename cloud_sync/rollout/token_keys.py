"""Offline keys that never leave a PKCS#11 token: a file beside the sealed ones says where each is.

ECDSA on P-256 or P-384, made by the token's own tool. python-pkcs11 (extra `hsm`) is imported by
securesystemslib's signer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import HSMSigner, Signer, SSlibKey

from cloud_sync.errors import KeyUnusable
from cloud_sync.rollout.keys import FILE_BYTES_MAX, load_key
from wire.durable import write_new

KIND = "tidegate-token-1"
MODULE = "PYKCS11LIB"  # where securesystemslib looks for the token's module
INSTALL = "pip install 'tidegate[hsm]'"
Pin = Callable[[str], str]  # asks for the PIN of what is named


def note_token_key(path: Path, module: Path, key_id: int, label: str | None, pin: Pin) -> None:
    """Write down where a key is. Raises KeyUnusable: no such token or key, or the file is there already."""
    try:
        os.environ[MODULE] = str(module)
        uri, public = HSMSigner.import_(key_id, label, lambda _: pin(f"token {label or ''}".strip()))
        told = {"kind": KIND, "module": str(module), "uri": uri, "keyid": public.keyid, "public": public.to_dict()}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, json.dumps(told, indent=1).encode() + b"\n", 0o600)
    except UnsupportedLibraryError as error:
        raise KeyUnusable(f"{error}. Try: {INSTALL}") from error
    except OSError as error:
        raise KeyUnusable(f"{path}: {error.strerror}") from error
    except Exception as error:  # the token's module says what it likes
        raise KeyUnusable(f"{module}: {_said(error)}. Try: pkcs11-tool --module {module} --list-objects") from error


def signer_in(path: Path, passphrase: str | None, pin: Pin) -> Signer:
    """The key of a file, sealed or on a token. Raises KeyUnusable; `sign` of one on a token does too."""
    told = token_file(path)
    if told is None:
        return load_key(path, passphrase)
    try:
        public = SSlibKey.from_dict(told["keyid"], told["public"])
        os.environ[MODULE] = told["module"]
        return TokenSigner(HSMSigner.from_priv_key_uri(told["uri"], public, lambda _: pin(path.stem)), path)
    except UnsupportedLibraryError as error:
        raise KeyUnusable(f"{path}: {error}. Try: {INSTALL}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise KeyUnusable(f"{path} is no key file: {error}") from error


def token_file(path: Path) -> dict[str, Any] | None:
    """What a file says of a key on a token; None for any other file."""
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(FILE_BYTES_MAX))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("kind") == KIND else None


class TokenSigner(Signer):
    """Signs on the token, and says in our words why it cannot."""

    def __init__(self, signer: HSMSigner, path: Path) -> None:
        self._signer = signer
        self._path = path

    @property
    def public_key(self) -> Any:
        """See `Signer`."""
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Any, secrets_handler: Any = None) -> Signer:
        """See `Signer`. Raises KeyUnusable always: the key is named by its file, which says more than a URI."""
        raise KeyUnusable(f"{priv_key_uri}: a URI names no key here. Try: edge-ota key token, and the file it writes")

    def sign(self, payload: bytes) -> Any:
        """See `Signer`. Raises KeyUnusable."""
        try:
            return self._signer.sign(payload)
        except Exception as error:  # the token's module says what it likes
            raise KeyUnusable(f"{self._path}: the token does not sign: {_said(error)}") from error


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
