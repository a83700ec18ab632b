"""Atoms into messages and back: building one atom from ticks, the union of whole atoms, and its exact inverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wire.clock import Anchor
from wire.codec import ATOMS_MAX, BLOCKS_MAX, TICKS_ENTRIES_MAX
from wire.errors import MergeRefused
from wire.reading import CellState, Kind, Priority, Tick
from wire.segment import MESSAGE_CELLS_MAX, SCORE_NONE, AtomRef, Block, Segment
from wire.series import DTYPES, SeriesSet, ValueType

U8 = NDArray[np.uint8]


def segment_of(
    ticks: Sequence[Tick],
    sets: Mapping[int, SeriesSet],
    first_seq: int,
    priority: Priority,
    anchor: Anchor,
    *,
    scores: Sequence[bytes | None] | None = None,
) -> Segment:
    """One atom of all ticks, in Seq order from `first_seq` on (see `Segment`). `count` says where the next begins.

    scores: one entry per tick: a code per cell, or None where the tick was not scored.

    Raises:
        ValueError: a tick does not fit its set, or a raw value its type.
    """
    by_set: dict[int, list[int]] = {}
    for place, tick in enumerate(ticks):
        by_set.setdefault(tick.set_id, []).append(place)
    blocks = []
    for set_id in sorted(by_set):
        places = sorted(by_set[set_id], key=lambda place: ticks[place].stamp)
        codes = None if scores is None else [scores[place] for place in places]
        blocks.append(_block(sets[set_id], [ticks[place] for place in places], codes))
    count = sum(block.cells for block in blocks)
    atoms = (AtomRef(first_seq, count, tuple(block.ticks for block in blocks)),) if count else ()
    return Segment(priority, Kind.RAW, anchor, atoms, blocks if count else [])


def merge(segments: Sequence[Segment]) -> Segment:
    """The union of whole atoms, sorted by first Seq, with the blocks of one set joined.

    Raises:
        MergeRefused: they differ in class, kind or anchor, their ranges overlap, their blocks of one set differ in
            form, or together they are over MESSAGE_CELLS_MAX, ATOMS_MAX or BLOCKS_MAX.
    """
    if not segments:
        raise MergeRefused("nothing to merge")
    head = segments[0]
    for other in segments[1:]:
        if (other.priority, other.kind, other.anchor) != (head.priority, head.kind, head.anchor):
            raise MergeRefused("atoms of another class, kind or anchor")
    parts = [segment for segment in segments if segment.atoms]
    parts.sort(key=lambda segment: segment.atoms[0].first)
    if any(a.atoms[-1].end > b.atoms[0].first for a, b in pairwise(parts)):
        parts = [atom for segment in parts for atom in recut(segment)]
        parts.sort(key=lambda segment: segment.atoms[0].first)
    _check(parts)
    set_ids = sorted({block.set_id for part in parts for block in part.blocks})
    atoms: list[AtomRef] = []
    joined: dict[int, list[Block]] = {set_id: [] for set_id in set_ids}
    for part in parts:
        for block in part.blocks:
            joined[block.set_id].append(block)
        own = [block.set_id for block in part.blocks]
        if own == set_ids:
            atoms += part.atoms
        else:
            places = [own.index(set_id) if set_id in own else -1 for set_id in set_ids]
            for atom in part.atoms:
                ticks = tuple([atom.ticks[place] if place >= 0 else 0 for place in places])
                atoms.append(AtomRef(atom.first, atom.count, ticks))
    return Segment(head.priority, head.kind, head.anchor, tuple(atoms), [_join(joined[set_id]) for set_id in set_ids])


def recut(segment: Segment) -> list[Segment]:
    """One segment per atom: the exact inverse of `merge`."""
    starts = [0] * len(segment.blocks)
    parts = []
    for atom in segment.atoms:
        blocks, ticks = [], []
        for index, (block, length) in enumerate(zip(segment.blocks, atom.ticks)):
            if length:
                blocks.append(_cut(block, starts[index], starts[index] + length))
                ticks.append(length)
                starts[index] += length
        parts.append(
            Segment(
                segment.priority,
                segment.kind,
                segment.anchor,
                (AtomRef(atom.first, atom.count, tuple(ticks)),),
                blocks,
            )
        )
    return parts


def _block(series_set: SeriesSet, ticks: list[Tick], scores: list[bytes | None] | None) -> Block:
    columns = len(series_set.series)
    for tick in ticks:
        if len(tick.raw) != columns:
            raise ValueError(f"a tick of {len(tick.raw)} cells for set {series_set.id:016x} of {columns} series")
    stamps = np.array([tick.stamp for tick in ticks], np.int64)
    rows = [tick.raw for tick in ticks]
    types = series_set.value_types
    values: list[NDArray[np.generic]]
    try:
        if all(value_type is ValueType.INT for value_type in types):
            values = list(np.ascontiguousarray(np.array(rows, np.int64).T))
        else:
            values = [np.array(column, DTYPES[kind]) for column, kind in zip(zip(*rows), types)]
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"a raw value does not fit its type in set {series_set.id:016x}: {error}") from error
    return Block(
        set_id=series_set.id,
        stamps=stamps,
        columns=values,
        states=_plane([tick.states for tick in ticks], columns, 0),
        quality=_plane([tick.quality for tick in ticks], columns, 0),
        scores=None if scores is None else _plane(scores, columns, SCORE_NONE),
        stamp_unit=series_set.stamp_unit,
    )


def _plane(rows: Sequence[bytes | None], columns: int, missing: int) -> U8 | None:
    """(k, n) from n rows of k bytes; None when every row is None."""
    if all(row is None for row in rows):
        return None
    blank = bytes((missing,)) * columns
    flat = np.frombuffer(b"".join([blank if row is None else row for row in rows]), np.uint8)
    if len(flat) != len(rows) * columns:
        raise ValueError(f"{len(flat)} states, doubts or scores for {len(rows)} ticks of {columns} cells")
    return np.ascontiguousarray(flat.reshape(len(rows), columns).T)


def _check(parts: list[Segment]) -> None:
    for a, b in pairwise(parts):
        if a.atoms[-1].end > b.atoms[0].first:
            raise MergeRefused(f"atom {b.atoms[0].first} begins before {a.atoms[-1].end}, where another ends")
    cells = sum(block.ticks * len(block.columns) for part in parts for block in part.blocks)
    if cells > MESSAGE_CELLS_MAX:
        raise MergeRefused(f"{cells} cells together, over {MESSAGE_CELLS_MAX}")
    atoms = sum(len(part.atoms) for part in parts)
    sets = len({block.set_id for part in parts for block in part.blocks})
    if atoms > ATOMS_MAX or sets > BLOCKS_MAX or atoms * sets > TICKS_ENTRIES_MAX:
        raise MergeRefused(f"{atoms} atoms of {sets} blocks together, over {ATOMS_MAX} atoms or {BLOCKS_MAX} blocks")


def _join(blocks: list[Block]) -> Block:
    head = blocks[0]
    if len(blocks) == 1:
        return head
    form = [column.dtype for column in head.columns]
    for block in blocks[1:]:
        if block.stamp_unit != head.stamp_unit or [column.dtype for column in block.columns] != form:
            raise MergeRefused(f"blocks of set {head.set_id:016x} differ in stamp unit, columns or value types")
    return Block(
        set_id=head.set_id,
        stamps=np.concatenate([block.stamps for block in blocks]),
        columns=[np.concatenate(column) for column in zip(*(block.columns for block in blocks))],
        states=_join_planes([block.states for block in blocks], blocks, 0),
        quality=_join_planes([block.quality for block in blocks], blocks, 0),
        scores=_join_planes([block.scores for block in blocks], blocks, SCORE_NONE),
        stamp_unit=head.stamp_unit,
    )


def _join_planes(planes: list[U8 | None], blocks: list[Block], missing: int) -> U8 | None:
    if all(plane is None for plane in planes):
        return None
    shapes = [(len(block.columns), block.ticks) for block in blocks]
    return np.concatenate(
        [np.full(shape, missing, np.uint8) if plane is None else plane for plane, shape in zip(planes, shapes)], axis=1
    )


def _cut(block: Block, start: int, end: int) -> Block:
    def plane(whole: U8 | None, missing: int) -> U8 | None:
        if whole is None:
            return None
        part = whole[:, start:end]
        return None if (part == missing).all() else np.ascontiguousarray(part)

    return Block(
        set_id=block.set_id,
        stamps=block.stamps[start:end],
        columns=[column[start:end] for column in block.columns],
        states=plane(block.states, CellState.VALUE),
        quality=plane(block.quality, 0),
        scores=plane(block.scores, SCORE_NONE),
        stamp_unit=block.stamp_unit,
    )
