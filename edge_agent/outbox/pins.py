"""What was read around an alarm is pinned: the budget takes it only when nothing else is left (`budget`).

Pinned are windows of time, not atoms: what is committed after the alarm is pinned as it comes, and nothing that is on
the card already is written again. They stand in the outbox as a row of state, and go when nothing that old is owed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable

from edge_agent.outbox.keys import number_of
from edge_agent.outbox.outbox import Outbox
from edge_agent.outbox.slots import slot_size
from edge_agent.outbox.thinning import Row
from wire.clock import US_PER_S
from wire.ranges import SEQ_MAX, RangeSet

log = logging.getLogger(__name__)

PINNED = "alarms/pinned"  # the state's name for the windows
WINDOWS_MAX = 256  # about 11 kB; then the oldest go
BLOB_BYTES_MAX = 64 << 10  # of what is read back


class Pins:
    """Windows in microseconds of boottime, by epoch number."""

    def __init__(self, windows: Iterable[tuple[int, int, int]] = ()) -> None:
        self._by_number: dict[int, RangeSet] = {}
        for number, first_us, end_us in windows:
            self._by_number.setdefault(number, RangeSet()).add(first_us, end_us)

    def holds(self, row: Row) -> bool:
        """Does some of this atom lie in a window?"""
        windows = self._by_number.get(number_of(row[0]))
        return windows is not None and windows.overlaps(row[3], row[4] + 1)

    def windows(self) -> list[tuple[int, int, int]]:
        """Epoch number, first and end, oldest first."""
        return [(number, *each) for number in sorted(self._by_number) for each in self._by_number[number]]


def pinned(outbox: Outbox) -> Pins:
    """All that is pinned; nothing where that cannot be read."""
    return _pins_of(_blob(outbox))


def pin(outbox: Outbox, number: int, moments_us: Iterable[int], context_s: float) -> None:
    """So many seconds before and after each moment of an epoch. For a transaction."""
    context_us = round(context_s * US_PER_S)
    moments = [at for at in moments_us if at >= 0]  # an alarm of an earlier boot may have begun before this one
    if not moments:
        return
    horizon = min(outbox.oldest() or (number, min(moments)), (number, min(moments)))
    windows = [each for each in pinned(outbox).windows() if (each[0], each[2]) > horizon]
    windows += [(number, max(0, at - context_us), min(at + context_us + 1, SEQ_MAX)) for at in moments]
    _keep(outbox, windows)


def pin_as(outbox: Outbox, old: int, new: int) -> None:
    """Atoms of epoch `old` stand in `new` from now on, with their stamps. For a transaction."""
    windows = pinned(outbox).windows()
    moved = [(new, first, end) for number, first, end in windows if number == old]
    if moved:
        _keep(outbox, windows + moved)


def _keep(outbox: Outbox, windows: Iterable[tuple[int, int, int]]) -> None:
    text = json.dumps(Pins(windows).windows()[-WINDOWS_MAX:], separators=(",", ":")).encode()
    outbox.set_state(PINNED, text.ljust(max(slot_size(len(text)), min(len(_blob(outbox)), BLOB_BYTES_MAX))))


def _blob(outbox: Outbox) -> bytes:
    row = outbox.database.connection.execute("SELECT value FROM state WHERE key = ?", (PINNED,)).fetchone()
    return b"[]" if row is None else bytes(row[0])


def _pins_of(blob: bytes) -> Pins:
    try:
        if len(blob) > BLOB_BYTES_MAX:
            raise ValueError(f"{len(blob)} bytes, over {BLOB_BYTES_MAX}")
        found = [(int(number), int(first), int(end)) for number, first, end in json.loads(blob)]
        return Pins(each for each in found if 0 <= each[1] < each[2] <= SEQ_MAX)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        log.warning("what was read around alarms is not known, and is not spared: %s", error)
        return Pins()
