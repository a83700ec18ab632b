"""Runs of a batch that keeps its size: every array stays where it is, and state goes to and fro between two places.

Nothing is allocated, copied or named anew for a run, which a small model spends much of its time on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_agent.detect.session import F32, Session


class Bound:
    """`x`, `mask` and `dt` are for the caller to fill. What a run gives is written over by the next one, its state
    by the one after."""

    def __init__(self, session: Session, groups: int, params: Mapping[str, F32], state: Mapping[str, F32]) -> None:
        """`params` and `state` have a row per group. The first run begins with `state`, the second writes to it."""
        window = session.model.manifest.window
        cube = (groups, window.rows, window.channels)
        self.x, self.mask, self.dt = (np.zeros(shape, np.float32) for shape in (cube, cube, (groups, 1)))
        self._session = session
        spare = {name: np.empty_like(array) for name, array in state.items()}
        shapes = {"score": (groups, 1), "contrib": (groups, window.channels)}
        others = session.model.outputs - {f"{name}_out" for name in state}
        told = {name: np.zeros(shapes.get(name, cube), np.float32) for name in others}
        given = {"x": self.x, "mask": self.mask, "dt": self.dt, **params}
        self._turns = []
        for before, after in ((state, spare), (spare, state)):
            outputs = told | {f"{name}_out": array for name, array in after.items()}
            self._turns.append(session.bind({**given, **before}, outputs))

    def run(self) -> Mapping[str, F32]:
        """One run on what is filled in and on the state that the last one left. Raises RunFailed: the state stays."""
        binding = self._turns[0]
        self._session.run_bound(binding)
        self._turns.reverse()
        return binding.outputs
