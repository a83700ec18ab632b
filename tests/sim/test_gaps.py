"""No false gap: whatever goes wrong, the cloud never calls missing what a gateway still holds."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cloud_sync.errors import CloudError
from simulator.disk import Disk, watching
from simulator.virtual.trial import VirtualTrial
from simulator.virtual.world import seeded_entropy
from wire.ranges import RangeSet

LOOK_S = 0.5


class WatchedTrial(VirtualTrial):
    """A trial that compares the cloud's gaps with what lies on the cards, twice a second."""

    def __init__(self, seed: int, folder: Path, make_disk: Callable[[Path], Disk]) -> None:
        super().__init__(seed, folder, make_disk)
        self.false_gaps: list[str] = []
        self.gaps_seen = 0
        self.world.after(LOOK_S, self._look)

    def _look(self) -> None:
        self.world.after(LOOK_S, self._look)
        for box in self.boxes:
            held = box.held()
            with suppress(CloudError):  # the catalog is away
                for line in self.cloud.catalog.ledger(box.name):
                    gaps = RangeSet((gap.first, gap.end) for gap in line.gaps)
                    self.gaps_seen += gaps.count
                    if both := gaps & held.get(line.epoch, RangeSet()):
                        self.false_gaps.append(f"{self.world.now:.1f} s: {both} of {line.epoch:016x} is on the card")


def play(seed: int, folder: Path) -> WatchedTrial:
    print(f"seed {seed}")
    with watching() as make_disk, seeded_entropy(random.Random(f"entropy of {seed}")):
        trial = WatchedTrial(seed, folder, make_disk)
        result = trial.run()
    print(*result.story, sep="\n")
    assert result.broken == (), result.broken
    return trial


@pytest.mark.parametrize("seed", range(1000, 1020))
def test_what_a_gateway_holds_is_no_gap(seed: int, tmp_path: Path) -> None:
    assert play(seed, tmp_path / "world").false_gaps == []
