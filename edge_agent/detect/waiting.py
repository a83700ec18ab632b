"""What lanes knew before a reboot, while no clock says how long ago that was.

A gateway without a battery clock learns the time some seconds or minutes after its agent has started. Until then its
models calibrate; when the time is known, they go on where they were, or the true gap is too long for them. A lane that
has calibrated meanwhile needs it no more.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.detect import saving
from edge_agent.detect.errors import StateRefused
from edge_agent.detect.lane import Lane
from edge_agent.detect.state import SavedState
from wire.alarm import NEVER
from wire.clock import US_PER_S

Shift = Callable[[SavedState], int | None]


class Waiting:
    """By lane. For one thread at a time."""

    def __init__(self) -> None:
        self._states: dict[Lane, SavedState] = {}

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._states

    def keep(self, lane: Lane, saved: SavedState) -> int:
        """How many rows of `saved` are the lane's; with none it is not kept."""
        rows = len(set(saved.names) & set(saving.group_names(lane)))
        if rows:
            self._states[lane] = saved
        return rows

    def holds(self, saved: SavedState) -> bool:
        """Whether some lane waits for this very state."""
        return any(each is saved for each in self._states.values())

    def alarms(self) -> set[int]:
        """Ids of the alarms that were raised, and are until it is known what became of them."""
        found: set[int] = set()
        for saved in self._states.values():
            ids, onsets = saved.arrays.get("alarm"), saved.arrays.get("onset_us")
            if ids is not None and onsets is not None and ids.shape == onsets.shape:
                found.update(ids[onsets != NEVER].tolist())
        return found

    def drop_calibrated(self) -> None:
        """Forget what lanes that can score again would lose by it."""
        for lane in [lane for lane in self._states if lane.rows_learnt[0] == lane.rows_learnt[1]]:
            del self._states[lane]

    def settle(self, shift_of: Shift, now_us: int) -> list[str]:
        """The time is known: `shift_of` says what to add to a state's stamps, None where clocks contradict each other.
        Nothing waits any more. Returns what was not taken up, and why.
        """
        refused = []
        for lane, saved in self._states.items():
            name, shift_us = lane.runner.rule, shift_of(saved)
            if shift_us is None:
                refused.append(f"{name}: it is of a time that is still to come")
                continue
            gap_s = (now_us - saving.last_us(saved) - shift_us) / US_PER_S
            if gap_s > lane.runner.manifest.max_gap_s:
                refused.append(f"{name}: {gap_s:.0f} s went by, more than its {lane.runner.manifest.max_gap_s:g} s")
                continue
            try:
                saving.restore(lane, saved, shift_us)
            except StateRefused as error:
                refused.append(f"{name}: {error}")
        self._states.clear()
        return refused
