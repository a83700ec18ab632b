"""The segment: the encoded unit of readings. Committed on a gateway it is an Atom; merged on the wire, a Message.

`docs/formats/segment.md` is the byte table. This file holds the model; `encode` and `decode` are in `wire.codec`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wire.clock import Anchor
from wire.reading import CellState, Kind, Priority
from wire.series import StampUnit

MESSAGE_BYTES_MAX = 256 * 1024
MESSAGE_CELLS_MAX = 1 << 20
SCORE_NONE = 255  # score code of a cell that no detector scored; 0 is quiet


@dataclass(frozen=True, slots=True)
class AtomRef:
    """One atom's place in a segment: Seq first..first+count, and how many ticks of each block are its.

    Of a roll-up `count` is of the readings that it stands for, at least as many as it has cells.
    """

    first: int
    count: int
    ticks: tuple[int, ...]  # one number per block of the segment

    @property
    def end(self) -> int:
        """One past its last Seq."""
        return self.first + self.count


@dataclass(eq=False, slots=True)
class Block:
    """The ticks of one SeriesSet: n stamps shared by k columns.

    stamps: int64 (n,), boot-relative, in the set's unit, atoms one after another, any order within.
    columns: k arrays (n,) of int64, float32 or float64. Cells that are not VALUE hold any value; decode gives what
    encode chose to fill in (0; SCORE_NONE for scores), and comparison must skip them.
    states, quality, scores: uint8 (k, n), or None when all zero (states, quality) or not scored (scores).
    """

    set_id: int
    stamps: NDArray[np.int64]
    columns: list[NDArray[np.generic]]
    states: NDArray[np.uint8] | None = None
    quality: NDArray[np.uint8] | None = None
    scores: NDArray[np.uint8] | None = None
    stamp_unit: StampUnit = StampUnit.MS  # the set's, repeated so that time can be told without the definitions

    @property
    def ticks(self) -> int:
        """n."""
        return len(self.stamps)

    @property
    def cells(self) -> int:
        """How many Seq numbers the block takes."""
        absent = 0 if self.states is None else int(np.count_nonzero(self.states == CellState.ABSENT))
        return self.ticks * len(self.columns) - absent


@dataclass(eq=False, slots=True)
class Segment:
    """One or more atoms of one epoch, class, kind and anchor.

    Seq order within an atom is tick-major: ticks sorted by (stamp in microseconds, set id), stable; cells of a tick
    in column order, ABSENT ones skipped. Blocks are sorted by set id.
    """

    priority: Priority
    kind: Kind
    anchor: Anchor
    atoms: tuple[AtomRef, ...]
    blocks: list[Block] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Seq numbers in all atoms."""
        return sum(atom.count for atom in self.atoms)


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What a header tells of a block before its columns are decoded."""

    set_id: int
    ticks: int
    columns: int
    stamp_unit: StampUnit = StampUnit.MS


@dataclass(frozen=True, slots=True)
class Header:
    """A segment's head, checked against its CRC but not decoded."""

    priority: Priority
    kind: Kind
    anchor: Anchor
    atoms: tuple[AtomRef, ...]
    blocks: tuple[BlockHeader, ...]

    @property
    def count(self) -> int:
        """Seq numbers in all atoms."""
        return sum(atom.count for atom in self.atoms)
