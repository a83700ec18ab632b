"""Lanes of one runner that are stepped together, and where each has its part of what they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.bins import Place
from edge_agent.detect.lane import Lane


class Batch:
    """Arrays of a batch have a row per group, lane by lane; `at` is where those groups stand in the runner's memory,
    `parts` are the lanes with their rows of the batch."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """`lanes` in the order in which they were added to the runner."""
        self.lanes = list(lanes)
        self.sizes = np.array([lane.groups for lane in lanes])
        ends = self.sizes.cumsum().tolist()
        self.groups: int = ends[-1]
        self.parts = [(lane, slice(end - lane.groups, end)) for lane, end in zip(lanes, ends)]
        first, last = lanes[0].at.start, lanes[-1].at.stop
        self.at: Place = slice(first, last)
        if last - first != self.groups:
            self.at = np.concatenate([np.arange(lane.at.start, lane.at.stop) for lane in lanes])

    def spread(self, per_lane: Sequence[int]) -> NDArray[np.int64]:
        """A number per lane as one per group."""
        return np.array(per_lane, np.int64).repeat(self.sizes)
