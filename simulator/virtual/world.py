"""One time for all, and machines whose clocks are wrong."""

from __future__ import annotations

import heapq
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from unittest.mock import patch

from wire.clock import NS_PER_S, SyncState

WALL_START_NS = 1_780_000_000 * NS_PER_S


class World:
    """A queue of events under virtual time, in seconds. Ties go in the order of their making: a seed replays."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()

    def at(self, when: float, event: Callable[[], object]) -> None:
        """Let something happen then, or at once if that is over."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), event))

    def after(self, seconds: float, event: Callable[[], object]) -> None:
        """Let something happen later."""
        self.at(self.now + seconds, event)

    def run(self, until: float, *, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, as far as `until` or until `done` (asked once per virtual second)."""
        asked = self.now
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
            if self.now - asked >= 1.0:
                if done():
                    return
                asked = self.now
        self.now = max(self.now, until)


class Pause:
    """SIGSTOP for the events of one process: what comes meanwhile happens when it goes on, in its order."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._until = 0.0

    def stop(self, seconds: float) -> None:
        """From now on, for some seconds."""
        self._until = self._world.now + seconds

    def go_on(self) -> None:
        """SIGCONT, or a new process."""
        self._until = self._world.now

    def holds(self, event: Callable[[], object]) -> bool:
        """Whether the process stands still; then `event` happens later."""
        if self._world.now >= self._until:
            return False
        self._world.at(self._until, event)
        return True


class MachineClock:
    """A `Clock`. `wall_error_s` is how wrong the wall clock is; it steps when somebody changes it.

    What slews the wall clock slews the boot clock too, as in Linux (adjtimex(2): a frequency, of the one oscillator).
    """

    def __init__(self, world: World, wall_error_s: float = 0.0) -> None:
        self._world = world
        self._booted = world.now - 10.0
        self.wall_error_s = wall_error_s
        self.synchronised = wall_error_s == 0.0
        self._ppm = 0.0
        self._since, self._slewed_s = world.now, 0.0  # how far behind at `since`

    def slew(self, ppm: float) -> None:
        """Both clocks run slower than the world by this from now on."""
        self._slewed_s, self._since = self._behind_s(), self._world.now
        self._ppm = ppm

    def _behind_s(self) -> float:
        return self._slewed_s + (self._world.now - self._since) * self._ppm / 1e6

    def wall_ns(self) -> int:
        """See `Clock`."""
        return WALL_START_NS + round((self._world.now - self._behind_s() + self.wall_error_s) * NS_PER_S)

    def boottime_ns(self) -> int:
        """See `Clock`."""
        return round((self._world.now - self._behind_s() - self._booted) * NS_PER_S)

    def sync_state(self) -> SyncState:
        """See `Clock`."""
        return SyncState(self.synchronised, 500)

    def sleep(self, seconds: float) -> None:
        """Nobody waits in this world: events do."""


@contextmanager
def seeded_entropy(rng: random.Random) -> Iterator[None]:
    """The random ids of the programs come from a seed while the context lasts."""
    with (
        patch.object(secrets, "randbelow", rng.randrange),
        patch.object(secrets, "token_bytes", rng.randbytes),
        patch.object(secrets, "token_hex", lambda size: rng.randbytes(size).hex()),
    ):
        yield
