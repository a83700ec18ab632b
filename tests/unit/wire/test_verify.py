"""verify takes what decode takes, refuses what decode refuses and in the same words, and tells the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.segment import agree, sealed
from tests.unit.wire.codec_samples import GOLDEN, GOLDEN_MODELS, atom, atoms, block
from wire import verify as verify_module
from wire.codec import TIME_US_MAX, decode, encode
from wire.errors import SegmentCorrupt
from wire.segment import Block, Segment
from wire.series import StampUnit
from wire.varint import varint
from wire.verify import verify


@pytest.fixture
def no_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk must tell by itself."""

    def refuse(data: bytes) -> Segment:
        raise AssertionError(f"{len(data)} bytes left to decode")

    monkeypatch.setattr(verify_module, "decode", refuse)


@pytest.mark.parametrize("name", list(GOLDEN_MODELS))
def test_golden_vectors(name: str) -> None:
    assert agree((GOLDEN / f"{name}.segment").read_bytes())


@settings(max_examples=60, deadline=None)
@given(atoms(), st.booleans())
def test_any_segment(parts: list[Segment], pco: bool) -> None:
    for segment in parts:
        assert agree(encode(segment, pco=pco))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(GOLDEN_MODELS)), st.data())
def test_any_bytes_behind_a_right_crc(name: str, data: st.DataObject) -> None:
    raw = bytearray((GOLDEN / f"{name}.segment").read_bytes()[:-4])
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(2, len(raw) - 1))] = data.draw(st.integers(0, 255))
    agree(sealed(bytes(raw)))


def test_every_byte_of_a_live_atom_set_to_telling_values() -> None:
    body = encode(atom(7, [block(9, 5, quality=np.eye(9, 5, dtype=np.uint8))]))[:-4]
    taken = 0
    for at in range(2, len(body)):
        for value in (0, 1, 0x3E, 0x3F, 0x7F, 0x80, 0xC1, 0xFF, body[at] ^ 1, body[at] ^ 64):
            taken += agree(sealed(body[:at] + bytes((value,)) + body[at + 1 :]))
        agree(sealed(body[:at]))
        agree(sealed(body[:at] + b"\0" + body[at:]))
    assert 50 < taken < 10 * len(body)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-TIME_US_MAX, TIME_US_MAX), min_size=1, max_size=64), st.integers(0, 40))
def test_any_stamps(numbers: list[int], spread: int) -> None:
    near = [86_400_000 + place * 1000 + number % (1 << spread) for place, number in enumerate(numbers)]
    for stamps in (numbers, sorted(numbers), near, sorted(near)):
        segment = atom(0, [Block(9, np.array(stamps), [np.arange(len(stamps))], stamp_unit=StampUnit.US)])
        assert agree(encode(segment))


@pytest.mark.usefixtures("no_decode")
@pytest.mark.parametrize("ticks", [1, 5, 60])
def test_usual_messages_are_told_without_decoding(ticks: int) -> None:
    states = np.zeros((50, ticks), np.uint8)
    states[3, 0] = 255
    for extra in ({}, {"states": states}, {"scores": np.full((50, ticks), 9, np.uint8)}):
        verified = verify(encode(atom(0, [block(50, ticks, **extra)])))
        assert verified.header.blocks[0].ticks == ticks
        assert verified.zone_us[0] <= verified.zone_us[1]


@pytest.mark.usefixtures("no_decode")
def test_escapes_are_told_without_decoding() -> None:
    """A lone spike takes 24 zeros and a varint."""
    spiky = np.arange(60) % 3
    spiky[30] = 1 << 40
    assert verify(encode(atom(0, [Block(9, np.arange(60) * 1000, [spiky] * 3)]))).header.count == 180


def test_a_unary_run_over_the_escape_is_refused() -> None:
    """The same bytes as an escape's, but for one more zero before the one."""
    assert verify_module._escapes(1 << 24) == 1
    assert verify_module._escapes(1 << 24 | 1 << 49) == 2
    assert verify_module._escapes(1 << 23) == 0
    assert verify_module._escapes(1 << 25) is None
    assert verify_module._escapes(0) == 0


def constants() -> bytes:
    """The body of a segment whose stamps' seed has nine bytes, then three rows of a constant each."""
    stamps = np.array([-(1 << 62), -(1 << 62)])
    return encode(atom(0, [Block(9, stamps, [np.full(2, seed) for seed in (7, 8, 9)], stamp_unit=StampUnit.US)]))[:-4]


@pytest.mark.parametrize("last", [1, 3, 0x7F])
def test_a_seed_over_64_bits_is_taken_as_decode_takes_it(last: int) -> None:
    """decode reads seeds modulo 2^64; a lone varint over that is an error elsewhere."""
    body = constants()
    seed = varint((1 << 63) - 1)
    at = body.index(seed) + 8
    agree(sealed(body[:at] + bytes((body[at] | 0x80, last)) + body[at + 1 :]))


def test_a_number_longer_than_ten_bytes_is_refused_wherever_it_stands() -> None:
    body = constants()
    seeds = varint((1 << 63) - 1) + varint(14) + varint(16) + varint(18)
    at = body.index(seeds) + 9
    for place in range(3):
        for zeros in (8, 9, 10, 11):
            long = bytes((seeds[9 + place] | 0x80,)) + b"\x80" * (zeros - 1) + b"\0"
            taken = agree(sealed(body[: at + place] + long + body[at + place + 1 :]))
            assert taken == (zeros < 10)


def test_row_codecs_of_a_later_version_are_refused() -> None:
    body = constants()
    at = body.index(b"\x3e\x3e\x3e")
    assert agree(sealed(body))
    for code in (0x7E, 0xBE, 0xFE, 0x7F, 0xBF, 0xFF):
        assert not agree(sealed(body[: at + 1] + bytes((code,)) + body[at + 2 :]))


def test_stamps_out_of_bounds_are_refused_in_the_words_of_decode() -> None:
    stamps = np.array([TIME_US_MAX // 1000 + 1])
    data = encode(atom(0, [Block(9, stamps, [np.array([1])])]))
    for read in (decode, verify):
        with pytest.raises(SegmentCorrupt, match="stamps"):
            read(data)
