"""What the Director signs: only its own bytes are read, and each kind of misuse is refused by its own reason."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from wire.assignment import (
    DOCUMENT_BYTES_MAX,
    RELEASES_MAX,
    SIGNED_PREFIX,
    Assigned,
    Assignment,
    AssignmentRefused,
    Mark,
    check,
    open_sealed,
    peek,
    seal,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYID = "ab" * 32
NONCE = bytes(16)
NOW_US = 1_800_000_000_000_000
RELEASE = Assigned("pump-watch", 3, "0f" * 32, 800)
GOOD = Assignment("gw-a", 5, (RELEASE,), NOW_US, NOW_US + 1000, NONCE)


def verify(keyid: str, signature: bytes, data: bytes) -> bool:
    try:
        KEY.public_key().verify(signature, data)
    except InvalidSignature:
        return False
    return keyid == KEYID


def sealed(assignment: Assignment = GOOD) -> bytes:
    return seal(assignment, KEYID, KEY.sign)


def raw(told: object) -> bytes:
    """A well signed document that says anything."""
    payload = json.dumps(told)
    return json.dumps(
        {"payload": payload, "signatures": {KEYID: KEY.sign(SIGNED_PREFIX + payload.encode()).hex()}}
    ).encode()


releases = st.builds(
    Assigned,
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True).filter(lambda name: name not in {"root", "targets"}),
    st.integers(1, 1 << 50),
    st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    st.integers(1, 4096),
    st.integers(0, 1 << 52),
    st.integers(0, 1 << 52),
)
assignments = st.builds(
    Assignment,
    st.text(max_size=20),
    st.integers(1, 1 << 50),
    st.lists(releases, max_size=4, unique_by=lambda one: one.family).map(tuple),
    st.integers(0, 1 << 52),
    st.integers(0, 1 << 52),
    st.binary(min_size=8, max_size=32),
)


@given(assignments)
def test_what_was_sealed_is_what_is_read(assignment: Assignment) -> None:
    document = sealed(assignment)
    assert open_sealed(document, verify) == assignment == peek(document)


def test_the_largest_assignment_fits() -> None:
    many = tuple(replace(RELEASE, family=f"{number:064d}", until_us=1 << 53) for number in range(RELEASES_MAX))
    document = sealed(replace(GOOD, gateway="g" * 63, releases=many))
    assert len(document) < DOCUMENT_BYTES_MAX
    assert len(open_sealed(document, verify).releases) == RELEASES_MAX


@given(st.integers(0, len(sealed()) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused_or_changes_nothing(place: int, change: int) -> None:
    document = bytearray(sealed())
    document[place] ^= change
    read, reason = None, ""
    try:
        read = open_sealed(bytes(document), verify)
    except AssignmentRefused as error:
        reason = error.reason
    assert read == GOOD or reason in {"malformed", "signature"}  # a byte of JSON between the values may change


@given(st.binary(max_size=80))
def test_any_bytes_are_an_assignment_or_malformed(data: bytes) -> None:
    with pytest.raises(AssignmentRefused):
        peek(data)


@pytest.mark.parametrize(
    "told",
    [
        [],
        {},
        {"format": 2},
        {"nonce": ""},
        {"nonce": "zz" * 8},
        {"counter": 0},
        {"counter": 1.5},
        {"counter": True},
        {"counter": 1 << 60},
        {"releases": [1]},
        {"releases": [{}] * (RELEASES_MAX + 1)},
        {"releases": [{"family": "../x", "release_counter": 1, "sha256": "0" * 64, "length": 1}]},
        {"releases": [{"family": "root", "release_counter": 1, "sha256": "0" * 64, "length": 1}]},
        {"releases": [{"family": "a", "release_counter": 1, "sha256": "0" * 63, "length": 1}]},
        {"releases": [{"family": "a", "release_counter": 1, "sha256": "0" * 64, "length": 1 << 30}]},
    ],
)
def test_signed_nonsense_is_malformed(told: object) -> None:
    if isinstance(told, dict) and told:
        payload = json.loads(json.loads(sealed())["payload"])
        told = payload | told
    with pytest.raises(AssignmentRefused) as caught:
        open_sealed(raw(told), verify)
    assert caught.value.reason == "malformed"


def test_two_releases_of_a_family_are_malformed() -> None:
    with pytest.raises(AssignmentRefused, match="two releases"):
        open_sealed(sealed(replace(GOOD, releases=(RELEASE, replace(RELEASE, counter=4)))), verify)


def test_another_key_or_another_purpose_is_no_signature() -> None:
    other = Ed25519PrivateKey.generate()
    told = json.loads(sealed())
    unprefixed = json.dumps({**told, "signatures": {KEYID: KEY.sign(told["payload"].encode()).hex()}}).encode()
    for document in (seal(GOOD, KEYID, other.sign), seal(GOOD, "cd" * 32, KEY.sign), unprefixed):
        with pytest.raises(AssignmentRefused) as caught:
            open_sealed(document, verify)
        assert caught.value.reason == "signature"


def test_a_document_that_is_too_long_is_not_read() -> None:
    with pytest.raises(AssignmentRefused, match="the most"):
        open_sealed(sealed() + b" " * DOCUMENT_BYTES_MAX, verify)


def test_a_good_one_is_taken_and_taken_again() -> None:
    mark = check(GOOD, "gw-a", NONCE, NOW_US, Mark())
    assert mark == Mark(5, GOOD.digest)
    assert check(replace(GOOD, server_time_us=NOW_US - 5), "gw-a", NONCE, NOW_US, mark) == mark
    assert check(replace(GOOD, counter=6), "gw-a", NONCE, NOW_US, mark).counter == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gateway": "gw-b"}, "foreign"),
        ({"nonce": bytes(15) + b"x"}, "replayed"),
        ({"expires_us": NOW_US}, "expired"),
        ({"server_time_us": NOW_US + 1000}, "expired"),
        ({"counter": 4}, "older"),
        ({"releases": ()}, "conflicting"),
        ({"releases": (replace(RELEASE, sha256="1f" * 32),)}, "conflicting"),
        ({"releases": (replace(RELEASE, until_us=1),)}, "conflicting"),
    ],
)
def test_misuse_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(AssignmentRefused) as caught:
        check(replace(GOOD, **change), "gw-a", NONCE, NOW_US, Mark(5, GOOD.digest))  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_without_a_nonce_nothing_is_taken() -> None:
    with pytest.raises(AssignmentRefused):
        check(replace(GOOD, nonce=b""), "gw-a", b"", NOW_US, Mark())
