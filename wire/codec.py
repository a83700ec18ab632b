"""The segment's bytes, format v1. `docs/formats/segment.md` is the byte table; `wire.segment` holds the model.

The head (who, which Seq numbers, which columns) can be read alone; the body of each block is in `wire.codec_block`.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from wire.clock import Anchor
from wire.codec_block import decode_block, encode_block
from wire.codec_number import Layout, layout
from wire.errors import MergeRefused, SegmentCorrupt, UnsupportedFormat
from wire.ranges import SEQ_MAX
from wire.reading import SERIES_PER_SET_MAX, CellState, Kind, Priority
from wire.segment import MESSAGE_BYTES_MAX, MESSAGE_CELLS_MAX, AtomRef, Block, BlockHeader, Header, Segment
from wire.series import StampUnit, ValueType
from wire.varint import Reader, unzigzag, varint, varints_of, zigzag

MAGIC = 0x9C  # not ASCII, not a protobuf key in use, not gzip or zstd
VERSION = 1
FLAG_SYNCHRONISED = 1
CRC_BYTES = 4
ATOMS_MAX = 4096  # bounds on what a head may make a decoder build: real messages have tens to hundreds
BLOCKS_MAX = 1024
TICKS_ENTRIES_MAX = 1 << 18  # atoms x blocks
TIME_US_MAX = 1 << 62  # so that stamp + offset stays within int64


def encode(segment: Segment, *, pco: bool = True) -> bytes:
    """The bytes of a segment. `pco=False` (or no pcodec installed) leaves the native codec out.

    Raises:
        MergeRefused: over MESSAGE_BYTES_MAX, MESSAGE_CELLS_MAX or ATOMS_MAX; cut it into several.
    """
    _check_size(segment)
    parts = [
        bytes((MAGIC, VERSION, segment.priority | segment.kind << 4, _flags(segment.anchor))),
        varint(segment.anchor.boottime_us),
        varint(zigzag(segment.anchor.offset_us)),
        varint(segment.anchor.uncertainty_us),
        varint(len(segment.blocks)),
    ]
    layouts = [layout(tuple([column.dtype for column in block.columns])) for block in segment.blocks]
    parts += map(_block_head, segment.blocks, layouts)
    parts.append(_atom_list(segment))
    parts += [encode_block(block, of_block, pco=pco) for block, of_block in zip(segment.blocks, layouts)]
    body = b"".join(parts)
    if len(body) + CRC_BYTES > MESSAGE_BYTES_MAX:
        raise MergeRefused(
            f"{len(body) + CRC_BYTES} bytes, over {MESSAGE_BYTES_MAX}; cut the segment into smaller ones"
        )
    return body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")


def read_header(data: bytes) -> Header:
    """The head of a segment, after checking its CRC and bounds; columns are not decoded.

    Raises:
        SegmentCorrupt: not a segment, damaged, or over a bound.
        UnsupportedFormat: a newer version, class, kind or flag.
    """
    return open_segment(data)[1]


def open_segment(data: bytes) -> tuple[Reader, Header, list[list[ValueType]]]:
    """As `read_header`, with a reader at the first block's body and the value types of each block's columns."""
    reader = _reader(data)
    return reader, *_read_head(reader)


def decode(data: bytes) -> Segment:
    """Inverse of `encode`, for any bytes. Cells that are not VALUE come back as 0.

    Work and memory are bounded by MESSAGE_BYTES_MAX and MESSAGE_CELLS_MAX whatever the bytes claim.

    Raises:
        SegmentCorrupt: not a segment, damaged, over a bound, or its parts contradict each other.
        UnsupportedFormat: a newer version, class, kind, flag or codec, or pco columns where pcodec is not installed.
    """
    reader, header, types = open_segment(data)
    blocks = [decode_block(reader, head, value_types) for head, value_types in zip(header.blocks, types)]
    if reader.at != reader.end:
        raise SegmentCorrupt(f"{reader.end - reader.at} bytes after the last block")
    for block in blocks:
        _check_stamps(block)
    check_counts(header, [block.states for block in blocks])
    return Segment(header.priority, header.kind, header.anchor, header.atoms, blocks)


def zone(segment: Segment) -> tuple[int, int]:
    """Earliest and latest stamp in boot-relative microseconds; (0, 0) when there is no tick."""
    spans = [
        (int(block.stamps.min()) * block.stamp_unit.us, int(block.stamps.max()) * block.stamp_unit.us)
        for block in segment.blocks
        if block.ticks
    ]
    if not spans:
        return (0, 0)
    return min(first for first, _ in spans), max(last for _, last in spans)


def _check_size(segment: Segment) -> None:
    cells = sum(block.ticks * len(block.columns) for block in segment.blocks)
    if cells > MESSAGE_CELLS_MAX:
        raise MergeRefused(f"{cells} cells, over {MESSAGE_CELLS_MAX}; cut the segment into smaller ones")
    atoms, blocks = len(segment.atoms), len(segment.blocks)
    if atoms > ATOMS_MAX or blocks > BLOCKS_MAX or atoms * blocks > TICKS_ENTRIES_MAX:
        raise MergeRefused(
            f"{atoms} atoms of {blocks} blocks, over {ATOMS_MAX}, {BLOCKS_MAX} or together {TICKS_ENTRIES_MAX}"
        )


def _flags(anchor: Anchor) -> int:
    return FLAG_SYNCHRONISED if anchor.synchronised else 0


def _block_head(block: Block, types: Layout) -> bytes:
    counts = varints_of((block.ticks, len(block.columns) << 1 | block.stamp_unit))
    return block.set_id.to_bytes(8, "big") + counts + types.runs


def _atom_list(segment: Segment) -> bytes:
    """Runs of equal (gap to the previous atom, Seq that its grid has too many or too few, ticks of each block)."""
    columns = [len(block.columns) for block in segment.blocks]
    runs: list[tuple[tuple[int, ...], int]] = []
    previous = segment.atoms[0].first if segment.atoms else 0
    for atom in segment.atoms:
        rest = sum(n * k for n, k in zip(atom.ticks, columns)) - atom.count
        row = (atom.first - previous, rest if segment.kind is Kind.RAW else -rest, *atom.ticks)
        previous = atom.end
        if runs and runs[-1][0] == row:
            runs[-1] = (row, runs[-1][1] + 1)
        else:
            runs.append((row, 1))
    parts = [varint(len(segment.atoms))]
    if segment.atoms:
        parts.append(varint(segment.atoms[0].first))
    for row, repeats in runs:
        parts.append(varint(repeats))
        parts += [varint(number) for number in row]
    return b"".join(parts)


def _reader(data: bytes) -> Reader:
    if len(data) > MESSAGE_BYTES_MAX:
        raise SegmentCorrupt(f"{len(data)} bytes, over {MESSAGE_BYTES_MAX}")
    if len(data) < CRC_BYTES + 2 or data[0] != MAGIC:
        raise SegmentCorrupt(f"{len(data)} bytes that do not start with {MAGIC:#x}")
    if data[1] != VERSION:
        raise UnsupportedFormat(f"segment version {data[1]}, this end knows {VERSION}")
    end = len(data) - CRC_BYTES
    told, found = int.from_bytes(data[end:], "little"), zlib.crc32(memoryview(data)[:end])
    if told != found:
        raise SegmentCorrupt(f"CRC {found:#010x}, the segment says {told:#010x}")
    return Reader(data, 2, end)


def _read_head(reader: Reader) -> tuple[Header, list[list[ValueType]]]:
    class_kind, flags = reader.byte(), reader.byte()
    try:
        priority, kind = Priority(class_kind & 15), Kind(class_kind >> 4)
    except ValueError as error:
        raise UnsupportedFormat(f"class and kind byte {class_kind:#04x}: {error}") from error
    if flags & ~FLAG_SYNCHRONISED:
        raise UnsupportedFormat(f"flags {flags:#04x}, this end knows {FLAG_SYNCHRONISED:#04x}")
    boottime_us = reader.varint(TIME_US_MAX, "anchor boottime")
    offset_us = unzigzag(reader.varint(2 * TIME_US_MAX, "anchor offset"))
    uncertainty_us = reader.varint(TIME_US_MAX, "anchor uncertainty")
    anchor = Anchor(boottime_us, boottime_us + offset_us, bool(flags & FLAG_SYNCHRONISED), uncertainty_us)
    blocks, types = _read_block_heads(reader)
    return Header(priority, kind, anchor, _read_atoms(reader, blocks, kind), blocks), types


def _read_block_heads(reader: Reader) -> tuple[tuple[BlockHeader, ...], list[list[ValueType]]]:
    count = reader.varint(BLOCKS_MAX, "number of blocks")
    blocks: list[BlockHeader] = []
    types: list[list[ValueType]] = []
    cells = rows = 0
    for _ in range(count):
        set_id = int.from_bytes(reader.take(8), "big")
        ticks = reader.varint(MESSAGE_CELLS_MAX, "ticks")
        packed = reader.varint(SERIES_PER_SET_MAX << 1 | 1, "columns")
        columns = packed >> 1
        cells += ticks * columns
        rows += columns
        if cells > MESSAGE_CELLS_MAX:
            raise SegmentCorrupt(f"{cells} cells claimed, {MESSAGE_CELLS_MAX} are allowed")
        if not columns or rows > reader.end - reader.at:
            raise SegmentCorrupt(f"{rows} columns claimed, each takes a byte and {reader.end - reader.at} are left")
        if blocks and set_id <= blocks[-1].set_id:
            raise SegmentCorrupt(f"set {set_id:016x} after {blocks[-1].set_id:016x}")
        blocks.append(BlockHeader(set_id, ticks, columns, StampUnit(packed & 1)))
        types.append(_read_types(reader, columns))
    return tuple(blocks), types


def _read_types(reader: Reader, columns: int) -> list[ValueType]:
    types: list[ValueType] = []
    while len(types) < columns:
        run = reader.varint(SERIES_PER_SET_MAX << 2 | 3, "value types")
        if not 1 <= run >> 2 <= columns - len(types):
            raise SegmentCorrupt(f"{run >> 2} value types, {columns - len(types)} columns are left")
        if run & 3 == 3:
            raise UnsupportedFormat("value type 3")
        types += [ValueType(run & 3)] * (run >> 2)
    return types


def _read_atoms(reader: Reader, blocks: tuple[BlockHeader, ...], kind: Kind) -> tuple[AtomRef, ...]:
    count = reader.varint(ATOMS_MAX, "number of atoms")
    if count * len(blocks) > TICKS_ENTRIES_MAX:
        raise SegmentCorrupt(f"{count} atoms of {len(blocks)} blocks, over {TICKS_ENTRIES_MAX} entries")
    atoms: list[AtomRef] = []
    at = reader.varint(SEQ_MAX, "first Seq") if count else 0
    while len(atoms) < count:
        repeats = reader.varint(count - len(atoms), "atoms in a run")
        gap = reader.varint(SEQ_MAX, "gap")
        rest = (
            -reader.varint(MESSAGE_CELLS_MAX, "absent cells")
            if kind is Kind.RAW
            else reader.varint(SEQ_MAX, "more Seq")
        )
        ticks = tuple([reader.varint(MESSAGE_CELLS_MAX, "ticks of an atom") for _ in blocks])
        taken = sum(n * block.columns for n, block in zip(ticks, blocks)) + rest
        if repeats < 1 or taken < 1 or at + repeats * (gap + taken) > SEQ_MAX:
            raise SegmentCorrupt(f"a run of {repeats} atoms with {taken} cells each after Seq {at}")
        for _ in range(repeats):
            atoms.append(AtomRef(at + gap, taken, ticks))
            at += gap + taken
    for index, block in enumerate(blocks):
        ticks_told = sum(atom.ticks[index] for atom in atoms)
        if ticks_told != block.ticks:
            raise SegmentCorrupt(
                f"the atoms have {ticks_told} ticks of set {block.set_id:016x}, the block {block.ticks}"
            )
    return tuple(atoms)


def _check_stamps(block: Block) -> None:
    if not block.ticks:
        return
    limit = TIME_US_MAX // block.stamp_unit.us
    low, high = int(block.stamps.min()), int(block.stamps.max())
    if low < -limit or high > limit:
        raise SegmentCorrupt(
            f"stamps {low}..{high} of set {block.set_id:016x} are over {limit} {block.stamp_unit.name}"
        )


def check_counts(header: Header, planes: list[NDArray[np.uint8] | None]) -> None:
    """The ABSENT cells in each atom's ticks must be as many as its count leaves out. planes: states of each block.

    The count of a roll-up is that of other readings: its own cells say nothing of it.
    """
    if header.kind is not Kind.RAW:
        return
    absent = np.zeros(len(header.atoms), np.int64)
    for index, states in enumerate(planes):
        if states is not None:
            ends = np.cumsum([0, *(atom.ticks[index] for atom in header.atoms)])
            missing = np.cumsum(np.concatenate(([0], (states == CellState.ABSENT).sum(axis=0))))
            absent += np.diff(missing[ends])
    for atom, found in zip(header.atoms, absent.tolist()):
        grid = sum(n * block.columns for n, block in zip(atom.ticks, header.blocks))
        if grid - found != atom.count:
            raise SegmentCorrupt(f"atom at {atom.first} has {grid - found} cells, its head says {atom.count}")
