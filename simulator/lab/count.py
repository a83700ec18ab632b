"""The checker: what simulated chips gave out and the journal holds, against what the cloud returns.

A cycle is one read of one sensor: a tuple of raw values, distinct from every other of that sensor. Readings are
counted one per value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Cycle = tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """Readings. `lost` and `doubled` must be 0, `foreign` too: what the cloud has and no sensor ever gave."""

    taken: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    in_flight: int = 0  # given out when an agent was killed, and not in its journal

    def __add__(self, other: Count) -> Count:
        return Count(
            self.taken + other.taken,
            self.stored + other.stored,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.foreign + other.foreign,
            self.in_flight + other.in_flight,
        )

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing doubled, nothing invented, and anything at all."""
        return self.taken > 0 and not (self.lost or self.doubled or self.foreign)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run showed. Bytes are those of the gateways' sockets, both ways, handshakes included."""

    count: Count
    wire_bytes_per_reading: float
    handshakes: int
    seconds: float
    anomaly_delay_s: float | None  # from the fault until the cloud told of it; None: it did not
    false_alarms: int  # before the fault
    ota_good_active: bool = False
    ota_bad_refused: bool = False
    ota_reasons: Mapping[str, str] = field(default_factory=dict)  # why the bad ones do not run

    @property
    def holds(self) -> bool:
        """The counts do, the fault was found, and nothing else; the better model runs, the bad ones do not."""
        return self.count.holds and self.alarms_hold and self.ota_good_active and self.ota_bad_refused

    @property
    def alarms_hold(self) -> bool:
        """The fault was found, and nothing else."""
        return self.anomaly_delay_s is not None and not self.false_alarms

    def document(self) -> dict[str, Any]:
        """Stable keys."""
        return {
            "taken": self.count.taken,
            "stored": self.count.stored,
            "lost": self.count.lost,
            "doubled": self.count.doubled,
            "in_flight": self.count.in_flight,
            "wire_bytes_per_reading": round(self.wire_bytes_per_reading, 3),
            "seconds": round(self.seconds, 1),
            "anomaly_delay_s": None if self.anomaly_delay_s is None else round(self.anomaly_delay_s, 2),
            "false_alarms": self.false_alarms,
            "ota_good_active": self.ota_good_active,
            "ota_bad_refused": self.ota_bad_refused,
            "ota_reasons": dict(self.ota_reasons),
        }


def count(
    given: Sequence[Cycle],
    later: Collection[Cycle],
    journalled: Collection[Cycle],
    in_flight: Collection[Cycle],
    stored: Sequence[Cycle],
) -> Count:
    """Compare one sensor's cycles.

    given: handed out by the sensor before the journal was looked at; later: handed out after, which may be stored.
    journalled: all that the journal has held. in_flight: handed out and not journalled when an agent was killed;
    any other cycle that was given and never journalled is lost. stored: what the cloud returns, each row once.
    """
    width = max((len(cycle) for cycle in given), default=0)
    known = set(journalled)
    taken = {cycle for cycle in given if cycle in known}
    dropped = {cycle for cycle in given if cycle not in known}
    rows = Counter(stored)
    return Count(
        taken=len(taken) * width,
        stored=len(taken & rows.keys()) * width,
        lost=(len(taken - rows.keys()) + len(dropped - set(in_flight))) * width,
        doubled=sum(number - 1 for number in rows.values()) * width,
        foreign=len(rows.keys() - set(given) - set(later)) * width,
        in_flight=len(dropped & set(in_flight)) * width,
    )
