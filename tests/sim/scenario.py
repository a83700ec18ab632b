"""One seed: a world, its boxes and its faults."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tests.sim.checkers import Broken, check
from tests.sim.cloud import SimCloud
from tests.sim.gateway import SimGateway
from tests.sim.network import Link
from tests.sim.world import World

FAULTS_S = 60.0  # how long things go wrong
CALM_S_MAX = 600.0  # after it everything must arrive within this

FAULTS = {  # weights
    "cut": 4,
    "stall": 3,
    "kill gateway": 5,
    "cut power": 2,
    "kill cloud": 7,
    "step clock": 2,
    "clone card": 0.5,
    "back up cloud": 1,
    "restore cloud": 1,
}


@dataclass(frozen=True)
class Result:
    stored: int
    faults: tuple[str, ...]
    seconds: float


class Scenario:
    """`ack_early` and `careless` plant a mistake each, which the checkers must find."""

    def __init__(self, seed: int, folder: Path, *, ack_early: bool = False, careless: bool = False) -> None:
        self._rng = random.Random(seed)
        self._folder = folder
        self._careless = careless
        self._numbers = [0]
        self.world = World()
        self.cloud = SimCloud(self.world, folder / "cloud", self._rng, ack_early=ack_early)
        self.boxes: list[SimGateway] = []
        self.links: list[Link] = []
        self.story: list[str] = []
        for number in range(self._rng.choice([1, 1, 2])):
            self._add(f"gw{number}", None)

    def _add(self, name: str, card: Path | None) -> None:
        link = Link(self.world, random.Random(self._rng.random()))
        folder = self._folder / f"box{len(self.boxes)}"
        rng = random.Random(self._rng.random())
        box = SimGateway(
            self.world, name, folder, link, self.cloud, rng, numbers=self._numbers, careless=self._careless, card=card
        )
        self.links.append(link)
        self.boxes.append(box)

    def run(self) -> Result:
        """Raises Broken, with the story of the seed."""
        rng = self._rng
        for _ in range(rng.randint(3, 12)):
            kind = rng.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
            when, at = rng.uniform(2.0, FAULTS_S), rng.randrange(1 << 16)
            self.world.at(when, lambda kind=kind, at=at: self._fault(kind, at))  # type: ignore[misc]
        try:
            self.world.run(FAULTS_S)
            for box, link in zip(self.boxes, self.links):
                box.sampling = False
                link.heal()
            self.world.run(FAULTS_S + CALM_S_MAX, done=lambda: all(box.drained() for box in self.boxes))
            if not all(box.drained() for box in self.boxes):
                raise Broken(f"not delivered {CALM_S_MAX:.0f} s after the last fault")
            names = sorted({box.name for box in self.boxes})
            stored = sum(check(self.cloud, name, [box for box in self.boxes if box.name == name]) for name in names)
        except AssertionError as error:
            raise Broken(f"{error}\n" + "\n".join(self.story)) from error
        finally:
            for box in self.boxes:
                box.stop()
            self.cloud.catalog.close()
        return Result(stored, tuple(self.story), self.world.now)

    def _fault(self, kind: str, at: int) -> None:
        rng = random.Random(at)
        place = at % len(self.boxes)
        box, link = self.boxes[place], self.links[place]
        match kind:
            case "cut":
                link.cut(rng.uniform(0.2, 15.0))
            case "stall":
                link.stall(rng.uniform(5.0, 40.0))
            case "kill gateway":
                box.kill(rng.choice(["now", "before", "after"]), rng.uniform(0.1, 3.0))
            case "cut power":
                box.cut_power(rng.uniform(1.0, 5.0))
            case "kill cloud":
                self.cloud.kill(rng.choice(["now", "before", "before", "after"]), rng.uniform(0.1, 10.0))
            case "step clock":
                box.step_clock(rng.choice([0.0, -3600.0, 1e8]), synchronised=rng.random() < 0.5)
            case "clone card":
                if len(self.boxes) < 3:
                    card = self._folder / f"card{len(self.boxes)}"
                    box.copy_card(card)
                    self._add(box.name, card)
            case "back up cloud":
                self.cloud.back_up()
            case "restore cloud":
                self.cloud.restore()
        self.story.append(f"{self.world.now:7.2f} s {kind} {box.name}")
