"""The text of tokens, links and sessions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.auth.credentials import CHARS, Credential, Kind


@pytest.mark.parametrize("kind", Kind)
def test_text_and_back(kind: Kind) -> None:
    made = Credential.new(kind)
    assert len(str(made)) == CHARS
    assert Credential.parse(str(made), kind) == made
    assert Credential.parse(str(made), *Kind) == made
    assert Credential.parse(str(made), *(other for other in Kind if other is not kind)) is None
    assert Credential.new(kind) != made


@given(st.text(max_size=80) | st.integers(0, CHARS - 1).flatmap(lambda at: st.characters().map(lambda c: (at, c))))
def test_anything_else_is_none(text: str | tuple[int, str]) -> None:
    if isinstance(text, tuple):
        good = str(Credential.new(Kind.TOKEN))
        at, character = text
        text = good[:at] + character + good[at + 1 :]
        if character in "0123456789abcdef.tgals":
            return
    assert Credential.parse(text, *Kind) is None


@pytest.mark.parametrize("spelling", ["{} ", " {}", "{}\n", "{}0", "{}.", "\ufeff{}"])
def test_no_second_spelling(spelling: str) -> None:
    text = str(Credential.new(Kind.TOKEN))
    for other in (spelling.format(text), text.upper(), text[:-1]):
        assert Credential.parse(other, *Kind) is None
