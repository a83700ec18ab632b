"""A new epoch in the middle of a boot, because the cloud has numbers that this outbox was about to give."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.pins import pin_as
from wire.codec import decode, encode
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone


def begin_epoch(outbox: Outbox, opened_at: int, covered: RangeSet) -> None:
    """Mint an epoch and move into it every atom of the current one that begins at `opened_at` or later.

    The old epoch ends where the cloud's coverage ends: those numbers were given out by a state of this outbox that is
    gone. What of them the cloud does not have is lost, and a HOLE tombstone says so; numbers over them were this
    process' own and now belong to nothing: a HOLE that counts 0, because the cloud may have been told of them. For a
    transaction.
    """
    old = outbox.current()
    new = outbox.mint(old, certain=False, journal_lsn=old.journal_lsn)
    next_seq = 0
    for atom in outbox.atoms_from(old, opened_at):
        segment = decode(atom.data)
        ref = replace(segment.atoms[0], first=next_seq)
        data = encode(replace(segment, atoms=(ref,)))
        moved = replace(atom, first=next_seq, data=data)
        outbox.add_atom(new, moved)
        if moved.thinned:
            stone = Tombstone(new.epoch, moved.first, moved.end, LossReason.THINNED, moved.count, *moved.span)
            outbox.add_tombstone(stone, instead_of=LossReason.THINNED)
        next_seq += atom.count
    pin_as(outbox, old.number, new.number)
    outbox.remove(old.number, [(opened_at, old.next_seq)])
    outbox.advance(new, next_seq, old.journal_lsn, old.rate, None)
    end = max(old.next_seq, covered.end)
    theirs = RangeSet([(opened_at, covered.end)] if opened_at < covered.end else [])
    for first, last in theirs - covered:
        outbox.add_tombstone(Tombstone(old.epoch, first, last, LossReason.HOLE, last - first))
    over = max(opened_at, covered.end)
    if over < old.next_seq:
        outbox.add_tombstone(Tombstone(old.epoch, over, old.next_seq, LossReason.HOLE, 0))
    outbox.reach(old.number, end, None)
    outbox.settle(old.number, [(opened_at, end)])
