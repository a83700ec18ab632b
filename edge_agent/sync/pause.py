"""`edge-agent sync pause`: until `resume`, or for a stated time; it outlives restarts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from wire.clock import NS_PER_S, NS_PER_US


@dataclass(frozen=True, slots=True)
class Pause:
    """`lasts_s` None: until somebody resumes. The end is known by both clocks: boottime rules within its boot."""

    boot: str
    began_ns: int  # boottime
    lasts_s: float | None
    ends_wall_us: int | None  # by a trusted clock; None: there was none
    alarms: bool  # alarms wait too

    def left_s(self, boot: str, boottime_ns: int, utc: datetime | None) -> float | None:
        """Seconds until it ends, 0 or less when it has; None: no end.

        In another boot with no trusted clock it begins anew: rather too long than too short.
        """
        if self.lasts_s is None:
            return None
        if boot == self.boot:
            return self.lasts_s - (boottime_ns - self.began_ns) / NS_PER_S
        if utc is not None and self.ends_wall_us is not None:
            return self.ends_wall_us / 1e6 - utc.timestamp()
        return self.lasts_s - boottime_ns / NS_PER_S

    def record(self) -> bytes:
        """What to keep."""
        return json.dumps(asdict(self)).encode()


def pause_of(kept: bytes | None) -> Pause | None:
    """Inverse of `record`; what is none of it is no pause."""
    if not kept:
        return None
    try:
        return Pause(**json.loads(kept))
    except (ValueError, TypeError):
        return None


def new_pause(boot: str, boottime_ns: int, utc: datetime | None, lasts_s: float | None, *, alarms: bool) -> Pause:
    """One that begins now."""
    ends = None
    if lasts_s is not None and utc is not None:
        ends = round((utc.timestamp() + lasts_s) * NS_PER_S) // NS_PER_US
    return Pause(boot, boottime_ns, lasts_s, ends, alarms)
