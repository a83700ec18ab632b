"""Segments to test with: equality, hypothesis strategies, and the golden vectors' models.

`python -m tests.unit.wire.codec_samples` writes the golden files that are missing (and never changes one).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from wire.clock import Anchor
from wire.codec import encode
from wire.merge import merge
from wire.reading import CellState, Kind, Priority
from wire.segment import SCORE_NONE, AtomRef, Block, Segment
from wire.series import DTYPES, StampUnit, ValueType

GOLDEN = Path(__file__).parent / "golden"
ANCHOR = Anchor(86_400_000_000, 1_795_165_999_149_824, True, 12_500)
I64_MIN, I64_MAX = -(1 << 63), (1 << 63) - 1


def same(a: Segment, b: Segment) -> bool:
    """Equal in all that means something: bits of VALUE cells, states, doubts, scores of VALUE cells, heads."""
    heads_equal = (a.priority, a.kind, a.anchor, a.atoms) == (b.priority, b.kind, b.anchor, b.atoms)
    return heads_equal and len(a.blocks) == len(b.blocks) and all(map(same_block, a.blocks, b.blocks))


def same_block(a: Block, b: Block) -> bool:
    """See `same`."""
    shape = (len(a.columns), a.ticks)
    if (a.set_id, a.stamp_unit, *shape) != (b.set_id, b.stamp_unit, len(b.columns), b.ticks):
        return False
    there = plane(a.states, shape) == CellState.VALUE
    return (
        np.array_equal(a.stamps, b.stamps)
        and np.array_equal(plane(a.states, shape), plane(b.states, shape))
        and np.array_equal(plane(a.quality, shape), plane(b.quality, shape))
        and np.array_equal(plane(a.scores, shape, SCORE_NONE)[there], plane(b.scores, shape, SCORE_NONE)[there])
        and all(x.dtype == y.dtype and x[t].tobytes() == y[t].tobytes() for x, y, t in zip(a.columns, b.columns, there))
    )


def plane(told: NDArray[np.uint8] | None, shape: tuple[int, int], missing: int = 0) -> NDArray[np.uint8]:
    """What None stands for."""
    return np.full(shape, missing, np.uint8) if told is None else told


def atom(first: int, blocks: list[Block], more: int = 0, **head: Any) -> Segment:
    """One atom of these blocks; as a roll-up it stands for `more` readings than it has cells."""
    told = {"priority": Priority.NORMAL, "kind": Kind.RAW, "anchor": ANCHOR, **head}
    count = sum(block.cells for block in blocks)
    if told["kind"] is not Kind.RAW:
        count = sum(block.ticks * len(block.columns) for block in blocks) + more
    return Segment(atoms=(AtomRef(first, count, tuple(block.ticks for block in blocks)),), blocks=blocks, **told)


# ---- strategies -----------------------------------------------------------------------------------------------------

SPECIAL = {
    ValueType.INT: [0, 1, -1, I64_MIN, I64_MAX, I64_MIN + 1, 1 << 32, -(1 << 53), 10, 20, 40],
    ValueType.FLOAT64: [
        0,
        1 << 63,
        0x7FF << 52,
        0xFFF << 52,
        0x7FF8 << 48 | 7,
        0xFFF4 << 48 | 1,
        1,
        0x4035_6E14_7AE1_47AE,
    ],
    ValueType.FLOAT32: [0, 1 << 31, 0xFF << 23, 0x1FF << 23, 0x7FC0_0007, 0xFFA0_0001, 1, 0x41AB_851F],
}
SHAPES = ("special", "walk", "random", "constant", "steps", "decimals", "climb")


def column(kind: ValueType, shape: str, n: int, seed: int) -> NDArray[np.generic]:
    """n numbers of a kind, in one of the shapes that the codec treats apart."""
    rng = np.random.default_rng(seed)
    dtype = DTYPES[kind]
    if shape in ("special", "random"):
        bits = rng.integers(0, 1 << 64, n, np.uint64)
        if shape == "special":
            bits = rng.choice(np.array([b % (1 << 64) for b in SPECIAL[kind]], np.uint64), n)
        return bits.astype(np.uint32).view(dtype) if kind is ValueType.FLOAT32 else bits.view(dtype)
    walk = np.cumsum(rng.integers(-3, 4, n)) + 2143
    numbers: dict[str, NDArray[Any]] = {
        "walk": walk if kind is ValueType.INT else walk / 7.0,
        "constant": np.full(n, 77),
        "steps": walk * 25 + 3,
        "decimals": walk if kind is ValueType.INT else walk / 100.0,
        "climb": np.cumsum(rng.integers(0, 90, n)) + I64_MAX // 3,
    }
    return numbers[shape].astype(dtype)


@st.composite
def blocks(draw: st.DrawFn, set_id: int, kinds: list[ValueType], unit: StampUnit) -> Block:
    """A block of one set, with holes, doubts and scores or without."""
    n = draw(st.one_of(st.integers(1, 9), st.sampled_from([32, 63, 64, 65, 130, 310])))
    seed = draw(st.integers(0, 1 << 32))
    rng = np.random.default_rng(seed)
    shape = (len(kinds), n)
    columns = [column(kind, draw(st.sampled_from(SHAPES)), n, seed + at) for at, kind in enumerate(kinds)]
    states = quality = scores = None
    if draw(st.booleans()):
        odds = draw(st.sampled_from([0.02, 0.5, 0.98]))
        states = np.where(rng.random(shape) < odds, rng.choice([0, 1, 7, 127, 255], shape), 0).astype(np.uint8)
        states[0, 0] = draw(st.sampled_from([CellState.VALUE, CellState.TIMEOUT]))  # an atom has a cell at least
    if draw(st.booleans()):
        quality = (rng.random(shape) < draw(st.sampled_from([0.01, 0.5]))).astype(np.uint8) * np.uint8(64)
    if draw(st.booleans()):
        scores = rng.geometric(draw(st.sampled_from([0.05, 0.7, 1.0])), shape).clip(1, 255).astype(np.uint8)
    stamps = np.sort(rng.integers(0, draw(st.sampled_from([1, 1000, 1 << 40])), n) + np.arange(n) * 1000)
    if draw(st.booleans()):
        rng.shuffle(stamps)
    return Block(set_id, stamps, columns, states, quality, scores, unit)


@st.composite
def atoms(draw: st.DrawFn, most: int = 4) -> list[Segment]:
    """Atoms that can be merged: up to three sets, each atom with some of them, some Seq numbers left out between."""
    ids = draw(st.lists(st.integers(0, (1 << 63) - 1), min_size=1, max_size=3, unique=True))
    forms = {
        set_id: (
            draw(st.lists(st.sampled_from(ValueType), min_size=1, max_size=5)),
            draw(st.sampled_from(StampUnit)),
        )
        for set_id in sorted(ids)
    }
    head = {"priority": draw(st.sampled_from(Priority)), "kind": draw(st.sampled_from(Kind))}
    found: list[Segment] = []
    at = draw(st.sampled_from([0, 1, 1 << 40]))
    for _ in range(draw(st.integers(1, most))):
        chosen = draw(st.lists(st.sampled_from(sorted(forms)), min_size=1, max_size=3, unique=True))
        cut = [draw(blocks(set_id, *forms[set_id])) for set_id in sorted(chosen)]
        found.append(atom(at, cut, draw(st.sampled_from([0, 1, 1 << 40])), **head))
        at = found[-1].atoms[0].end + draw(st.sampled_from([0, 0, 5]))
    return found


# ---- golden vectors -------------------------------------------------------------------------------------------------


def block(k: int, n: int, kind: ValueType = ValueType.INT, shape: str = "walk", **told: Any) -> Block:
    """A block whose numbers come from a formula, not from a generator that may change between versions."""
    places = np.arange(n, dtype=np.int64)
    stamps = 86_400_000 + places * 1000 + places * places % 13
    columns: list[NDArray[np.generic]] = []
    for at in range(k):
        noise = (places * (7 + at) + places * places * 3) % 11 - 5
        wave = 2143 + at + places // 7 + noise
        if kind is ValueType.INT:
            columns.append({"walk": wave, "climb": np.cumsum(noise + 9), "steps": wave * 25 + 3}[shape])
        else:
            columns.append((wave / (100.0 if shape == "decimals" else 7.0)).astype(DTYPES[kind]))
    return Block(0x0123_4567_89AB_CDEF, stamps, columns, **told)


def _holes() -> Segment:
    states = np.zeros((6, 40), np.uint8)
    states[0:3, 10:15] = CellState.NO_ANSWER
    states[4, ::3] = CellState.ABSENT
    quality = np.zeros((6, 40), np.uint8)
    quality[5, 20:] = 1
    scores = (np.arange(240).reshape(6, 40) % 17 == 0).astype(np.uint8) * np.uint8(9)
    return atom(7, [block(6, 40, states=states, quality=quality, scores=scores)], priority=Priority.ALARM)


def _extremes() -> Segment:
    ints = np.array([b % (1 << 64) for b in SPECIAL[ValueType.INT]], np.uint64).view(np.int64)[:8]
    doubles = np.array(SPECIAL[ValueType.FLOAT64], np.uint64).view(np.float64)
    singles = np.array(SPECIAL[ValueType.FLOAT32], np.uint32).view(np.float32)
    stamps = np.arange(8, dtype=np.int64) * 10_000 + 5
    return atom(0, [Block(1, stamps, [ints, doubles, singles], stamp_unit=StampUnit.US)])


def _merged() -> Segment:
    other = block(2, 5, ValueType.FLOAT32, "decimals")
    other.set_id = 0x0F
    parts = [atom(100 * at, [block(4, 5)] if at % 2 else [other, block(4, 6)]) for at in range(6)]
    return merge(parts)


def _filtered() -> Segment:
    states = np.zeros((4, 90), np.uint8)
    states[:2] = CellState.ABSENT * ((np.arange(180).reshape(2, 90) * 7919 % 31) > 4)
    return atom(3, [block(4, 90, states=states)])


GOLDEN_MODELS: dict[str, Callable[[], Segment]] = {
    "empty": lambda: Segment(Priority.LOW, Kind.RAW, Anchor(0, 0, False, 0), (), []),
    "single": lambda: atom(1 << 40, [block(1, 1)]),
    "decimal-50x60": lambda: atom(1_000_000, [block(50, 60)]),
    "counters-8x200": lambda: atom(5, [block(8, 200, shape="climb")]),
    "steps-3x64": lambda: atom(5, [block(3, 64, shape="steps")]),
    "float-decimals-3x20": lambda: atom(5, [block(3, 20, ValueType.FLOAT64, "decimals")]),
    "rollup-1x3": lambda: atom(5, [block(4, 3)], 1788, kind=Kind.ROLLUP_1),
    "float32-3x20": lambda: atom(5, [block(3, 20, ValueType.FLOAT32)], kind=Kind.ROLLUP_1),
    "holes": _holes,
    "extremes": _extremes,
    "merged": _merged,
    "filtered-deflate": _filtered,
    "float64-pco-2x320": lambda: atom(5, [block(2, 320, ValueType.FLOAT64)]),
}
# Bytes of these also rest on zlib's and pcodec's choices: they must decode, not encode, the same for ever.
FOREIGN = ("filtered-deflate", "float64-pco-2x320")
# An earlier encoder chose other transforms for these: they must decode, too, and today's bytes stand beside them.
EARLIER = ("counters-8x200", "float-decimals-3x20", "rollup-1x3", "float32-3x20")
GOLDEN_MODELS |= {f"{name}-0280": GOLDEN_MODELS[name] for name in EARLIER}


def main() -> None:
    """Write the golden files that are not there."""
    GOLDEN.mkdir(exist_ok=True)
    for name, model in GOLDEN_MODELS.items():
        file = GOLDEN / f"{name}.segment"
        if not file.exists():
            file.write_bytes(encode(model(), pco=name in FOREIGN))
            print(f"written: {file.name}, {file.stat().st_size} bytes")


if __name__ == "__main__":
    main()
