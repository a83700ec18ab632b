"""What the lab needs of another agent, and one trial with it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from simulator.lab.card import Card
from simulator.lab.network_faults import NETWORK_FAULTS, break_network
from simulator.lab.outcome import TrialResult
from simulator.lab.peers.mqtt_stub import MqttStub
from simulator.network import Proxy

PERIOD_S = 0.005  # 200 readings a second
FAULTS_S = 8.0
SETTLE_S_MAX = 60.0  # after the last fault
SILENCE_S = 12.0  # nothing new for so long: it is over
START_S_MAX = 60.0
RESTART_S = 1.0  # from the end of a process until its supervisor starts it again
LOOK_S = 0.1
FAULTS = {**NETWORK_FAULTS, "kill agent": 5.0, "stop agent": 2.0, "cut power": 4.0, "full disk": 3.0}  # weights as ours
ON_CARD = ("cut power", "full disk")
WINDOW_S = 2.0  # before a power cut: what ours may lose then, its commit interval and one look, another may as well


class Peer(Protocol):
    """One agent in a folder of its own, set up to read numbers and to send them to an MQTT broker at `port`."""

    def reply(self, topic: str, payload: bytes) -> tuple[str, bytes] | None:
        """What its server says to a message, beside the acknowledgement."""
        ...

    def start(self, port: int) -> None:
        """As a process; the first time and after `kill`. Raises LabFailed."""
        ...

    def kill(self) -> None:
        """SIGKILL."""
        ...

    def signal(self, number: int) -> None:
        """SIGSTOP, SIGCONT."""
        ...

    @property
    def has_ended(self) -> bool:
        """Its process is gone, wanted or not."""
        ...

    async def give(self, number: int) -> bool:
        """Offer one reading; False: try it again later."""
        ...

    @property
    def accepted(self) -> set[int]:
        """Numbers that it has said yes to."""
        ...

    async def ready(self) -> bool:
        """It takes readings."""
        ...

    async def close(self) -> None:
        """The end. Never raises."""
        ...


class PeerTrial:
    """`run` once. The card is under the peer's storage; where there is none, the disk is never full."""

    def __init__(self, seed: int, peer: Peer, card: Card | None, *, calm: bool = False) -> None:
        """`calm`: no faults, to see that nothing of what is counted is the lab's own doing."""
        self._seed = seed
        self._rng = random.Random(seed)
        self._peer = peer
        self._card = card
        self._sink = MqttStub(peer.reply)
        self._weights = {kind: weight for kind, weight in FAULTS.items() if card is not None or kind not in ON_CARD}
        self._story: list[str] = []
        self._drawn: set[str] = set()
        self._busy = asyncio.Lock()
        self._accepted_at: dict[int, float] = {}  # by number
        self._excused: set[int] = set()
        self._giving = True
        self._calm = calm

    async def run(self) -> TrialResult:
        """Give readings, break things, wait, compare. Raises LabFailed when the lab itself cannot work."""
        rng = self._rng
        kinds = rng.choices(tuple(self._weights), tuple(self._weights.values()), k=rng.randint(3, 7))
        faults = sorted((rng.uniform(0.0, FAULTS_S), kind, rng.random()) for kind in kinds)
        if self._calm:
            faults = []
        await self._sink.start()
        self._network = Proxy("127.0.0.1", self._sink.port)
        await self._network.start()
        jobs: list[asyncio.Task[None]] = []
        try:
            await asyncio.to_thread(self._peer.start, self._network.port)
            jobs += [asyncio.create_task(self._give()), asyncio.create_task(self._watch())]
            await self._until_first()
            self._started = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                for fault in faults:
                    tasks.create_task(self._at(*fault))
            await self._settle()
        finally:
            for job in jobs:
                job.cancel()
                with suppress(asyncio.CancelledError):
                    await job
            await self._peer.close()
            await self._network.close()
            await self._sink.close()
        return self._judge()

    async def _give(self) -> None:
        number = 1
        while True:
            await asyncio.sleep(PERIOD_S)
            if self._giving and await self._peer.give(number):
                number += 1

    async def _watch(self) -> None:
        """When each reading was accepted, to LOOK_S; an agent that ends by itself is started again, as ours is."""
        while True:
            self._note()
            await asyncio.sleep(LOOK_S)
            if self._peer.has_ended and not self._busy.locked():
                async with self._busy:
                    self._story.append("the agent ended by itself")
                    await asyncio.sleep(RESTART_S)
                    await asyncio.to_thread(self._peer.start, self._network.port)

    def _note(self) -> None:
        now = time.monotonic()
        self._accepted_at.update(dict.fromkeys(self._peer.accepted - self._accepted_at.keys(), now))

    async def _until_first(self) -> None:
        end = time.monotonic() + START_S_MAX
        while not self._sink.delivered and time.monotonic() < end:  # noqa: ASYNC110 - the stub is asked
            await asyncio.sleep(LOOK_S)

    async def _at(self, when: float, kind: str, detail: float) -> None:
        await asyncio.sleep(when)
        self._drawn.add(kind)
        self._story.append(f"{time.monotonic() - self._started:5.1f} s {kind}")
        await self._fault(kind, random.Random(detail))

    def _fault(self, kind: str, rng: random.Random) -> Awaitable[None]:
        match kind:
            case "kill agent":
                return self._kill(rng.uniform(0.0, 1.5))
            case "stop agent":
                return self._stop(rng.uniform(0.3, 5.0))
            case "cut power":
                return self._cut_power(rng.uniform(0.1, 1.0))
            case "full disk":
                return self._fill(rng.uniform(0.3, 5.0))
            case _:
                return break_network(self._network, kind, rng)

    async def _kill(self, down_s: float) -> None:
        async with self._busy:
            await asyncio.to_thread(self._peer.kill)
            await asyncio.sleep(down_s)
            await asyncio.to_thread(self._peer.start, self._network.port)

    async def _stop(self, seconds: float) -> None:
        async with self._busy:
            self._peer.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._peer.signal(signal.SIGCONT)

    async def _cut_power(self, down_s: float) -> None:
        """The card ends in the middle of whatever it does; what was accepted in the last seconds may be gone."""
        card = self._card
        assert card is not None
        async with self._busy:
            self._note()
            since = time.monotonic() - WINDOW_S
            self._excused |= {number for number, when in self._accepted_at.items() if when >= since}
            card.cut_power()
            await asyncio.to_thread(self._peer.kill)
            await asyncio.sleep(down_s)
            await asyncio.to_thread(card.power_on)
            await asyncio.to_thread(self._peer.start, self._network.port)

    async def _fill(self, seconds: float) -> None:
        assert self._card is not None
        with suppress(OSError):  # the power is off
            await asyncio.to_thread(self._card.fill)
        await asyncio.sleep(seconds)
        async with self._busy:
            await asyncio.to_thread(self._card.free)

    async def _settle(self) -> None:
        """Readings end, what was accepted arrives, or nothing new does for long."""
        self._network.mend()
        end = time.monotonic() + SETTLE_S_MAX
        while not await self._peer.ready() and time.monotonic() < end:  # noqa: ASYNC110 - the peer is asked
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(1.0)  # as with ours: a healthy agent takes readings before it is judged
        self._giving = False
        end = time.monotonic() + SETTLE_S_MAX
        seen, changed = -1, time.monotonic()
        while time.monotonic() < end and time.monotonic() - changed < SILENCE_S:
            if self._peer.accepted <= self._sink.delivered.keys():
                await asyncio.sleep(1.0)  # what is doubled comes late
                return
            if len(self._sink.delivered) != seen:
                seen, changed = len(self._sink.delivered), time.monotonic()
            await asyncio.sleep(LOOK_S)

    def _judge(self) -> TrialResult:
        accepted, delivered = self._peer.accepted, self._sink.delivered
        missing = accepted - delivered.keys()
        lost = missing - self._excused
        doubled = sum(times - 1 for number, times in delivered.items() if number in accepted)
        said = []
        if not accepted:
            said.append("it accepted nothing")
        if lost:
            said.append(f"{len(lost)} of {len(accepted)} values are lost, {sorted(lost)[:5]}")
        if doubled:
            said.append(f"{doubled} of {len(accepted)} values came again")
        return TrialResult(
            seed=self._seed,
            faults=tuple(sorted(self._drawn)),
            taken=len(accepted),
            stored=len(accepted & delivered.keys()),
            tombstoned=0,
            excused=len(missing & self._excused),
            lost=len(lost),
            doubled=doubled,
            broken=tuple(said),
            story=tuple(self._story),
        )


def storage(folder: Path, *, has_card: bool) -> Card | None:
    """A card under `folder/data`, or the folder alone."""
    if has_card:
        card = Card(folder / "card.img", folder / "data")
        card.insert()
        return card
    (folder / "data").mkdir()
    return None
