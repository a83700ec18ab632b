"""A second reader, written from docs/formats/segment.md alone, number by number: the table is enough, and true."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pytest

from tests.unit.wire.codec_samples import GOLDEN, GOLDEN_MODELS
from wire import codec_pco
from wire.codec import decode
from wire.segment import Segment
from wire.series import DTYPES, ValueType

M64 = (1 << 64) - 1


class Bytes:
    """The notation: varint, zigzag, bits."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, n: int) -> bytes:
        self.at += n
        assert self.at <= len(self.data)
        return self.data[self.at - n : self.at]

    def varint(self) -> int:
        value = shift = 0
        while (byte := self.take(1)[0]) >= 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def zigzag(self) -> int:
        return unzigzag(self.varint())

    def packed(self, k: list[int]) -> list[int]:
        unary = bits(self.take(self.varint()))
        quotients, at = [], 0
        for _ in k:
            stop = unary.index(1, at)
            quotients.append(stop - at)
            at = stop + 1
        low, at, numbers = bits(self.take((sum(k) + 7) // 8)), 0, []
        for width in k:
            numbers.append(sum(bit << place for place, bit in enumerate(low[at : at + width])))
            at += width
        quotients = [q if q < 24 else 24 + self.varint() for q in quotients]
        return [(q << width | number) & M64 for q, width, number in zip(quotients, k, numbers)]


def bits(data: bytes) -> list[int]:
    return [byte >> place & 1 for byte in data for place in range(8)]


def unzigzag(value: int) -> int:
    return value >> 1 if value % 2 == 0 else -(value + 1 >> 1)


def signed(value: int) -> int:
    value &= M64
    return value - (1 << 64) if value >> 63 else value


def read(data: bytes) -> dict[str, Any]:
    assert zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    b = Bytes(data[:-4])
    magic, version, class_kind, flags = b.take(4)
    assert (magic, version) == (0x9C, 1)
    boottime, offset, uncertainty = b.varint(), b.zigzag(), b.varint()
    heads = []
    for _ in range(b.varint()):
        set_id, n, packed = int.from_bytes(b.take(8), "big"), b.varint(), b.varint()
        types: list[int] = []
        while len(types) < packed >> 1:
            run = b.varint()
            types += [run & 3] * (run >> 2)
        heads.append((set_id, n, packed & 1, types))
    atoms = []
    count = b.varint()
    at = b.varint() if count else 0
    while len(atoms) < count:
        repeats, gap, rest, ticks = b.varint(), b.varint(), b.varint(), [b.varint() for _ in heads]
        for _ in range(repeats):
            taken = sum(t * len(head[3]) for t, head in zip(ticks, heads)) + (rest if class_kind >> 4 else -rest)
            atoms.append((at + gap, taken, tuple(ticks)))
            at += gap + taken
    bodies = [read_body(b, head[1], head[3]) for head in heads]
    assert b.at == len(b.data)
    anchor = (boottime, boottime + offset, bool(flags & 1), uncertainty)
    return {"head": (class_kind & 15, class_kind >> 4, anchor), "blocks": heads, "atoms": atoms, "bodies": bodies}


def read_body(b: Bytes, n: int, types: list[int]) -> dict[str, Any]:
    k = len(types)
    flags = b.take(1)[0]
    states = read_plane(b, flags & 3, k * n)
    quality = read_plane(b, flags >> 2 & 3, k * n)
    scores_codec = flags >> 4 & 3
    scores = read_plane(b, scores_codec, k * n) if scores_codec < 3 else None
    period = b.varint()
    steps: dict[int, tuple[int, int]] = {}
    column = -1
    for _ in range(b.varint() if flags & 64 else 0):
        column += 1 + b.varint()
        steps[column] = (b.varint(), b.varint() if types[column] == 0 else 0)
    valid = [[t for t in range(n) if not states or not states[c * n + t]] for c in range(k)]
    sizes = [n, *map(len, valid)] + (list(map(len, valid)) if scores_codec == 3 else [])
    rows = read_rows(b, sizes, n, types)
    columns = []
    for c, kind in enumerate(types):
        told = [0] * n
        for t, value in zip(valid[c], rows[1 + c]):
            told[t] = value if isinstance(value, bytes) else to_bits(value, kind, steps.get(c))
        columns.append([x if isinstance(x, bytes) else bytes((8, 4, 8)[kind]) for x in told])
    if scores_codec == 3:
        scores = [255] * (k * n)
        for c in range(k):
            for t, value in zip(valid[c], rows[1 + k + c]):
                scores[c * n + t] = value
    elif scores is not None and states:
        scores = [score if not state else 255 for score, state in zip(scores, states)]
    stamps = [signed(row + (t * period >> 16)) for t, row in enumerate(rows[0])]
    return {"states": states, "quality": quality, "scores": scores, "stamps": stamps, "columns": columns}


def read_plane(b: Bytes, codec: int, cells: int) -> list[int] | None:
    if codec == 0:
        return None
    if codec == 2:
        return list(zlib.decompress(b.take(b.varint())))
    count = b.varint()
    gaps, lengths = [b.varint() for _ in range(count)], [b.varint() for _ in range(count)]
    flat: list[int] = []
    for gap, length, value in zip(gaps, lengths, b.take(count)):
        flat += [0] * gap + [value] * length
    return flat + [0] * (cells - len(flat))


def read_rows(b: Bytes, sizes: list[int], n: int, types: list[int]) -> list[list[Any]]:
    heads = list(b.take(len(sizes)))
    seeds = [b.zigzag() if head != 63 else 0 for head in heads]
    rice = [r for r, head in enumerate(heads) if head & 63 < 62]
    lows = {r: b.zigzag() for r in rice if heads[r] >> 6 == 3}
    symbols = {r: [heads[r] & 63] for r in rice}
    if n > 64:
        later = [(r, g) for r in rice for g in range(1, -(-n // 64)) if g * 64 < sizes[r]]
        for (r, _), change in zip(later, b.packed([1] * len(later))):
            symbols[r].append(symbols[r][-1] + unzigzag(change))
    places = [(r, i) for r in rice for i in range(0 if heads[r] >> 6 == 0 else 1, sizes[r])]
    places = [(r, i) for r, i in places if symbols[r][i // 64]]
    u = dict(zip(places, b.packed([symbols[r][i // 64] - 1 for r, i in places])))
    rows: list[list[Any]] = []
    for r, size in enumerate(sizes):
        if heads[r] == 63:
            rows.append([])
        elif heads[r] == 62:
            rows.append([seeds[r]] * size)
        else:
            rows.append(numbers(heads[r] >> 6, seeds[r], lows.get(r, 0), [u.get((r, i), 0) for i in range(size)]))
    for r in [r for r, head in enumerate(heads) if head == 63]:
        dtype = DTYPES[ValueType(types[r - 1])]
        rows[r] = [x.tobytes() for x in codec_pco.decompress(b.take(b.varint()), sizes[r], dtype)]
    return rows


def numbers(transform: int, seed: int, low: int, u: list[int]) -> list[int]:
    if transform == 0:
        return [signed(seed + unzigzag(x)) for x in u]
    told, step = [seed][: len(u)], 0
    for x in u[1:]:
        step = {1: unzigzag(x), 2: step + unzigzag(x), 3: low + x}[transform]
        told.append(signed(told[-1] + step))
    return told


def to_bits(y: int, kind: int, step: tuple[int, int] | None) -> bytes:
    if kind == 0:
        return struct.pack("<q", signed(y * step[0] + step[1]) if step else y)
    if step:
        return struct.pack("<d" if kind == 2 else "<f", float(y) / 10.0 ** step[0])
    if kind == 2:
        return struct.pack("<q", y ^ 0x7FFF_FFFF_FFFF_FFFF if y < 0 else y)
    return struct.pack("<i", y ^ 0x7FFF_FFFF if y < 0 else y)


def flat(plane: Any) -> list[int] | None:
    return None if plane is None else plane.reshape(-1).tolist()


@pytest.mark.parametrize("name", list(GOLDEN_MODELS))
def test_the_table_alone_is_enough_to_read_the_golden_vectors(name: str) -> None:
    data = (GOLDEN / f"{name}.segment").read_bytes()
    told, known = read(data), decode(data)
    assert isinstance(known, Segment)
    anchor = known.anchor
    head = (anchor.boottime_us, anchor.wall_us, anchor.synchronised, anchor.uncertainty_us)
    assert told["head"] == (known.priority, known.kind, head)
    assert told["atoms"] == [(atom.first, atom.count, atom.ticks) for atom in known.atoms]
    for (set_id, n, unit, _), body, block in zip(told["blocks"], told["bodies"], known.blocks, strict=True):
        assert (set_id, n, unit) == (block.set_id, block.ticks, block.stamp_unit)
        assert body["stamps"] == block.stamps.tolist()
        assert [body[key] for key in ("states", "quality", "scores")] == [
            flat(block.states),
            flat(block.quality),
            flat(block.scores),
        ]
        assert [b"".join(column) for column in body["columns"]] == [column.tobytes() for column in block.columns]
