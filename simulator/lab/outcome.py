"""What one trial found, and what all of them did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Plant(StrEnum):
    """Mistakes that can be planted to see that the lab finds them."""

    ACK_BEFORE_COMMIT = "ack-before-commit"  # the cloud acknowledges what it has not stored yet
    DELETE_ON_SEND = "delete-on-send"  # the gateway deletes what it has handed to the network


@dataclass(frozen=True, slots=True)
class TrialResult:
    """Counts of values, except `tombstoned`, of cells (a gap is one). `broken`: what does not hold, in words.

    Lost and doubled values are always among it.
    """

    seed: int
    faults: tuple[str, ...]  # kinds that were drawn
    taken: int
    stored: int  # of those taken
    tombstoned: int
    excused: int  # lost in a power cut, within the window that the agent prints
    lost: int
    doubled: int
    broken: tuple[str, ...] = ()
    story: tuple[str, ...] = ()  # what happened when
    rolled_up: int = 0  # values given up that a roll-up tells of

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing doubled, nothing else wrong."""
        return not self.broken


@dataclass(frozen=True, slots=True)
class Score:
    """One row of the board."""

    system: str
    method: str
    trials: int
    taken: int
    stored: int
    tombstoned: int
    excused: int
    lost: int
    doubled: int
    failed_seeds: tuple[int, ...]
    faults: dict[str, int]  # trials by kind of fault

    @property
    def holds(self) -> bool:
        """As one trial's."""
        return self.trials > 0 and not (self.lost or self.doubled or self.failed_seeds)


def score(system: str, method: str, results: Iterable[TrialResult]) -> Score:
    """Sums."""
    found = list(results)
    kinds = sorted({kind for result in found for kind in result.faults})
    return Score(
        system=system,
        method=method,
        trials=len(found),
        taken=sum(result.taken for result in found),
        stored=sum(result.stored for result in found),
        tombstoned=sum(result.tombstoned for result in found),
        excused=sum(result.excused for result in found),
        lost=sum(result.lost for result in found),
        doubled=sum(result.doubled for result in found),
        failed_seeds=tuple(sorted(result.seed for result in found if not result.holds)),
        faults={kind: sum(kind in result.faults for result in found) for kind in kinds},
    )
