"""Alarms: raised, grown and cleared, with the same id however often a replay finds them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

NEVER = -(1 << 62)  # microseconds; a stamp that is none: stamps from before a reboot may be negative
AlarmKey = tuple[int, int, int]  # id, phase, stamp_us


class Phase(IntEnum):
    """Where an alarm is in its life."""

    RAISED = 1
    GREW = 2  # the same alarm, a larger score
    CLEARED = 3


class Severity(IntEnum):
    """How much an alarm matters to people, as the configuration says."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Alarm:
    """One change of one alarm. Values are in the channel's unit; stamps are boot-relative microseconds, negative when
    before this boot.

    `low` and `high` are what was expected: the range that the model or rule takes as normal; None = open.
    `score` and `threshold` are the model's; for a rule, the value's excess and the bound.
    """

    id: int
    series: str
    rule: str
    phase: Phase
    onset_us: int
    stamp_us: int
    score: float
    threshold: float
    value: float | None
    expected: float | None
    low: float | None
    high: float | None
    unit: str
    severity: Severity = Severity.WARNING

    @property
    def key(self) -> AlarmKey:
        """What makes this change one: sent twice, it is stored once."""
        return self.id, int(self.phase), self.stamp_us

    @property
    def cause(self) -> str:
        """One line for people."""
        if self.value is None:
            return f"{self.series}: {self.rule}, no value"
        span = _span(self.low, self.high, self.unit)
        near = f", nearest known {self.expected:.6g}" if self.expected is not None else ""
        return f"{self.series}: {self.value:.6g} {self.unit}, expected {span}{near} ({self.rule}, {self.score:.3g})"


def alarm_id(boot: int, series: str, rule: str, onset_us: int) -> int:
    """63 bits over what makes an alarm: the boot its stamps count from, series, rule and onset."""
    text = f"{boot:016x}\0{series}\0{rule}\0{onset_us}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def _span(low: float | None, high: float | None, unit: str) -> str:
    if low is not None and high is not None:
        return f"{low:.6g} to {high:.6g} {unit}"
    if high is not None:
        return f"at most {high:.6g} {unit}"
    return f"at least {low:.6g} {unit}" if low is not None else "another"
