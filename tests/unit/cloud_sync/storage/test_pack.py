"""The pack's bytes: what goes in comes out, and nothing else is taken for a pack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.errors import PackCorrupt
from cloud_sync.storage.pack import PackRecord, decode_pack, encode_pack

names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
seqs = st.integers(0, 2**63 - 1)
times = st.integers(-(2**63), 2**63 - 1)
records = st.lists(st.builds(PackRecord, names, seqs, seqs, times, times, st.binary(max_size=200)), max_size=20)
GOLDEN = (
    "5447504b01000000070000000000000009000000000000000b0000000000000001000000050000003b08ffa4"
    "0467772d61000000000300000061000000000000000500000000000000060000000000000001000000000000000200000000000000616263"
)


@given(seqs, seqs, times, records)
def test_what_goes_in_comes_out(pack_id: int, generation: int, deadline_us: int, given: list[PackRecord]) -> None:
    data, offsets = encode_pack(pack_id, generation, deadline_us, given)
    pack = decode_pack(data)
    assert (pack.pack_id, pack.generation, pack.deadline_us, list(pack.records)) == (
        pack_id,
        generation,
        deadline_us,
        given,
    )
    assert [data[at : at + len(record.segment)] for at, record in zip(offsets, given)] == [r.segment for r in given]


def test_golden_bytes() -> None:
    data, offsets = encode_pack(7, 9, 11, [PackRecord("gw-a", 5, 6, 1, 2, b"abc")])
    assert data.hex() == GOLDEN
    assert offsets == [97]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_pack_or_corrupt(data: bytes) -> None:
    for candidate in (data, b"TGPK\x01" + data):
        with pytest.raises(PackCorrupt):
            decode_pack(candidate)


@given(records, st.data())
def test_a_cut_pack_is_corrupt(given: list[PackRecord], data: st.DataObject) -> None:
    whole, _ = encode_pack(1, 2, 3, [*given, PackRecord("a", 1, 1, 1, 1, b"end")])
    with pytest.raises(PackCorrupt):
        decode_pack(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(records, st.data())
def test_a_flipped_bit_in_head_or_index_is_corrupt(given: list[PackRecord], data: st.DataObject) -> None:
    whole, _ = encode_pack(1, 2, 3, given)
    index_end = len(whole) - sum(len(record.segment) for record in given)
    at = data.draw(st.integers(0, index_end - 1).filter(lambda at: not 5 <= at < 8))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(PackCorrupt):
        decode_pack(bytes(damaged))
