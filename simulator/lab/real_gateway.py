"""A real agent under real faults: on a card of its own, restarted when it ends by itself, its journal watched."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.exits import CONFIG
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.opening import JOURNAL, OUTBOX
from simulator.disk import State
from simulator.lab.card import Card
from simulator.lab.conditions import VARIABLE, Conditions
from simulator.lab.count import Cycle
from simulator.lab.counter import SENSOR, CounterSensors
from simulator.lab.gateway import LabGateway, Plan, cycles_of
from simulator.lab.processes import Process, command
from wire.clock import US_PER_S
from wire.reading import Tick

NAME = "gw"
LOOK_S = 0.05
RESTART_S = 1.0  # from the end of a process until its supervisor starts it again
COMMIT_S = 1.0
CALM_COMMITS = 4  # no atom waits longer when all is well


class RealGateway(LabGateway):
    """`LabGateway` with faults. Awaited methods end when the fault does."""

    sensors: CounterSensors

    def __init__(self, folder: Path, seed: int, *, has_card: bool) -> None:
        plan = Plan(NAME, sensors=CounterSensors, interval="40ms", commit_interval=f"{COMMIT_S:g}s", batch="0s")
        super().__init__(plan, folder, seed)
        self.conditions = Conditions(folder / "conditions")
        self.card = Card(folder / "card.img", folder / "state") if has_card else None
        self.excused: set[float] = set()
        self.ends = 0  # of processes, wanted or not: each may have had one cycle in flight
        self.story: list[str] = []
        self.gave_up = False  # it ended in a way after which nobody starts it again
        self._rng = random.Random(seed)
        self._window_s = COMMIT_S
        self._busy = asyncio.Lock()  # one change of the process at a time
        self._down = False

    def insert_card(self) -> None:
        """Before the first start."""
        if self.card is not None:
            self.card.insert()

    def launch(self) -> None:
        """Start the agent and do not wait for it."""
        self._process = Process(self.plan.name, self._command(), self.log, {VARIABLE: str(self.conditions.path)})

    def _command(self) -> Sequence[str]:
        return command("agent-on-card", "run", "-c", str(self.folder / "edge-agent.toml"))

    async def supervise(self) -> None:
        """Start the agent again whenever it ends by itself, as its unit does, and ask it now and then what a power cut
        would cost."""
        while True:
            await asyncio.sleep(LOOK_S)
            if self._running().exit_code is not None and not self._down:
                async with self._busy:
                    if self._running().exit_code is None:
                        continue
                    self.ends += 1
                    self.story.append(f"the agent ended by itself, exit code {self._running().exit_code}")
                    self._look_at_journal()
                    if self._running().exit_code == CONFIG:
                        self.gave_up = True
                        return
                    await asyncio.sleep(RESTART_S)
                    await asyncio.to_thread(self.launch)
            status = await asyncio.to_thread(self.status)
            if status is not None:
                self._window_s = status["buffer"]["power_cut_window_s"]

    async def kill_for(self, down_s: float) -> None:
        """SIGKILL, and a new process after a while."""
        async with self._busy:
            await self._end()
            await asyncio.sleep(down_s)
            await self._begin()

    async def stop_for(self, seconds: float) -> None:
        """SIGSTOP for a while."""
        self._running().signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._running().signal(signal.SIGCONT)

    async def flip_bits(self, count: int) -> None:
        """SIGKILL, bits of the database change, and a new process in the same boot."""
        async with self._busy:
            await self._end()
            path = self.folder / "state" / OUTBOX
            if path.exists():
                data = bytearray(path.read_bytes())
                for _ in range(count):
                    data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
                path.write_bytes(data)
            await self._begin()

    async def cut_power(self, down_s: float) -> None:
        """The card ends in the middle of whatever it does, and the RAM is empty."""
        assert self.card is not None
        async with self._busy:
            self.card.cut_power()
            await self._end()
            self._excuse()
            shutil.rmtree(self.folder / "run", ignore_errors=True)  # it has none before its first start is over
            await asyncio.sleep(down_s)
            await asyncio.to_thread(self.card.power_on)
            await self._begin()

    async def break_card(self, state: State, seconds: float) -> None:
        """Full, failing or read-only for a while."""
        self.conditions.set(disk=state.value)
        await asyncio.sleep(seconds)
        self.conditions.set(disk=None)

    async def echo_acks(self, seconds: float) -> None:
        """For a while every acknowledgement is heard again, after its successor."""
        self.conditions.set(echo_acks=True)
        await asyncio.sleep(seconds)
        self.conditions.set(echo_acks=None)

    def values(self, cycles: Sequence[Cycle] | set[Cycle]) -> set[float]:
        """Of cycles, each of their numbers."""
        return {float(number) for cycle in cycles for number in cycle}

    def taken(self) -> tuple[set[float], set[float]]:
        """What was given out and journalled; and what was given, never journalled, and is too much to be in flight."""
        given = self.sensors.given_out()[SENSOR]
        journalled = self.journalled()
        dropped = [cycle for cycle in given if cycle not in journalled]
        return self.values([cycle for cycle in given if cycle in journalled]), self.values(dropped[self.ends + 1 :])

    def is_calm(self, status: dict[str, Any] | None) -> bool:
        """Connected, and nothing waits but the newest: what is acknowledged goes with the next commit."""
        if status is None or not status["sync"]["connected"]:
            return False
        oldest_s = status["buffer"]["oldest_age_s"]
        return oldest_s is None or oldest_s < CALM_COMMITS * COMMIT_S

    async def finish(self) -> None:
        """The sensor falls silent, the agent ends in order: it commits and delivers."""
        self._down = True
        async with self._busy:
            self.sensors.quiet()
            await asyncio.to_thread(self._running().stop, 40.0)
            self._look_at_journal()

    async def _end(self) -> None:
        self._down = True
        self.ends += 1
        await asyncio.to_thread(self.kill)

    async def _begin(self) -> None:
        await asyncio.to_thread(self.launch)
        self._down = False

    def _excuse(self) -> None:
        """Uncommitted records, no older than the window that was last printed (and one look at it)."""
        path = self.folder / "run" / JOURNAL
        head = Journal.head(path)
        if head is None:
            return
        waiting: list[Tick] = list(Journal.scan(path, head.outbox, head.committed))
        newest = max((tick.stamp for tick in waiting), default=0)
        oldest = newest - (self._window_s + COMMIT_S) * US_PER_S / 1000  # this set's stamps are milliseconds
        for tick in waiting:
            if tick.stamp >= oldest:
                self.excused |= self.values(cycles_of(tick, len(tick.raw)))
