"""What a start decides: is this the same boot of the same machine, what was lost meanwhile, which epoch goes on.

A new epoch is minted whenever numbers might be in the cloud that this file does not know of: at every boot (a card may
have lied about fsync), on another machine (a cloned card), after salvage, when the file is older than the ring says,
and when this boot's ring is gone, because then nothing tells whether the file is older. An agent restart within a boot
that finds its ring goes on with its epoch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from edge_agent.errors import OutboxCorrupt
from edge_agent.outbox.checkup import fault_of_atoms, fault_of_tables
from edge_agent.outbox.journal import RingHead
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.rows import EpochRow
from edge_agent.outbox.texts import new_id
from wire.reading import LossReason, Tombstone

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Instance:
    """Where this process runs. `boot` is a hash of `boot_id`, as journal records carry it."""

    boot_id: str
    boot: int
    machine_id: str


def begin(
    outbox: Outbox, instance: Instance, ring: RingHead | None, options: OutboxOptions, *, salvaged: bool, checked: bool
) -> None:
    """Bring the outbox to a state that new Seq numbers may be given from, in one fsynced transaction.

    Args:
        ring: head of the journal that is there, whoever wrote it.
        salvaged: the file was rebuilt from a damaged one.
        checked: the file is small enough to look for holes in it.

    Raises:
        OutboxCorrupt: a row is damaged.
    """
    with outbox.database.transaction():
        if fault := fault_of_tables(outbox.database.connection) or (checked and fault_of_atoms(outbox)):
            raise OutboxCorrupt(f"{outbox.database.path}: {fault}")
        if outbox.meta("outbox") is None:
            _first(outbox, instance, ring if salvaged else None)
        else:
            _again(outbox, instance, ring, options, salvaged=salvaged)
        if salvaged or (checked and outbox.meta("clean") != 1):
            _bury_holes(outbox, LossReason.CORRUPT if salvaged else LossReason.HOLE)
        generation = outbox.meta("generation") or 0  # none: a bit flipped in its name
        outbox.set_meta(generation=generation, machine=instance.machine_id, boot=instance.boot_id, clean=0)


def _first(outbox: Outbox, instance: Instance, ring: RingHead | None) -> None:
    """A file without an identity: a new outbox, or a salvaged one whose name only this boot's `ring` still knows."""
    ours = ring is not None and ring.boot == instance.boot
    outbox.set_meta(outbox=ring.outbox if ours and ring else new_id(), generation=0)
    epochs = outbox.epochs()
    outbox.mint(epochs[-1] if epochs else None, certain=False, journal_lsn=ring.committed if ours and ring else 0)


def _again(
    outbox: Outbox, instance: Instance, ring: RingHead | None, options: OutboxOptions, *, salvaged: bool
) -> None:
    same_machine = outbox.meta("machine") == instance.machine_id
    same_boot = same_machine and outbox.meta("boot") == instance.boot_id
    ring_is_ours = ring is not None and ring.outbox == outbox.meta("outbox") and ring.boot == instance.boot
    epochs = outbox.epochs()
    last = epochs[-1] if epochs else outbox.mint(None)
    behind = ring.committed - last.journal_lsn if ring and ring_is_ours else 0
    if not same_machine:
        log.warning("another machine: this outbox was copied; a new epoch begins and what waits here is sent as it was")
    elif outbox.meta("clean") != 1 and not (same_boot and ring_is_ours):
        _note_power_cut(outbox, last, options)
    if behind > 0:
        log.error("the outbox is older than the journal: %d committed ticks are not in it; a new epoch begins", behind)
        outbox.add_tombstone(Tombstone(last.epoch, last.next_seq, last.next_seq, LossReason.CORRUPT, behind))
    if salvaged or not same_boot or not ring_is_ours or behind > 0:
        lsn = ring.committed if ring and ring_is_ours else last.journal_lsn
        sure = not salvaged and behind <= 0 and (ring_is_ours or not same_boot)
        outbox.mint(last, certain=sure, journal_lsn=max(lsn, last.journal_lsn))


def _note_power_cut(outbox: Outbox, last: EpochRow, options: OutboxOptions) -> None:
    """The ring is gone, and with it up to one commit interval: how much it held is an estimate."""
    count = round(last.rate * options.commit_interval_s)
    if count:
        log.warning("power cut or lost journal: up to %.1f s, about %d readings", options.commit_interval_s, count)
        outbox.add_tombstone(Tombstone(last.epoch, last.next_seq, last.next_seq, LossReason.POWER_CUT, count))


def _bury_holes(outbox: Outbox, reason: LossReason) -> None:
    """Seq numbers that were given, are not settled and are in no atom: say that they are gone."""
    for row in outbox.epochs():
        unsettled = outbox.unsettled(row)
        if not unsettled:
            continue
        holes = unsettled - outbox.held(row)
        for first, end in holes:
            outbox.add_tombstone(Tombstone(row.epoch, first, end, reason, end - first))
        if holes:
            log.error("epoch %016x: %d readings are gone from the outbox (%s)", row.epoch, holes.count, reason.name)
        outbox.settle(row.number, holes)
