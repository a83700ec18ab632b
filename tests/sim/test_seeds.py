"""Agents and cloud in one process under virtual time, one seed a test. The code is the real one; threads, sockets and
clocks are not.

    TIDEGATE_SIM_SEED=17 pytest tests/sim/test_seeds.py     replays a seed
    TIDEGATE_SIM_SEEDS=5000 pytest -n 2 tests/sim           tries more of them
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sim.checkers import Broken
from tests.sim.scenario import Result, Scenario

ONE = os.environ.get("TIDEGATE_SIM_SEED")
NUMBER = int(os.environ.get("TIDEGATE_SIM_SEEDS", "200"))
SEEDS = range(NUMBER) if ONE is None else [int(ONE)]
RAM = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """In RAM where there is such a folder: every commit is fsynced."""
    made = Path(tempfile.mkdtemp(prefix="tidegate-sim-", dir=RAM if os.access(RAM, os.W_OK) else None))
    yield made
    shutil.rmtree(made)


def run(seed: int, folder: Path, **planted: bool) -> Result:
    print(f"seed {seed}: TIDEGATE_SIM_SEED={seed} pytest tests/sim/test_seeds.py")
    return Scenario(seed, folder / str(seed), **planted).run()


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_nothing_doubled(seed: int, folder: Path) -> None:
    result = run(seed, folder)
    print(*result.faults, sep="\n")
    assert result.stored > 0


def test_a_seed_replays(folder: Path) -> None:
    first, second = (run(7, folder / name) for name in ("first", "second"))
    assert first == second


@contextmanager
def suppress_broken() -> Iterator[list[str]]:
    """Collects what the checkers say."""
    said: list[str] = []
    try:
        yield said
    except Broken as broken:
        said.append(str(broken))


@pytest.mark.parametrize("mistake", ["ack_early", "careless"])
def test_a_planted_mistake_is_found(mistake: str, folder: Path) -> None:
    """Acknowledge before the commit; delete on send. Within the seeds of every run, or the simulation is blind."""
    found = ""
    for seed in range(200):
        with suppress_broken() as broken:
            run(seed, folder, **{mistake: True})
        shutil.rmtree(folder / str(seed))
        if broken:
            found = broken[0]
            break
    assert "values are lost" in found
