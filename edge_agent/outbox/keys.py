"""One integer names an atom and orders all of them: epoch number, priority class, first Seq.

It is SQLite's rowid, so that atoms need no index: every index costs a page per commit (2.3 to 2.7 times the flash
writes, measured). Atoms of one class of one epoch lie side by side, so that a class is read without passing the others.
"""

from __future__ import annotations

SEQ_BITS = 42  # 20,000 cells a second for seven years of one boot
PRIORITY_BITS = 2
ROLLUP_SLOT = 3  # in the place of a class: what thinning left, of whatever class
SLOTS = (0, 1, 2, ROLLUP_SLOT)
NUMBER_MAX = (1 << 63 - SEQ_BITS - PRIORITY_BITS) - 1  # half a million boots
SEQ_END = 1 << SEQ_BITS


def key(number: int, slot: int, first: int) -> int:
    """The id of the atom of a slot that begins at `first` in the outbox' epoch `number`.

    A slot is a class, or ROLLUP_SLOT. `first` may be SEQ_END: the end of the slot.
    """
    return ((number << PRIORITY_BITS | slot) << SEQ_BITS) + first


def first_of(atom_id: int) -> int:
    """Its first Seq."""
    return atom_id & SEQ_END - 1


def slot_of(atom_id: int) -> int:
    """Its class, or ROLLUP_SLOT."""
    return atom_id >> SEQ_BITS & (1 << PRIORITY_BITS) - 1


def number_of(atom_id: int) -> int:
    """Its epoch's number."""
    return atom_id >> SEQ_BITS + PRIORITY_BITS
