from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mqtt.payload import (
    INT64_MAX,
    MISSING,
    PAYLOAD_BYTES_MAX,
    decode,
    number,
    parse_path,
    pick,
    plain,
)
from hardware.errors import DeviceDataBad

CENT = Fraction(1, 100)
KEYS = st.text(st.characters(exclude_characters='"', codec="utf-8"), max_size=6)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("$", ()),
        ("a", ("a",)),
        ("$.a.b", ("a", "b")),
        ("a[0].b", ("a", 0, "b")),
        ("[2][3]", (2, 3)),
        ('["a.b"].c', ("a.b", "c")),
        ("$['x y'][1]", ("x y", 1)),
        ("temp-1/x y", ("temp-1/x y",)),
    ],
)
def test_paths(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize("text", [".a", "a.", "a..b", "a[", "a[x]", "a[-1]", "a]b", "$a", "[0]a", 'a."b"', "a[1"])
def test_paths_that_are_not_understood(text: str) -> None:
    with pytest.raises(ValueError, match="path"):
        parse_path(text)


@given(st.lists(KEYS | st.integers(0, 999), max_size=5), st.integers(-9, 9))
def test_what_stands_at_a_path_is_found(steps: list[str | int], value: int) -> None:
    document: Any = value
    for step in reversed(steps):
        document = {step: document} if isinstance(step, str) else [0] * step + [document]
    text = "".join(f'["{step}"]' if isinstance(step, str) else f"[{step}]" for step in steps)
    path = parse_path(text)
    assert path == tuple(steps)
    payload = json.dumps(document, separators=(",", ":")).encode()
    assert pick(decode(payload), path) == value
    assert pick(decode(payload), (*path, "further")) is MISSING


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"nan", b"{'a':1}", b"[1,]", b"[" * 60_000, b" " * 70_000])
def test_what_is_no_json_is_bad_data(payload: bytes) -> None:
    with pytest.raises(DeviceDataBad):
        decode(payload)


@given(st.binary(max_size=200))
def test_any_payload_is_a_value_or_bad_data(payload: bytes) -> None:
    for read in (decode, plain):
        try:
            found = read(payload)
        except DeviceDataBad:
            continue
        for kind, step in (("int", CENT), ("float32", None), ("float64", None)):
            try:
                raw = number(found, kind, step)  # type: ignore[arg-type]
            except DeviceDataBad:
                continue
            assert math.isfinite(raw)


@given(st.integers(-INT64_MAX, INT64_MAX))
def test_counts_are_exact(count: int) -> None:
    sign, (whole, cents) = "-" if count < 0 else "", divmod(abs(count), 100)
    text = f"{sign}{whole}.{cents:02d}"
    assert number(text, "int", CENT) == count
    assert number(decode(text.encode()), "int", CENT) == count


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_kept_to_the_bit(value: float) -> None:
    assert number(decode(json.dumps(value).encode()), "float64", None) == value
    assert number(plain(repr(value).encode()), "float64", None) == value


@pytest.mark.parametrize(("text", "count"), [("21.299999237", 2130), ("0.005", 0), ("0.0051", 1), ("-1e-1", -10)])
def test_a_number_between_two_counts_becomes_the_nearer(text: str, count: int) -> None:
    assert number(decode(text.encode()), "int", CENT) == count


@pytest.mark.parametrize(("value", "raw"), [(True, 1), (False, 0), ("21.5", 22), (" 7 ", 7), ("+.5e1", 5)])
def test_switches_and_numbers_in_quotes(value: object, raw: int) -> None:
    assert number(value, "int", None) == raw


@pytest.mark.parametrize("text", ["1e999999999", "1e400", "-9223372036854775809", "92233720368547758.08"])
def test_what_63_bits_do_not_hold_is_bad_data(text: str) -> None:
    with pytest.raises(DeviceDataBad):
        number(text, "int", CENT)


@pytest.mark.parametrize("value", ["", "x", "1_000", "nan", "Infinity", "0x10", "１", [], {}, "1" * 65])
def test_what_is_no_number_is_bad_data(value: object) -> None:
    with pytest.raises(DeviceDataBad):
        number(value, "float64", None)


@pytest.mark.parametrize("kind", ["int", "float32", "float64"])
def test_a_number_of_thousands_of_digits_is_not_computed_with(kind: Any) -> None:
    """As a fraction it would hold all threads for a third of a second."""
    for text in (b"0." + b"9" * 60_000, b"-" + b"9" * 60_000 + b".5", b"0." + b"3" * 65):
        with pytest.raises(DeviceDataBad, match="digits"):
            number(decode(text), kind, CENT)
    assert number(decode(b"0." + b"3" * 64), "float64", None) == 1 / 3


def test_float32_is_rounded_and_bounded() -> None:
    assert number(decode(b"0.1"), "float32", None) == 0.10000000149011612
    with pytest.raises(DeviceDataBad, match="float32"):
        number(decode(b"1e39"), "float32", None)


def test_a_long_payload_is_named_with_its_size() -> None:
    with pytest.raises(DeviceDataBad, match=str(PAYLOAD_BYTES_MAX + 1)):
        decode(b" " * (PAYLOAD_BYTES_MAX + 1))
