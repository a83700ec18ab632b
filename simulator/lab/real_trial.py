"""One seed with real processes: a real agent and a real cloud, gRPC over a network that breaks, SQLite on a card."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

from cloud_sync.data_folder import DataFolder
from simulator.disk import State
from simulator.lab.cloud import LabCloud
from simulator.lab.conditions import VARIABLE, Conditions
from simulator.lab.network_faults import NETWORK_FAULTS, break_network
from simulator.lab.outcome import TrialResult
from simulator.lab.processes import LabFailed
from simulator.lab.real_gateway import NAME, RealGateway
from simulator.lab.stored import stored_of
from simulator.lab.verdict import Verdict, judge
from simulator.network import Proxy
from simulator.virtual.store import Weather
from wire.clock import SystemClock
from wire.reading import LossReason

FAULTS_S = 8.0  # how long faults begin
CALM_S_MAX = 90.0  # after them everything must arrive within this
LOOK_S = 0.1

FAULTS = {  # weights
    **NETWORK_FAULTS,
    "echo acks": 2.0,
    "kill gateway": 5.0,
    "stop gateway": 2.0,
    "cut power": 4.0,
    "full disk": 3.0,
    "failing disk": 2.0,
    "read-only disk": 2.0,
    "flip bits": 2.0,
    "step clock": 2.0,
    "kill cloud": 6.0,
    "stop cloud": 2.0,
    "store down": 2.0,
    "store timeout": 2.0,
    "store slow": 2.0,
    "catalog down": 2.0,
    "catalog timeout": 2.0,
}
COSTS = {
    "cut power": {LossReason.POWER_CUT},
    "flip bits": {LossReason.CORRUPT, LossReason.HOLE, LossReason.POWER_CUT},
}
DECADE_S = 315_576_000.0


class RealTrial:
    """`run` once."""

    def __init__(self, seed: int, folder: Path, keys: Path, *, has_card: bool) -> None:
        """`keys`: a folder that `make_keys` has made."""
        self._seed = seed
        self._rng = random.Random(seed)
        self._keys = keys
        self._weather = Conditions(folder / "weather")
        self._cloud = LabCloud(folder / "cloud", "cloud-in-weather", {VARIABLE: str(self._weather.path)})
        self._gateway = RealGateway(folder / NAME, seed, has_card=has_card)
        self._weights = {kind: weight for kind, weight in FAULTS.items() if has_card or kind != "cut power"}
        self._network: Proxy | None = None
        self._cloud_busy = asyncio.Lock()
        self._story: list[str] = []
        self._drawn: set[str] = set()

    async def run(self) -> TrialResult:
        """Start, break, wait, check. What cannot be started is a failure of the trial."""
        rng, verdict = self._rng, Verdict()
        kinds = rng.choices(tuple(self._weights), tuple(self._weights.values()), k=rng.randint(3, 7))
        faults = [(rng.uniform(0.0, FAULTS_S), kind, rng.random()) for kind in kinds]
        supervisor: asyncio.Task[None] | None = None
        try:
            await self._build()
            supervisor = asyncio.create_task(self._gateway.supervise())
            self._started = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                for fault in sorted(faults):
                    tasks.create_task(self._at(*fault))
            await self._calm(verdict)
            await self._gateway.finish()
            await asyncio.to_thread(self._cloud.stop)
            self._judge(verdict)
        except Exception as error:  # whatever the programs under test do wrong, or this machine
            verdict.add_error(error)
        finally:
            if supervisor is not None:
                supervisor.cancel()
                with suppress(asyncio.CancelledError):
                    await supervisor
            await asyncio.to_thread(self._close)
            if self._network is not None:
                await self._network.close()
        return verdict.result(self._seed, self._drawn, self._story + self._gateway.story)

    async def _build(self) -> None:
        shutil.copytree(self._keys / "cloud", self._cloud.folder)
        await asyncio.to_thread(self._gateway.insert_card)
        await asyncio.to_thread(self._cloud.start)
        self._network = Proxy("127.0.0.1", self._cloud.grpc_port)
        await self._network.start()
        self._gateway.configure(self._network.port)
        await asyncio.to_thread(self._gateway.join, await asyncio.to_thread(self._cloud.token, 1))
        await asyncio.to_thread(self._gateway.start)

    async def _at(self, when: float, kind: str, detail: float) -> None:
        await asyncio.sleep(when)
        self._drawn.add(kind)
        self._story.append(f"{time.monotonic() - self._started:5.1f} s {kind}")
        rng = random.Random(detail)
        for try_ in (self._network_fault, self._gateway_fault, self._cloud_fault):
            fault = try_(kind, rng)
            if fault is not None:
                await fault
                return
        raise AssertionError(kind)

    def _network_fault(self, kind: str, rng: random.Random) -> Awaitable[None] | None:
        assert self._network is not None
        return break_network(self._network, kind, rng) if kind in NETWORK_FAULTS else None

    def _gateway_fault(self, kind: str, rng: random.Random) -> Awaitable[None] | None:
        gateway = self._gateway
        seconds = rng.uniform(0.3, 5.0)

        async def step_clock() -> None:
            gateway.conditions.set(wall_error_s=rng.choice([0.0, -3600.0, 3600.0, DECADE_S, -DECADE_S]))

        match kind:
            case "kill gateway":
                return gateway.kill_for(rng.uniform(0.0, 1.5))
            case "stop gateway":
                return gateway.stop_for(seconds)
            case "cut power":
                return gateway.cut_power(rng.uniform(0.1, 1.0))
            case "full disk" | "failing disk" | "read-only disk":
                return gateway.break_card(State(kind.removesuffix(" disk")), seconds)
            case "flip bits":
                return gateway.flip_bits(rng.choice([1, 1, 3, 20]))
            case "step clock":
                return step_clock()
            case "echo acks":
                return gateway.echo_acks(seconds)
        return None

    def _cloud_fault(self, kind: str, rng: random.Random) -> Awaitable[None] | None:
        seconds = rng.uniform(0.5, 6.0)

        async def be(name: str, value: object) -> None:
            self._weather.set(**{name: value})
            await asyncio.sleep(seconds)
            self._weather.set(**{name: None})

        match kind:
            case "kill cloud":
                return self._kill_cloud(rng.uniform(0.0, 2.0))
            case "stop cloud":
                return self._stop_cloud(seconds)
            case "store down" | "store timeout":
                return be("store", Weather(kind.removeprefix("store ")).value)
            case "store slow":
                return be("store_slow_s", rng.uniform(0.2, 2.0))
            case "catalog down" | "catalog timeout":
                return be("catalog", Weather(kind.removeprefix("catalog ")).value)
        return None

    async def _kill_cloud(self, down_s: float) -> None:
        async with self._cloud_busy:
            await asyncio.to_thread(self._cloud.kill)
            await asyncio.sleep(down_s)
            await asyncio.to_thread(self._start_cloud)

    def _start_cloud(self) -> None:
        """Again and again, as a supervisor does: a catalog in bad weather keeps it from starting."""
        end = time.monotonic() + CALM_S_MAX
        while True:
            try:
                self._cloud.start()
            except LabFailed:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
            else:
                break
        assert self._network is not None
        self._network.retarget("127.0.0.1", self._cloud.grpc_port)

    async def _stop_cloud(self, seconds: float) -> None:
        async with self._cloud_busy:
            self._cloud.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._cloud.signal(signal.SIGCONT)

    async def _calm(self, verdict: Verdict) -> None:
        """Nobody touches anything any more."""
        self._weather.clear()
        assert self._network is not None
        self._network.mend()
        end = time.monotonic() + CALM_S_MAX
        while time.monotonic() < end:
            if self._gateway.gave_up:
                verdict.broken.append("the agent ended with exit code 78, after which systemd does not start it again")
                return
            status = await asyncio.to_thread(self._gateway.status)
            if self._gateway.is_calm(status):
                return
            await asyncio.sleep(LOOK_S)
        said = "no status" if status is None else f"sync {status['sync']}, buffer {status['buffer']}"
        verdict.broken.append(f"not delivered {CALM_S_MAX:.0f} s after the last fault: {said}")

    def _judge(self, verdict: Verdict) -> None:
        taken, dropped = self._gateway.taken()
        folder = DataFolder(self._cloud.folder)
        catalog = folder.open_catalog(SystemClock())
        try:
            reasons = set().union(*(COSTS.get(fault, set()) for fault in self._drawn))
            found = stored_of(catalog, folder.open_store(), NAME)
            verdict.add(judge(NAME, taken, self._gateway.excused, found, catalog.ledger(NAME), reasons))
        finally:
            catalog.close()
        if dropped:
            verdict.lost += len(dropped)
            verdict.broken.append(f"{len(dropped)} values were read and never journalled, {sorted(dropped)[:5]}")

    def _close(self) -> None:
        self._gateway.stop()
        self._cloud.stop()
        if self._gateway.card is not None:
            self._gateway.card.remove()


def make_keys(folder: Path) -> None:
    """A cloud's folder with its CA, to be copied by each trial. Raises LabFailed."""
    LabCloud(folder / "cloud").initialise()


def run_real(seed: int, folder: Path, keys: Path, *, has_card: bool) -> TrialResult:
    """One trial in a folder of its own, which is made."""
    folder.mkdir(parents=True)
    return asyncio.run(_run(seed, folder, keys, has_card=has_card))


async def _run(seed: int, folder: Path, keys: Path, *, has_card: bool) -> TrialResult:
    return await RealTrial(seed, folder, keys, has_card=has_card).run()
