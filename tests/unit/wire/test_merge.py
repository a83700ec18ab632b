"""Atoms into messages and back, without loss."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.wire.codec_samples import ANCHOR, I64_MAX, I64_MIN, atom, atoms, block, same
from wire.clock import Anchor
from wire.codec import ATOMS_MAX, decode, encode
from wire.errors import MergeRefused
from wire.merge import merge, recut, segment_of
from wire.reading import CellState, Kind, Priority, Tick
from wire.segment import MESSAGE_CELLS_MAX, SCORE_NONE, Segment
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType

PAIR = SeriesSet((SeriesDef("s", "t", "Cel", den=100), SeriesDef("s", "x", "1", ValueType.FLOAT32)))
COUNTS = SeriesSet(tuple(SeriesDef("s", name, "1") for name in "abc"), StampUnit.US)
SETS = {PAIR.id: PAIR, COUNTS.id: COUNTS}


@settings(max_examples=60, deadline=None)
@given(atoms(most=6), st.randoms(use_true_random=False))
def test_recut_is_the_exact_inverse_of_merge_through_the_bytes(parts: list[Segment], chance: random.Random) -> None:
    shuffled = list(parts)
    chance.shuffle(shuffled)
    message = decode(encode(merge(shuffled)))
    assert message.count == sum(part.count for part in parts)
    back = recut(message)
    assert len(back) == len(parts)
    assert all(map(same, back, parts))


@settings(max_examples=30, deadline=None)
@given(atoms(most=6), st.integers(0, 6))
def test_merging_messages_is_merging_their_atoms(parts: list[Segment], cut: int) -> None:
    halves = [merge(part) for part in (parts[::2], parts[1::2], parts[:0]) if part]  # ranges that interleave
    assert same(merge(halves), merge(parts))
    halves = [merge(part) for part in (parts[:cut], parts[cut:]) if part]
    assert same(merge(halves), merge(parts))


def test_a_message_is_denser_than_its_atoms() -> None:
    parts = [atom(250 * at, [block(50, 5)]) for at in range(12)]
    assert len(encode(merge(parts))) < 0.6 * sum(len(encode(part)) for part in parts)


@pytest.mark.parametrize(
    "change",
    [
        {"priority": Priority.ALARM},
        {"kind": Kind.ROLLUP_1},
        {"anchor": Anchor(ANCHOR.boottime_us, ANCHOR.wall_us + 1, True, ANCHOR.uncertainty_us)},
        {"anchor": Anchor(ANCHOR.boottime_us, ANCHOR.wall_us, False, ANCHOR.uncertainty_us)},
    ],
    ids=["class", "kind", "anchor", "synchronised"],
)
def test_atoms_of_another_head_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(MergeRefused, match="another class, kind or anchor"):
        merge([atom(0, [block(1, 5)]), atom(5, [block(1, 5)], **change)])


def test_overlapping_atoms_are_refused() -> None:
    with pytest.raises(MergeRefused, match="begins before"):
        merge([atom(0, [block(1, 5)]), atom(4, [block(1, 5)])])
    with pytest.raises(MergeRefused, match="begins before"):
        merge([atom(7, [block(1, 5)])] * 2)


def test_blocks_of_one_set_in_two_forms_are_refused() -> None:
    for other in (block(2, 5), block(1, 5, ValueType.FLOAT64), block(1, 5, stamp_unit=StampUnit.US)):
        with pytest.raises(MergeRefused, match="differ"):
            merge([atom(0, [block(1, 5)]), atom(5, [other])])


def test_too_much_for_a_message_is_refused() -> None:
    half = MESSAGE_CELLS_MAX // 2
    with pytest.raises(MergeRefused, match="cells"):
        merge([atom(0, [block(1, half)]), atom(half, [block(1, half + 1)])])
    with pytest.raises(MergeRefused, match="atoms"):
        merge([atom(at, [block(1, 1)]) for at in range(ATOMS_MAX + 1)])
    with pytest.raises(MergeRefused, match="nothing"):
        merge([])


def test_an_atom_without_scores_stays_unscored_beside_one_with() -> None:
    scored = atom(0, [block(2, 3, scores=np.zeros((2, 3), np.uint8))])
    bare = atom(6, [block(2, 3)])
    message = decode(encode(merge([scored, bare])))
    assert message.blocks[0].scores is not None
    assert message.blocks[0].scores[:, 3:].tolist() == [[SCORE_NONE] * 3] * 2
    first, second = recut(message)
    assert first.blocks[0].scores is not None
    assert second.blocks[0].scores is None


def test_segment_of_ticks() -> None:
    ticks = [
        Tick(COUNTS.id, 3_000, (1, I64_MIN, I64_MAX)),
        Tick(PAIR.id, 2, (2143, 0.5), states=bytes((0, CellState.TIMEOUT)), quality=bytes((1, 0))),
        Tick(PAIR.id, 1, (2142, 1.5)),
        Tick(COUNTS.id, 4_000, (4, 5, 6), states=bytes((CellState.ABSENT, 0, 0))),
    ]
    scores = [bytes((1, 2, 3)), None, bytes((9, 9)), None]
    segment = segment_of(ticks, SETS, 100, Priority.ALARM, ANCHOR, scores=scores)
    assert [b.set_id for b in segment.blocks] == sorted(SETS)
    by_id = {b.set_id: b for b in segment.blocks}
    pair, counts = by_id[PAIR.id], by_id[COUNTS.id]
    assert pair.stamps.tolist() == [1, 2]  # in Seq order
    assert [c.tolist() for c in pair.columns] == [[2142, 2143], [1.5, 0.5]]
    assert [c.dtype for c in pair.columns] == [np.int64, np.float32]
    assert pair.states is not None
    assert pair.states.tolist() == [[0, 0], [0, 2]]
    assert pair.quality is not None
    assert pair.quality.tolist() == [[0, 1], [0, 0]]
    assert pair.scores is not None
    assert pair.scores.tolist() == [[9, 255], [9, 255]]
    assert counts.stamp_unit is StampUnit.US
    assert [c.tolist() for c in counts.columns] == [[1, 4], [I64_MIN, 5], [I64_MAX, 6]]
    assert segment.count == sum(tick.cells for tick in ticks) == 9
    assert segment.atoms[0].first == 100
    assert same(decode(encode(segment)), segment)


def test_ticks_of_one_stamp_keep_their_order() -> None:
    ticks = [Tick(COUNTS.id, 5, (at, at, at)) for at in range(4)] + [Tick(COUNTS.id, 4, (9, 9, 9))]
    block_of = segment_of(ticks, SETS, 0, Priority.NORMAL, ANCHOR).blocks[0]
    assert block_of.columns[0].tolist() == [9, 0, 1, 2, 3]


def test_ticks_without_a_cell_make_no_atom() -> None:
    gone = Tick(COUNTS.id, 1, (0, 0, 0), states=bytes([CellState.ABSENT] * 3))
    assert segment_of([gone], SETS, 5, Priority.NORMAL, ANCHOR).atoms == ()
    assert segment_of([], SETS, 5, Priority.NORMAL, ANCHOR).count == 0


def test_ticks_that_do_not_fit_are_refused() -> None:
    for bad in (
        Tick(COUNTS.id, 1, (1, 2)),
        Tick(COUNTS.id, 1, (1, 2, 1 << 63)),
        Tick(PAIR.id, 1, (1, "x")),  # type: ignore[arg-type]
        Tick(COUNTS.id, 1, (1, 2, 3), states=b"\0"),
    ):
        with pytest.raises(ValueError):
            segment_of([bad], SETS, 0, Priority.NORMAL, ANCHOR)
