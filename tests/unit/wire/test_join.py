"""Join tokens: what is one, what is none, and what is never shown."""

from __future__ import annotations

import string
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.join import JoinToken, TokenMalformed, confirmation_code, join_address, matches, secret_hash, split_address

TOKEN = JoinToken(bytes(range(32)), "abcdefghij", "2345672345672345abcdefghijklmnop", "cloud.example:8444")


def test_a_token_is_read_as_it_was_written() -> None:
    assert JoinToken.parse(f" {TOKEN}\n") == TOKEN
    assert len(TOKEN.ca_sha256) == 32
    assert JoinToken.parse(str(TOKEN).partition("@")[0]).address == ""
    assert matches(TOKEN.secret, TOKEN.secret_sha256)
    assert not matches(TOKEN.secret + "a", TOKEN.secret_sha256)


def test_two_tokens_differ_and_none_shows_its_secret() -> None:
    one, other = (JoinToken.new(b"a CA's certificate", "cloud.example:8444") for _ in range(2))
    assert (one.id, one.secret) != (other.id, other.secret)
    assert JoinToken.parse(str(one)) == one
    assert one.secret not in repr(one)
    assert one.secret.encode() not in secret_hash(one.secret)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tg1",
        "tg2" + str(TOKEN)[3:],
        str(TOKEN)[:-40],
        str(TOKEN).upper(),
        str(TOKEN).replace("@", " @"),
        str(TOKEN).partition("@")[0] + "@:1",
        str(TOKEN).partition("@")[0] + "@host:0",
        str(TOKEN).partition("@")[0] + "@host:65536",
        str(TOKEN).partition("@")[0] + "@host/path",
        str(TOKEN) + "a" * 400,
    ],
)
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(TokenMalformed, match="Try: ") as told:
        JoinToken.parse(text)
    assert TOKEN.secret not in str(told.value)


@given(st.text(max_size=450))
def test_any_text_is_a_token_or_is_refused(text: str) -> None:
    with suppress(TokenMalformed):
        assert JoinToken.parse(text).secret in text


HOSTS = st.sampled_from(["a", "cloud.example", "192.0.2.1", "2001:db8::1", "::1"])


@given(HOSTS, st.integers(1, 65535))
def test_addresses(host: str, port: int) -> None:
    assert split_address(join_address(host, port), 1) == (host, port)


def test_an_address_without_a_port() -> None:
    assert split_address("cloud.example", 8444) == ("cloud.example", 8444)
    assert split_address("[::1]", 8444) == ("::1", 8444)


def test_a_code_is_short_and_of_the_key_alone() -> None:
    code = confirmation_code(b"a key")
    assert code == confirmation_code(b"a key") != confirmation_code(b"another")
    assert len(code) == 9
    assert set(code) <= set(string.ascii_lowercase + "234567-")
