"""What can be chosen about the journal and the outbox."""

from __future__ import annotations

import math
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OutboxOptions:
    """Sizes in bytes, times in seconds. The defaults suit 50 channels at 10 Hz on an SD card."""

    commit_interval_s: float = 5.0  # what a power cut may cost
    alarm_interval_s: float = 1.0  # alarms commit at once, but not more often than this
    alarm_context_s: float = 60.0  # before and after an alarm that the budget spares: the row of a roll-up on each side
    journal_bytes: int = 4 * MIB  # RAM: how much may be taken while the disk is full
    bytes_max: int = 1024 * MIB  # budget of database, WAL and reserve together
    thins: bool = True  # under pressure the oldest readings become roll-ups before they go
    floor_bytes: int = 0  # what the outbox leaves free on the disk; of a small disk at most a twentieth
    history_bytes: int = 0  # of acknowledged atoms that stay here; 0: they go with their acknowledgement
    history_age_s: float = math.inf  # by boottime, after which they go
    wal_bytes: int = 2 * MIB  # length that the WAL is grown to at the start, so that acks commit on a full disk
    check_bytes_max: int = 64 * MIB  # a larger file is not read whole at the start (64 MiB: about 3 s from a card)

    def __post_init__(self) -> None:
        for name, low in (("journal_bytes", 64 * KIB), ("bytes_max", 3 * self.wal_bytes), ("wal_bytes", 256 * KIB)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} {getattr(self, name)} is under {low} bytes")
        if not 0 < self.alarm_interval_s <= self.commit_interval_s:
            raise ValueError(
                f"commit_interval_s {self.commit_interval_s} and alarm_interval_s {self.alarm_interval_s}: "
                "both over 0, the alarms' not the longer one"
            )
