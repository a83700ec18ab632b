"""The segment codec: bit-exact for everything, stable over time, total and bounded for any bytes."""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.segment import fuzz, sealed
from tests.unit.wire.codec_samples import (
    ANCHOR,
    EARLIER,
    FOREIGN,
    GOLDEN,
    GOLDEN_MODELS,
    I64_MAX,
    I64_MIN,
    SHAPES,
    atom,
    atoms,
    block,
    column,
    same,
)
from wire import codec, codec_pco
from wire.clock import Anchor
from wire.codec import ATOMS_MAX, BLOCKS_MAX, MAGIC, TIME_US_MAX, VERSION, decode, encode, read_header, zone
from wire.errors import MergeRefused, SegmentCorrupt, UnsupportedFormat
from wire.ranges import SEQ_MAX
from wire.reading import CellState, Kind, Priority
from wire.segment import MESSAGE_BYTES_MAX, MESSAGE_CELLS_MAX, AtomRef, Block, Segment
from wire.series import StampUnit, ValueType
from wire.varint import varint

HEAD = bytes((MAGIC, VERSION, 1, 1, 0, 0, 0))  # NORMAL, RAW, synchronised, anchor at 0


# ---- bit-exact ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(atoms(), st.booleans())
def test_round_trip(parts: list[Segment], pco: bool) -> None:
    for segment in parts:
        data = encode(segment, pco=pco)
        back = decode(data)
        assert same(back, segment)
        assert encode(back, pco=pco) == data
        header = read_header(data)
        assert (header.priority, header.kind, header.anchor) == (segment.priority, segment.kind, segment.anchor)
        assert header.atoms == segment.atoms
        assert header.count == segment.count
        assert [(h.set_id, h.ticks, h.columns, h.stamp_unit) for h in header.blocks] == [
            (b.set_id, b.ticks, len(b.columns), b.stamp_unit) for b in segment.blocks
        ]


@pytest.mark.parametrize("n", [1, 2, 5, 33, 64, 65, 129, 700])
@pytest.mark.parametrize("kind", list(ValueType))
def test_every_shape_of_column(kind: ValueType, n: int) -> None:
    columns = [column(kind, shape, n, seed) for shape in SHAPES for seed in (1, 2)]
    stamps = np.arange(n, dtype=np.int64) * 1000
    segment = atom(5, [Block(9, stamps, columns)])
    for pco in (True, False):
        assert same(decode(encode(segment, pco=pco)), segment)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(I64_MIN, I64_MAX), min_size=1, max_size=70))
def test_any_integers(numbers: list[int]) -> None:
    ints = np.array(numbers, np.int64)
    columns = [ints, ints.view(np.float64), np.sort(ints)]
    segment = atom(0, [Block(9, np.arange(len(ints)), columns)])
    assert same(decode(encode(segment)), segment)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=40), st.lists(st.floats(), min_size=40, max_size=40))
def test_any_floats(singles: list[float], doubles: list[float]) -> None:
    n = len(singles)
    columns = [
        np.array(singles, np.float32),
        np.array(doubles[:n]),
        np.round(np.clip(np.nan_to_num(doubles[:n]), -1e9, 1e9), 2),
    ]
    segment = atom(0, [Block(9, np.arange(n), columns)])
    assert same(decode(encode(segment)), segment)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-TIME_US_MAX, TIME_US_MAX), min_size=1, max_size=70))
def test_any_stamps(numbers: list[int]) -> None:
    stamps = np.array(numbers, np.int64)
    segment = atom(0, [Block(9, stamps, [stamps], stamp_unit=StampUnit.US)])
    data = encode(segment)
    assert same(decode(data), segment)
    assert zone(decode(data)) == (min(numbers), max(numbers))


def test_differences_that_overflow_have_no_common_step() -> None:
    """-2^63 and 2^63 - 3 lie 2^64 - 3 apart; modulo 2^64 that is 3, which does not divide it."""
    segment = atom(0, [Block(9, np.arange(64), [np.array([I64_MIN, I64_MAX - 2] * 32)])])
    assert same(decode(encode(segment, pco=False)), segment)


def test_nan_payloads_infinities_and_negative_zero_keep_their_bits() -> None:
    bits = np.array([0x7FF8_0000_0000_0007, 0xFFF4_0000_0000_0001, 0x7FF0 << 48, 0xFFF0 << 48, 1 << 63, 0], np.uint64)
    segment = atom(0, [Block(9, np.arange(6), [bits.view(np.float64)])])
    assert decode(encode(segment)).blocks[0].columns[0].tobytes() == bits.tobytes()


def test_a_common_step_is_found_beside_gaps() -> None:
    states = np.zeros((1, 64), np.uint8)
    states[0, 20:23] = CellState.TIMEOUT
    counts = np.cumsum(np.arange(64) * 7 % 5 - 2)
    plain, stepped = (encode(atom(0, [Block(9, np.arange(64), [told], states)])) for told in (counts, counts * 25 + 3))
    assert len(stepped) - len(plain) <= 4  # the step's entry: how many, where, size and base


@pytest.mark.parametrize("kind", ValueType)
def test_columns_may_be_parts_of_a_matrix(kind: ValueType) -> None:
    matrix = np.stack([column(kind, "walk", 20, seed) for seed in range(4)], axis=1)
    parts, whole = ([take(matrix[:, at]) for at in range(4)] for take in (np.asarray, np.ascontiguousarray))
    assert not parts[0].flags.c_contiguous
    assert encode(atom(0, [Block(9, np.arange(20), parts)])) == encode(atom(0, [Block(9, np.arange(20), whole)]))


def test_a_constant_column_costs_a_byte_and_its_value() -> None:
    lone, many = (atom(0, [Block(9, np.arange(60), [np.full(60, 20)] * k)]) for k in (1, 101))
    assert len(encode(many)) - len(encode(lone)) <= 100 * 2 + 6  # 4 more in the count of cells, 2 in lengths


def test_quiet_scores_cost_at_most_a_quarter_byte_a_reading() -> None:
    rng = np.random.default_rng(3)
    quiet = (rng.random((50, 60)) < 0.06).astype(np.uint8) * rng.integers(1, 40, (50, 60)).astype(np.uint8)
    bare, scored = atom(0, [block(50, 60)]), atom(0, [block(50, 60, scores=quiet)])
    assert len(encode(scored)) - len(encode(bare)) <= 0.25 * 3000


def test_zone_is_in_microseconds_of_each_block() -> None:
    slow, fast = block(1, 3), block(1, 3, stamp_unit=StampUnit.US)
    fast.set_id += 1
    assert zone(atom(0, [slow, fast])) == (86_400_000, 86_402_004_000)
    assert zone(GOLDEN_MODELS["empty"]()) == (0, 0)


# ---- stable over time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GOLDEN_MODELS))
def test_golden_vectors(name: str) -> None:
    model = GOLDEN_MODELS[name]()
    data = (GOLDEN / f"{name}.segment").read_bytes()
    assert same(decode(data), model)
    if name not in FOREIGN + EARLIER:
        assert encode(model, pco=False) == data


def test_every_golden_file_has_a_model() -> None:
    assert {file.stem for file in GOLDEN.glob("*.segment")} == set(GOLDEN_MODELS)


# ---- without pcodec -------------------------------------------------------------------------------------------------


@pytest.fixture
def no_pcodec(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine where pcodec is not installed."""
    monkeypatch.setitem(sys.modules, "pcodec", None)
    codec_pco._library.cache_clear()
    yield
    monkeypatch.undo()
    codec_pco._library.cache_clear()


@pytest.mark.usefixtures("no_pcodec")
def test_a_gateway_without_pcodec_encodes_and_decodes() -> None:
    model = GOLDEN_MODELS["float64-pco-2x320"]()
    data = encode(model)
    assert data == encode(model, pco=False)
    assert same(decode(data), model)


@pytest.mark.usefixtures("no_pcodec")
def test_pco_columns_without_pcodec_are_unsupported() -> None:
    with pytest.raises(UnsupportedFormat, match="install pcodec"):
        decode((GOLDEN / "float64-pco-2x320.segment").read_bytes())


def test_a_pco_chunk_of_another_count_or_with_bytes_left_is_corrupt() -> None:
    numbers = np.arange(100) ** 2
    chunk = codec_pco.compress(numbers)
    assert codec_pco.decompress(chunk, 100, numbers.dtype).tolist() == numbers.tolist()
    for bad, count in ((chunk + b"\0", 100), (chunk[:-1], 100), (chunk, 99), (chunk, 5000), (b"", 100)):
        with pytest.raises(SegmentCorrupt, match="pco"):
            codec_pco.decompress(bad, count, numbers.dtype)


# ---- total and bounded ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(GOLDEN_MODELS))
def test_no_flipped_bit_passes(name: str) -> None:
    data = (GOLDEN / f"{name}.segment").read_bytes()
    chance = random.Random(1)
    for at in chance.sample(range(8 * len(data)), min(300, 8 * len(data))):
        bad = bytearray(data)
        bad[at // 8] ^= 1 << at % 8
        with pytest.raises((SegmentCorrupt, UnsupportedFormat)):
            decode(bytes(bad))
    for length in chance.sample(range(len(data)), min(100, len(data))):
        with pytest.raises((SegmentCorrupt, UnsupportedFormat)):
            decode(data[:length])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(GOLDEN_MODELS)), st.data())
def test_any_bytes_behind_a_right_crc_give_a_value_or_an_error(name: str, data: st.DataObject) -> None:
    """`fuzz` asserts it: no other error, in bounded time, and what was decoded can be encoded and decoded again."""
    raw = bytearray((GOLDEN / f"{name}.segment").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(2, len(raw) - 1))] = data.draw(st.integers(0, 255))
    fuzz(bytes(raw))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_at_all(tail: bytes) -> None:
    """As above, in `fuzz`."""
    fuzz(tail)
    fuzz(HEAD + tail)


def bomb_heads() -> dict[str, bytes]:
    """Heads that claim more than may be built."""
    one = (9).to_bytes(8, "big")
    cells = one + varint(MESSAGE_CELLS_MAX // 2) + varint(2 << 1) + varint(2 << 2)
    many = [(at).to_bytes(8, "big") + varint(0) + varint(4096 << 1) + varint(4096 << 2) for at in range(1, 200)]
    return {
        "2^40 rows": HEAD + varint(1) + one + varint(1 << 40) + varint(1 << 1) + varint(1 << 2),
        "2^40 columns": HEAD + varint(1) + one + varint(1) + varint(1 << 41) + varint(1 << 2),
        "2^64 rows": HEAD + varint(1) + one + varint((1 << 64) - 1) + varint(1 << 1),
        "cells over all blocks": HEAD + varint(2) + cells + (10).to_bytes(8, "big") + cells[8:],
        "columns without bytes": HEAD + varint(len(many)) + b"".join(many),
        "blocks": HEAD + varint(BLOCKS_MAX + 1) + bytes(100),
        "atoms": HEAD + varint(0) + varint(ATOMS_MAX + 1) + varint(0) * 4,
        "no columns": HEAD + varint(1) + one + varint(5) + varint(0) + bytes(40),
        "Seq over 2^63": HEAD + varint(0) + varint(1) + varint(SEQ_MAX + 1) + varint(1) + bytes(20),
        "varint without end": HEAD + b"\xff" * 50,
    }


@pytest.mark.parametrize("name", list(bomb_heads()))
def test_a_head_that_claims_too_much_is_refused_before_allocation(name: str) -> None:
    data = sealed(bomb_heads()[name])
    tracemalloc.start()
    try:
        for read in (read_header, decode):
            with pytest.raises(SegmentCorrupt):
                read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_more_cells_than_a_message_may_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else about these bytes is right: only the bound stands between them and the memory."""
    columns = [np.zeros(4096, np.int64)] * 129
    wide = [Block(at, np.zeros(4096, np.int64), columns) for at in (1, 2)]
    monkeypatch.setattr(codec, "MESSAGE_CELLS_MAX", MESSAGE_CELLS_MAX * 2)
    data = encode(atom(0, wide))
    monkeypatch.undo()
    for read in (read_header, decode):
        with pytest.raises(SegmentCorrupt, match="cells claimed"):
            read(data)


def test_the_largest_allowed_claim_is_bounded_in_time_and_memory() -> None:
    """2^20 cells from a few hundred bytes: the worst amplification there is."""
    wide = atom(0, [Block(9, np.zeros(4096, np.int64), [np.zeros(4096, np.int64)] * 256)])
    data = encode(wide)
    assert len(data) < 1200
    tracemalloc.start()
    start = time.process_time()
    try:
        decode(data)
        seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20, f"{peak >> 20} MiB"
    assert seconds < 2


def test_a_plane_inflates_no_further_than_its_cells() -> None:
    model = GOLDEN_MODELS["filtered-deflate"]()
    data = (GOLDEN / "filtered-deflate.segment").read_bytes()
    packed = zlib.compress(np.asarray(model.blocks[0].states).tobytes(), 6)
    at = data.index(packed)
    huge = zlib.compress(bytes(1 << 26), 9)[:60_000]
    bad = data[: at - 1] + varint(len(huge)) + huge + data[at + len(packed) : -4]
    tracemalloc.start()
    try:
        with pytest.raises(SegmentCorrupt, match="inflates"):
            decode(sealed(bad))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("at", "value"),
    [(1, 2), (2, 0x0F), (2, 0xF1), (3, 0x02)],
    ids=["version", "class", "kind", "flags"],
)
def test_what_a_newer_version_may_bring_is_unsupported_not_corrupt(at: int, value: int) -> None:
    data = bytearray((GOLDEN / "single.segment").read_bytes()[:-4])
    data[at] = value
    for read in (read_header, decode):
        with pytest.raises(UnsupportedFormat):
            read(sealed(bytes(data)))


def test_parts_that_contradict_each_other_are_corrupt() -> None:
    states = np.array([[0, 255, 0]], np.uint8)
    lying = atom(0, [block(1, 3, states=states)])
    lying.atoms = (AtomRef(0, 3, (3,)),)
    with pytest.raises(SegmentCorrupt, match="2 cells, its head says 3"):
        decode(encode(lying))
    lying.atoms = (AtomRef(0, 2, (2,)),)
    with pytest.raises(SegmentCorrupt, match="2 ticks"):
        decode(encode(lying))
    late = atom(0, [Block(9, np.array([TIME_US_MAX]), [np.array([1])])])
    with pytest.raises(SegmentCorrupt, match="stamps"):
        decode(encode(late))


def test_what_is_too_large_to_send_is_refused() -> None:
    with pytest.raises(MergeRefused, match="cells"):
        encode(atom(0, [Block(9, np.zeros(MESSAGE_CELLS_MAX + 1, np.int64), [np.zeros(MESSAGE_CELLS_MAX + 1, int)])]))
    noise = np.random.default_rng(1).integers(I64_MIN, I64_MAX, MESSAGE_BYTES_MAX // 8)
    with pytest.raises(MergeRefused, match="bytes"):
        encode(atom(0, [Block(9, np.arange(len(noise)), [noise])]))
    crowd = tuple(AtomRef(at, 1, (1,)) for at in range(ATOMS_MAX + 1))
    with pytest.raises(MergeRefused, match="atoms"):
        encode(Segment(Priority.NORMAL, Kind.RAW, ANCHOR, crowd, [block(1, ATOMS_MAX + 1)]))


def test_an_anchor_before_1970_and_far_ahead() -> None:
    for wall_us in (-1, 0, 1 << 61):
        segment = atom(0, [block(1, 1)], anchor=Anchor(5_000_000, wall_us, False, 1 << 40))
        assert decode(encode(segment)).anchor == segment.anchor


def test_only_value_cells_are_kept() -> None:
    states = np.array([[CellState.TIMEOUT, 0, CellState.ABSENT]], np.uint8)
    back = decode(encode(atom(0, [Block(9, np.arange(3), [np.array([7, 8, 9])], states)]))).blocks[0]
    assert back.columns[0].tolist() == [0, 8, 0]
    assert back.cells == 2
