"""Which anchor is in force: the same object until the wall clock steps or is set, so that atoms stay mergeable."""

from __future__ import annotations

from wire.clock import NS_PER_US, Anchor, Clock

# The kernel slews both clocks alike, so their difference moves only when the wall clock is stepped. Below this it is
# the noise of two reads that a busy machine may part.
STEP_US = 10_000
LOOKS = 3
SYNC_LOOK_US = (
    1_000_000  # the kernel is asked so often whether the clock is synchronised; its own doubt grows for hours
)


class AnchorKeeper:
    """Hands out the anchor in force; call it once per hand-over of ticks (about 2 microseconds)."""

    def __init__(self, clock: Clock, last: Anchor | None = None, step_us: int = STEP_US) -> None:
        """`last` is the anchor of this boot's earlier process, kept while it still holds."""
        self._clock = clock
        self._last = last
        self._step_us = step_us
        self._state = clock.sync_state()
        self._asked_us = clock.boottime_ns() // NS_PER_US

    def anchor(self) -> Anchor:
        """The identical object as long as the sync state is the same and the offset moved by at most `step_us`. A step
        is seen at once, another state within SYNC_LOOK_US."""
        boottime_us, wall_us = self._look()
        if boottime_us - self._asked_us >= SYNC_LOOK_US:
            self._state, self._asked_us = self._clock.sync_state(), boottime_us
        last = self._last
        if (
            last is not None
            and last.synchronised == self._state.synchronised
            and abs(wall_us - boottime_us - last.offset_us) <= self._step_us
        ):
            return last
        self._state, self._asked_us = self._clock.sync_state(), boottime_us  # what stepped the clock may have set it
        self._last = Anchor(boottime_us, wall_us, self._state.synchronised, self._state.uncertainty_us)
        return self._last

    def _look(self) -> tuple[int, int]:
        """Both clocks at one moment, microseconds: the wall clock between two reads of the other, closest of a few."""
        clock = self._clock
        best = (1 << 63, 0, 0)
        for _ in range(LOOKS):
            before, wall, after = clock.boottime_ns(), clock.wall_ns(), clock.boottime_ns()
            best = min(best, (after - before, (before + after) // 2, wall))
            if best[0] <= self._step_us * NS_PER_US // 4:
                break
        return best[1] // NS_PER_US, best[2] // NS_PER_US
