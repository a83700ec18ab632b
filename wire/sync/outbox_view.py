"""What the gateway's half of the protocol needs of an outbox: a port, so that the machine runs without a disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from wire.alarm import Alarm, AlarmKey
from wire.ranges import RangeSet
from wire.reading import Priority, Tombstone
from wire.series import SeriesSet
from wire.sync.frames import EpochOffer


@dataclass(frozen=True, slots=True)
class StoredAtom:
    """A committed atom, as encoded (a segment with exactly one AtomRef)."""

    epoch: int
    first: int
    count: int
    priority: Priority
    data: bytes

    @property
    def end(self) -> int:
        """One past its last Seq."""
        return self.first + self.count


class OutboxView(Protocol):
    """The outbox as the sync machine sees it. All calls are quick; writes may become durable later.

    A delete that is lost in a crash is harmless: the cloud answers the second offer with its coverage.
    """

    def generation_seen(self) -> int:
        """The cloud generation last adopted; 0 before the first."""
        ...

    def offers(self) -> list[EpochOffer]:
        """Epochs, oldest first, the current one last: every one with something to send, and recent drained ones, which
        offer nothing. At most `wire.sync.frames.EPOCHS_MAX`."""
        ...

    def next_seq(self) -> int:
        """Of the current epoch: the next Seq to be given, committed atoms only."""
        ...

    def pending(
        self, epoch: int, start: int, end: int, priority: Priority | None, exclude: RangeSet, bytes_max: int
    ) -> list[StoredAtom]:
        """Atoms of `epoch` with start <= first < end, of `priority` (None: any), not in `exclude`, in Seq order.

        Stops before the atom that would pass `bytes_max`, but returns at least one if there is any.
        """
        ...

    def acked(self, epoch: int, ranges: RangeSet) -> None:
        """Durable in the cloud: delete every atom that lies wholly in `ranges`."""
        ...

    def set_aside(self, epoch: int, first: int, reason: str) -> None:
        """The cloud refuses this atom as it is: keep its bytes apart, leave a CORRUPT tombstone, offer it no more."""
        ...

    def tombstones(self, limit: int) -> list[Tombstone]:
        """Not yet acknowledged ones, oldest first."""
        ...

    def tombstones_acked(self, keys: Iterable[tuple[int, int, int, int]]) -> None:
        """The cloud has recorded them."""
        ...

    def alarms(self, limit: int) -> list[tuple[int, Alarm]]:
        """Changes of alarms not yet acknowledged, each with its epoch, oldest first."""
        ...

    def alarms_acked(self, keys: Iterable[AlarmKey]) -> None:
        """The cloud has recorded them."""
        ...

    def series_sets(self, ids: Iterable[int]) -> list[SeriesSet]:
        """Definitions by content hash; unknown ids are left out."""
        ...

    def series_sets_in_use(self) -> Sequence[int]:
        """Sets of the running config."""
        ...

    def adopt_generation(self, generation: int, gone: Iterable[tuple[int, RangeSet]]) -> None:
        """Remember the cloud's generation and leave CLOUD_RESTORED tombstones for what is nowhere any more."""
        ...

    def begin_epoch(self, covered: RangeSet) -> None:
        """The cloud's coverage of the current epoch exceeds `next_seq`: numbers were used twice.

        Start a new epoch; atoms that this process committed are renumbered into it, so none of them is taken for
        the ones the cloud has under the same numbers. The stream is reopened afterwards.
        """
        ...
