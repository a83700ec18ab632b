"""What the Director of a cloud wants one gateway to run: a small signed document, made anew for each stream.

Bytes and rules: docs/formats/assignment.md. The document can only choose among releases that a threshold of offline
keys signed; a gateway installs what both name alike. No key and no clock in here: who checks a signature passes it in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wire.release import DOCUMENT_BYTES_MAX as RELEASE_BYTES_MAX
from wire.release import ReleaseInvalid, check_family

FORMAT = 1
SIGNED_PREFIX = b"tidegate assignment 1\n"  # nothing else that these keys sign begins like this
DOCUMENT_BYTES_MAX = 16 << 10
RELEASES_MAX = 32
LIFE_S = 6 * 3600
TIME_US_MAX = 1 << 53  # the year 2255; JSON's safe integers
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KEYID = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")  # Ed25519
_NONCE = re.compile(r"([0-9a-f]{2}){8,32}")


class AssignmentRefused(Exception):
    """Nothing of it is done. `reason` is a stable code.

    Reasons: `malformed`, `signature`, `foreign` (another gateway's), `replayed` (another stream's), `expired`, `older`
    (a lower counter than before), `conflicting` (this counter said something else before).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Assigned:
    """A release: hash and length of its document as the repository must name them too.

    It may be installed from `from_us` until `until_us` only, microseconds since 1970; 0: no such bound.
    """

    family: str
    counter: int
    sha256: str
    length: int
    from_us: int = 0
    until_us: int = 0

    @property
    def name(self) -> str:
        """`family/counter`."""
        return f"{self.family}/{self.counter}"

    def is_due(self, now_us: int) -> bool:
        """Whether it may be installed now."""
        return self.from_us <= now_us and not 0 < self.until_us <= now_us


@dataclass(frozen=True, slots=True)
class Assignment:
    """All that a gateway shall run, at most one release of each family. `counter` grows whenever `releases` change."""

    gateway: str
    counter: int
    releases: tuple[Assigned, ...]
    server_time_us: int
    expires_us: int
    nonce: bytes

    @property
    def digest(self) -> str:
        """Of what is assigned; the rest changes with each stream."""
        return hashlib.sha256(json.dumps(_releases(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Mark:
    """What a gateway remembers of the last assignment that it took."""

    counter: int = 0
    digest: str = ""


def seal(assignment: Assignment, keyid: str, sign: Callable[[bytes], bytes]) -> bytes:
    """The document. `sign` makes an Ed25519 signature."""
    told = {
        "format": FORMAT,
        "gateway": assignment.gateway,
        "counter": assignment.counter,
        "releases": _releases(assignment),
        "server_time_us": assignment.server_time_us,
        "expires_us": assignment.expires_us,
        "nonce": assignment.nonce.hex(),
    }
    payload = json.dumps(told, sort_keys=True, separators=(",", ":"))
    signature = sign(SIGNED_PREFIX + payload.encode()).hex()
    return json.dumps({"payload": payload, "signatures": {keyid: signature}}).encode()


def open_sealed(document: bytes, verify: Callable[[str, bytes, bytes], bool]) -> Assignment:
    """What a document says, once `verify(keyid, signature, data)` holds for one of its signatures.

    Raises AssignmentRefused: `malformed`, `signature`.
    """
    if len(document) > DOCUMENT_BYTES_MAX:
        raise AssignmentRefused("malformed", f"{len(document)} bytes; {DOCUMENT_BYTES_MAX} are the most")
    told = _object(document)
    payload, signatures = told.get("payload"), told.get("signatures")
    if not isinstance(payload, str) or not isinstance(signatures, dict) or not 1 <= len(signatures) <= 8:
        raise AssignmentRefused("malformed", "payload or signatures are missing")
    signed = SIGNED_PREFIX + payload.encode("utf-8", "surrogatepass")
    good = (
        _KEYID.fullmatch(keyid)
        and isinstance(signature, str)
        and _SIGNATURE.fullmatch(signature)
        and verify(keyid, bytes.fromhex(signature), signed)
        for keyid, signature in signatures.items()
    )
    if not any(good):
        raise AssignmentRefused("signature", "no key that the root names for the Director has signed it")
    return _assignment(_object(payload.encode("utf-8", "surrogatepass")))


def peek(document: bytes) -> Assignment:
    """What a document says, unchecked: enough to see that there is nothing to do. Raises AssignmentRefused."""
    return open_sealed(document, lambda keyid, signature, data: True)


def check(assignment: Assignment, gateway: str, nonce: bytes, now_us: int, mark: Mark) -> Mark:
    """What to remember once it is taken. `now_us` is the gateway's clock; the document's own time is a floor to it.

    Raises AssignmentRefused: `foreign`, `replayed`, `expired`, `older`, `conflicting`.
    """
    if assignment.gateway != gateway:
        raise AssignmentRefused("foreign", f"it is for gateway {assignment.gateway[:80]!r}, this is {gateway!r}")
    if not nonce or assignment.nonce != nonce:
        raise AssignmentRefused("replayed", "it was made for another stream than this")
    if max(now_us, assignment.server_time_us) >= assignment.expires_us:
        raise AssignmentRefused("expired", "it has expired; the cloud's clock or this one is wrong")
    if assignment.counter < mark.counter:
        raise AssignmentRefused("older", f"counter {assignment.counter}; {mark.counter} was seen before")
    if assignment.counter == mark.counter and assignment.digest != mark.digest:
        raise AssignmentRefused("conflicting", f"counter {assignment.counter} assigned something else before")
    return Mark(assignment.counter, assignment.digest)


def _releases(assignment: Assignment) -> list[dict[str, Any]]:
    return [
        {
            "family": one.family,
            "release_counter": one.counter,
            "sha256": one.sha256,
            "length": one.length,
            "from_us": one.from_us,
            "until_us": one.until_us,
        }
        for one in assignment.releases
    ]


def _object(data: bytes) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AssignmentRefused("malformed", f"it is no JSON: {type(error).__name__}") from error
    if not isinstance(told, dict):
        raise AssignmentRefused("malformed", "it is no JSON object")
    return told


def _assignment(told: dict[str, Any]) -> Assignment:
    if told.get("format") != FORMAT:
        raise AssignmentRefused("malformed", f"format {str(told.get('format'))[:20]}; {FORMAT} is known here")
    gateway, nonce, releases = told.get("gateway"), told.get("nonce"), told.get("releases")
    if not isinstance(gateway, str) or not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
        raise AssignmentRefused("malformed", "gateway or nonce are missing")
    if not isinstance(releases, list) or len(releases) > RELEASES_MAX:
        raise AssignmentRefused("malformed", f"releases: a list of at most {RELEASES_MAX} is needed")
    assigned = tuple(_assigned(one) for one in releases)
    if len({one.family for one in assigned}) != len(assigned):
        raise AssignmentRefused("malformed", "two releases of one family")
    return Assignment(
        gateway,
        _whole(told, "counter", 1),
        assigned,
        _whole(told, "server_time_us"),
        _whole(told, "expires_us"),
        bytes.fromhex(nonce),
    )


def _assigned(told: object) -> Assigned:
    if not isinstance(told, dict):
        raise AssignmentRefused("malformed", "a release is no JSON object")
    sha256 = told.get("sha256")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise AssignmentRefused("malformed", "a release has no sha256")
    try:
        family = check_family(str(told.get("family")))
    except ReleaseInvalid as error:
        raise AssignmentRefused("malformed", str(error)) from error
    length = _whole(told, "length", 1, RELEASE_BYTES_MAX)
    counter = _whole(told, "release_counter", 1)
    return Assigned(family, counter, sha256, length, _whole(told, "from_us"), _whole(told, "until_us"))


def _whole(told: Mapping[str, Any], key: str, least: int = 0, most: int = TIME_US_MAX) -> int:
    value = told.get(key)
    if type(value) is not int or not least <= value <= most:
        raise AssignmentRefused("malformed", f"{key} {str(value)[:40]!r} is not a whole number of {least} to {most}")
    return value
