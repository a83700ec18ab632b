"""Many trials: seeds over worker processes, a folder for each trial, their results as they come."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from simulator.lab.card import no_cards
from simulator.lab.outcome import Plant, TrialResult

RAM = Path("/dev/shm")


class Agent(StrEnum):
    """Whom the faults happen to."""

    TIDEGATE = "tidegate"
    THINGSBOARD = "thingsboard"
    MOSQUITTO = "mosquitto"


@dataclass(frozen=True, slots=True)
class Order:
    """What to run: seeds `seed` to `seed + trials - 1`, each alone. `keep`: leave each trial's folder there."""

    trials: int
    seed: int
    workers: int
    agent: Agent = Agent.TIDEGATE
    real: bool = False
    plant: Plant | None = None
    keep: Path | None = None

    @property
    def method(self) -> str:
        """How time passes."""
        return "real processes" if self.is_real else "virtual time"

    @property
    def is_real(self) -> bool:
        """Other agents have no virtual time."""
        return self.real or self.agent is not Agent.TIDEGATE

    def replay(self, seed: int) -> str:
        """The command that runs one seed alone."""
        words = ["edge-sim lab", f"--seed {seed}", "--trials 1"]
        if self.agent is not Agent.TIDEGATE:
            words.append(f"--agent {self.agent.value}")
        elif self.real:
            words.append("--real")
        if self.plant is not None:
            words.append(f"--plant {self.plant.value}")
        return " ".join(words)


def run_trials(order: Order, bench: Bench) -> Iterator[TrialResult]:
    """Results in the order in which trials end. Raises LabFailed when the lab itself cannot work."""
    seeds = iter(range(order.seed, order.seed + order.trials))
    if order.workers == 1:
        yield from (run_trial(order, bench, seed) for seed in seeds)
        return
    pool = ProcessPoolExecutor(order.workers, multiprocessing.get_context("spawn"))
    try:
        running: set[Future[TrialResult]] = set()
        while True:
            free = 2 * order.workers - len(running)
            running |= {pool.submit(run_trial, order, bench, seed) for seed in islice(seeds, free)}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all trials of an order share. `missing`: why there are no real cards to break; "" if there are."""

    folder: Path
    missing: str = ""

    @property
    def note(self) -> str:
        """For people; "" when all faults are drawn."""
        if not self.missing:
            return ""
        return f"no loop device with ext4 ({self.missing}): power cuts, and full cards of other agents, are not drawn"


@contextmanager
def bench_for(order: Order) -> Iterator[Bench]:
    """Made once, before the first trial. Raises LabFailed."""
    if not order.is_real:
        yield Bench(RAM)
        return
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    try:
        if order.agent is Agent.TIDEGATE:
            from simulator.lab.real_trial import make_keys

            make_keys(folder)
        else:
            from simulator.lab.peers.run import prepare

            prepare(order.agent.value, folder)
        yield Bench(folder, no_cards(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_trial(order: Order, bench: Bench, seed: int) -> TrialResult:
    """One trial, in a folder that goes again unless it is to be kept."""
    folder = trial_folder(order, seed)
    try:
        if order.agent is not Agent.TIDEGATE:
            from simulator.lab.peers.run import run_peer

            has_card = not bench.missing
            return run_peer(order.agent.value, seed, folder / "trial", bench.folder, has_card=has_card)
        if order.real:
            from simulator.lab.real_trial import run_real

            return run_real(seed, folder / "trial", bench.folder, has_card=not bench.missing)
        from simulator.virtual.trial import run_virtual

        return run_virtual(seed, folder / "trial", order.plant)
    finally:
        if order.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def trial_folder(order: Order, seed: int) -> Path:
    """In RAM for virtual time, where every commit is fsynced and nothing needs to last."""
    if order.keep is not None:
        folder = order.keep.absolute() / f"seed-{seed}"
        folder.mkdir(parents=True)
        return folder
    in_ram = not order.is_real and os.access(RAM, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="tidegate-lab-", dir=RAM if in_ram else None))
