"""How long the gateway can stay offline at the present rate, before readings are given up."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from edge_agent.outbox.stats import OutboxStats
from wire.clock import NS_PER_S, Clock

SPACING_S = 10.0  # between two samples
SAMPLES = 61  # ten minutes: long enough for what is sampled once a minute
AGE_S_MIN = 20.0  # below it a rate says nothing


class Autonomy:
    """`look` now and then; the rate is that of the last ten minutes, or since the start."""

    def __init__(self, state_dir: Path, clock: Clock) -> None:
        self._state_dir = state_dir
        self._clock = clock
        self._samples: deque[tuple[int, int]] = deque(maxlen=SAMPLES)  # when, bytes grown

    def look(self, stats: OutboxStats) -> None:
        """Take a sample if it is time."""
        now_ns = self._clock.boottime_ns()
        if not self._samples or now_ns - self._samples[-1][0] >= SPACING_S * NS_PER_S:
            self._samples.append((now_ns, stats.grown_bytes))

    def seconds(self, stats: OutboxStats) -> float | None:
        """None while nothing is taken, or too little is known of the rate. Bounded by the budget and by the disk."""
        if not self._samples:
            return None
        then_ns, grown = self._samples[0]
        age_s = (self._clock.boottime_ns() - then_ns) / NS_PER_S
        if age_s < AGE_S_MIN or stats.grown_bytes <= grown:
            return None
        return self._room(stats) * age_s / (stats.grown_bytes - grown)

    def _room(self, stats: OutboxStats) -> int:
        room = stats.disk_bytes_max - stats.used_bytes + stats.history_bytes  # the history goes first
        with suppress(OSError):
            disk = os.statvfs(self._state_dir)
            room = min(room, disk.f_bavail * disk.f_frsize + stats.disk_bytes - stats.used_bytes + stats.history_bytes)
        return max(0, room)
