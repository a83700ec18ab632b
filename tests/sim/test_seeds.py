"""The fault lab in virtual time, a few of its seeds: `edge-sim lab` runs as many as one likes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.lab.outcome import Plant, TrialResult
from simulator.lab.trials import RAM
from simulator.virtual.chips import Budget
from simulator.virtual.trial import budget_of, run_virtual

SEEDS = range(60)
FOUND = [66, 80, 88, 117, 471, 591, 632, 969, 991, 1079, 2184, 30970, 30980, 40053, 88029]  # each showed a mistake once
PLANTED_SEEDS_MAX = 200


@pytest.fixture
def folder() -> Iterator[Path]:
    """In RAM where there is such a folder: every commit is fsynced."""
    made = Path(tempfile.mkdtemp(prefix="tidegate-sim-", dir=RAM if os.access(RAM, os.W_OK) else None))
    yield made
    shutil.rmtree(made)


def run(seed: int, folder: Path, plant: Plant | None = None) -> TrialResult:
    print(f"edge-sim lab --trials 1 --seed {seed}")
    return run_virtual(seed, folder / str(seed), plant)


@pytest.mark.parametrize("seed", [*SEEDS, *(seed for seed in FOUND if seed not in SEEDS)])
def test_nothing_is_lost_and_nothing_doubled(seed: int, folder: Path) -> None:
    result = run(seed, folder)
    print(*result.story, sep="\n")
    assert result.broken == ()
    assert result.holds
    assert result.stored > 0
    assert result.taken <= result.stored + result.tombstoned + result.excused


def test_thinning_and_eviction_are_met(folder: Path) -> None:
    """A trial that fills its budget with one class leaves roll-ups in the cloud and evicts some; mixed ones evict."""
    for budget in (Budget.MIXED, Budget.ONE_CLASS):
        seeds = [seed for seed in SEEDS if budget_of(seed) is budget][:3]
        results = [run(seed, folder) for seed in seeds]
        assert sum(result.tombstoned for result in results) > 1000
        assert (sum(result.rolled_up for result in results) > 1000) is (budget is Budget.ONE_CLASS)


def test_a_seed_replays(folder: Path) -> None:
    first, second = (run(7, folder / name) for name in ("first", "second"))
    assert first == second


@pytest.mark.parametrize("plant", Plant)
def test_a_planted_mistake_is_found(plant: Plant, folder: Path) -> None:
    """Acknowledge before the commit; delete on send. Within the seeds of every run, or the lab is blind."""
    for seed in range(PLANTED_SEEDS_MAX):
        result = run(seed, folder, plant)
        shutil.rmtree(folder / str(seed))
        if result.lost:
            assert any("values are lost" in text for text in result.broken)
            return
    raise AssertionError(f"{plant} was not found in {PLANTED_SEEDS_MAX} seeds")
