"""Rice coding and varints: exact for every 64-bit number, and total when read back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wire import rice, rice_plan
from wire.codec_rows import decode_rows, encode_rows
from wire.errors import SegmentCorrupt
from wire.rice_plan import plan
from wire.varint import (
    FEW,
    U64_MAX,
    Reader,
    unzigzag,
    unzigzag_array,
    varint,
    varint_lengths,
    varints,
    zigzag,
    zigzag_array,
)

unsigned = st.integers(0, U64_MAX) | st.integers(0, 300) | st.sampled_from([1 << at for at in range(64)])
signed = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(unsigned, max_size=60))
def test_varints_one_by_one_and_all_at_once_are_the_same_bytes(numbers: list[int]) -> None:
    data = b"".join(varint(number) for number in numbers)
    array = np.array(numbers, np.uint64)
    assert varints(array) == data
    assert varints(np.tile(array, FEW + 1)) == data * (FEW + 1)  # so many go another way
    assert varint_lengths(array).tolist() == [len(varint(number)) for number in numbers]
    assert Reader(data).varints(len(numbers)).tolist() == numbers
    reader = Reader(data)
    assert [reader.varint() for _ in numbers] == numbers
    assert reader.at == len(data)


@given(signed)
def test_zigzag(number: int) -> None:
    assert unzigzag(zigzag(number)) == number
    array = np.array([number], np.int64).view(np.uint64)
    assert int(zigzag_array(array)[0]) == zigzag(number)
    assert int(unzigzag_array(zigzag_array(array)).view(np.int64)[0]) == number


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x80", b"\xff" * 11, b"\x01\x80"])
def test_varints_that_do_not_end_are_corrupt(data: bytes) -> None:
    with pytest.raises(SegmentCorrupt):
        Reader(data).varints(2)
    reader = Reader(data)
    with pytest.raises(SegmentCorrupt):
        [reader.varint() for _ in range(2)]


def test_a_reader_never_passes_its_end() -> None:
    reader = Reader(b"\x01\x02\x03", 0, 2)
    assert reader.take(2) == b"\x01\x02"
    for read in (reader.byte, lambda: reader.take(1), lambda: reader.varints(1)):
        with pytest.raises(SegmentCorrupt):
            read()
    with pytest.raises(SegmentCorrupt, match="over 5"):
        Reader(b"\x06").varint(5, "wheels")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(unsigned, st.integers(0, rice.K_MAX)), max_size=80))
def test_pack_and_unpack_are_inverse_for_any_k(pairs: list[tuple[int, int]]) -> None:
    values = np.array([value for value, _ in pairs], np.uint64)
    k = np.array([k for _, k in pairs], np.uint64)
    data = rice.pack(values, k) + b"tail"
    reader = Reader(data)
    assert rice.unpack(reader, k).tolist() == values.tolist()
    assert data[reader.at :] == b"tail"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(unsigned, st.integers(0, rice.K_MAX), st.booleans()), max_size=80))
def test_numbers_that_are_not_written_leave_no_bits(triples: list[tuple[int, int, bool]]) -> None:
    written = np.array([there for _, _, there in triples], np.bool_)
    values = np.array([value if there else 0 for value, _, there in triples], np.uint64)
    k = np.array([k for _, k, _ in triples], np.uint64)
    assert rice.pack(values, k, written) == rice.pack(values[written], k[written])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.sampled_from([0, 1, 2, 63, 64, 65, 128, 130]), st.data())
def test_rows_come_back(count: int, width: int, data: st.DataObject) -> None:
    row = st.lists(signed, min_size=width, max_size=width) | signed.map(lambda value: [value] * width)
    rows = np.array([data.draw(row) for _ in range(count)], np.int64).reshape(count, width)
    lengths = np.array([data.draw(st.integers(0, width)) for _ in range(count)], np.int64)
    for told in (None, lengths):
        size = np.full(count, width) if told is None else told
        found = plan(rows, told)
        coded = encode_rows(found, size, width, {})
        reader = Reader(coded)
        back = decode_rows(reader, size, width).numbers
        assert reader.at == len(coded)
        for got, sent, length in zip(back, rows, size):
            assert got[:length].tolist() == sent[:length].tolist()


@pytest.mark.parametrize(
    ("row", "transform"),
    [
        ([5, 9, 4, 8, 5, 9, 4, 8] * 8, rice.CENTRE),
        ([10, 11, 11, 12, 11, 10, 9, 10] * 8, rice.DELTA),
        ([at * at for at in range(64)], rice.SLOPE),
        ([1000 * at + 5 * (at * at * 7 % 31) + sum(n * 37 % 91 for n in range(at)) for at in range(64)], rice.CLIMB),
    ],
    ids=["centre", "delta", "slope", "climb"],
)
def test_each_transform_is_chosen_for_what_it_is_for(row: list[int], transform: int) -> None:
    assert plan(np.array([row], np.int64)).transforms.tolist() == [transform]


def test_a_straight_line_takes_no_bits() -> None:
    found = plan(np.arange(0, 6000, 100, dtype=np.int64)[None])
    assert not found.symbols.any()
    assert decode_rows(Reader(encode_rows(found, np.array([60]), 60, {})), np.array([60]), 60).numbers[0, -1] == 5900


def test_an_outlier_costs_an_escape_and_not_a_wide_row() -> None:
    calm = np.cumsum(np.arange(60) % 3 - 1)
    wild = calm.copy()
    wild[30:] += 1 << 40
    few, more = (int(plan(rows[None].astype(np.int64)).bits[0]) for rows in (calm, wild))
    assert more - few < 150


def test_planning_in_strips_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).integers(-50, 50, (20, 70)).cumsum(axis=1)
    whole = plan(rows)
    monkeypatch.setattr(rice_plan, "STRIP_CELLS", 210)
    parts = plan(rows)
    for name in ("transforms", "seeds", "lows", "residuals", "symbols", "bits", "constant"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_residuals_that_are_not_as_many_as_wanted_are_corrupt() -> None:
    k = np.full(10, 3, np.uint64)
    data = rice.pack(np.arange(10, dtype=np.uint64) * 5, k)
    for wanted in (9, 11, 1000):
        with pytest.raises(SegmentCorrupt):
            rice.unpack(Reader(data), np.full(wanted, 3, np.uint64))
    with pytest.raises(SegmentCorrupt, match="over"):
        rice.unpack(Reader(varint(5) + bytes(4) + b"\x80"), np.zeros(1, np.uint64))
