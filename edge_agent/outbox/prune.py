"""Deleting by hand what no promise holds: history, refused atoms, the copy of a damaged outbox. Never what is owed."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.outbox.history import trim
from edge_agent.outbox.outbox import Outbox

ATOMS_MAX = 1024  # in one transaction, so that a running agent's commit waits for no more than that


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall go. `history_bytes_max`: so much of the history stays; None: all of it."""

    history_bytes_max: int | None = None
    set_aside: bool = False
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went, in atoms. `more`: ask again, the history is not where it shall be."""

    history: int
    set_aside: int
    damaged: bool
    more: bool


def prune(outbox: Outbox, wish: Wish) -> Pruned:
    """One transaction's worth. Freed pages are used again; the file does not shrink.

    Raises:
        OutboxFull, OutboxCorrupt, StateUnusable, StateBusy: as `Database.transaction`.
    """
    history = set_aside = 0
    with outbox.database.transaction() as connection:
        if wish.history_bytes_max is not None:
            history = trim(outbox, wish.history_bytes_max, float("-inf"), ATOMS_MAX)
        if wish.set_aside:
            set_aside = connection.execute("DELETE FROM aside").rowcount
    damaged = wish.damaged and outbox.database.drop_damaged()
    return Pruned(history, set_aside, damaged, history == ATOMS_MAX)
