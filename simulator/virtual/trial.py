"""One seed: a world, its boxes and its faults, a quiet time, and what must hold then without a hand."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.disk import Disk, State, watching
from simulator.lab.outcome import Plant, TrialResult
from simulator.lab.verdict import Verdict, judge
from simulator.virtual.chips import Budget
from simulator.virtual.cloud import VirtualCloud
from simulator.virtual.gateway import VirtualGateway
from simulator.virtual.link import Link
from simulator.virtual.numbering import merged
from simulator.virtual.store import Weather
from simulator.virtual.world import World, seeded_entropy
from wire.reading import LossReason

FAULTS_S = 60.0  # how long things go wrong
CALM_S_MAX = 600.0  # after it everything must arrive within this
BOXES_MAX = 3
MIXED_SHARE, ONE_CLASS_SHARE = 0.25, 0.15  # of trials with a budget that an outage fills
DECADE_S = 315_576_000.0

FAULTS = {  # weights
    "cut": 4.0,
    "cut at answer": 3.0,
    "stall": 3.0,
    "mute": 3.0,
    "echo acks": 1.0,
    "late acks": 2.0,
    "kill gateway": 5.0,
    "stop gateway": 2.0,
    "cut power": 4.0,
    "full disk": 3.0,
    "failing disk": 2.0,
    "read-only disk": 2.0,
    "flip bits": 3.0,
    "step clock": 2.0,
    "clone card": 0.5,
    "kill cloud": 7.0,
    "stop cloud": 2.0,
    "cut power of cloud": 2.0,
    "store down": 2.0,
    "store timeout": 2.0,
    "store slow": 2.0,
    "catalog down": 2.0,
    "catalog timeout": 2.0,
    "back up cloud": 1.0,
    "restore cloud": 1.0,
}
# What a fault may make a gateway give up; anything else in a tombstone is a mistake.
COSTS = {
    "cut power": {LossReason.POWER_CUT},
    "full disk": {LossReason.JOURNAL_FULL},
    "failing disk": {LossReason.JOURNAL_FULL},
    "read-only disk": {LossReason.JOURNAL_FULL},
    "flip bits": {LossReason.CORRUPT, LossReason.HOLE, LossReason.POWER_CUT},
    "clone card": {LossReason.POWER_CUT},  # a card that was copied while it was written
    "restore cloud": {LossReason.CLOUD_RESTORED},
}


def budget_of(seed: int) -> Budget:
    """What a trial's boxes may keep."""
    draw = random.Random(f"budget of {seed}").random()
    if draw < MIXED_SHARE:
        return Budget.MIXED
    return Budget.ONE_CLASS if draw >= 1 - ONE_CLASS_SHARE else Budget.ROOMY


class VirtualTrial:
    """`run` once. `folder` is made and left behind."""

    def __init__(self, seed: int, folder: Path, make_disk: Callable[[Path], Disk], plant: Plant | None = None) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._folder = folder
        self._make_disk = make_disk
        self._budget = budget_of(seed)
        self._careless = plant is Plant.DELETE_ON_SEND
        self._numbers = [0]
        self._story: list[str] = []
        self._drawn: set[str] = set()
        self.world = World()
        ack_early = plant is Plant.ACK_BEFORE_COMMIT
        self.cloud = VirtualCloud(self.world, folder / "cloud", self._rng, make_disk, ack_early=ack_early)
        self.boxes: list[VirtualGateway] = []
        self.links: list[Link] = []
        for number in range(self._rng.choice([1, 1, 2])):
            self._add(f"gw{number}", None)

    def _add(self, name: str, card: Path | None) -> None:
        link = Link(self.world, random.Random(self._rng.random()))
        folder = self._folder / f"box{len(self.boxes)}"
        box = VirtualGateway(
            self.world,
            name,
            folder,
            link,
            self.cloud,
            random.Random(self._rng.random()),
            self._make_disk,
            numbers=self._numbers,
            careless=self._careless,
            card=card,
            budget=self._budget,
        )
        self.links.append(link)
        self.boxes.append(box)

    def run(self) -> TrialResult:
        """Faults, calm, checks. A mistake of the programs under test is a failure of the trial, not an exception."""
        rng = self._rng
        for _ in range(rng.randint(3, 12)):
            kind = rng.choices(tuple(FAULTS), tuple(FAULTS.values()))[0]
            when, at = rng.uniform(2.0, FAULTS_S), rng.randrange(1 << 16)
            self.world.at(when, lambda kind=kind, at=at: self._fault(kind, at))  # type: ignore[misc]
        if self._budget.is_tight:  # an outage long enough to fill it
            for link in self.links:
                self.world.at(2.0, lambda link=link: link.cut(FAULTS_S - 5.0))  # type: ignore[misc]
        verdict = Verdict()
        try:
            self._play(verdict)
        except Exception as error:  # whatever the programs under test do wrong
            verdict.add_error(error)
        finally:
            for box in self.boxes:
                box.end()
            self.cloud.catalog.close()
        story = sorted(self._story + [death for box in self.boxes for death in box.deaths])
        return verdict.result(self._seed, self._drawn, story)

    def _play(self, verdict: Verdict) -> None:
        self.world.run(FAULTS_S)
        self.cloud.heal()
        for box, link in zip(self.boxes, self.links):
            box.sampling = False
            box.heal()
            link.heal()

        def calm() -> bool:
            return all(box.drained() for box in self.boxes)

        self.world.run(FAULTS_S + CALM_S_MAX, done=calm)
        if not calm():
            verdict.broken.append(f"not delivered {CALM_S_MAX:.0f} s after the last fault")
        reasons = set().union(*(COSTS.get(fault, set()) for fault in self._drawn))
        reasons |= {LossReason.THINNED, LossReason.EVICTED, LossReason.JOURNAL_FULL} if self._budget.is_tight else set()
        for name in sorted({box.name for box in self.boxes}):
            boxes = [box for box in self.boxes if box.name == name]
            taken = set().union(*(box.taken for box in boxes))
            excused = set().union(*(box.excused for box in boxes))
            given = merged(box.given for box in boxes)
            ledger = self.cloud.catalog.ledger(name)
            verdict.add(judge(name, taken, excused, self.cloud.stored(name), ledger, reasons, given))

    def _fault(self, kind: str, at: int) -> None:
        rng = random.Random(at)
        place = at % len(self.boxes)
        self._drawn.add(kind)
        self._story.append(f"{self.world.now:7.2f} s {kind} {self.boxes[place].name}")
        box, link = self.boxes[place], self.links[place]
        if not (self._network_fault(kind, box, link, rng) or self._gateway_fault(kind, box, rng)):
            self._cloud_fault(kind, rng)

    def _network_fault(self, kind: str, box: VirtualGateway, link: Link, rng: random.Random) -> bool:
        match kind:
            case "cut":
                link.cut(rng.uniform(0.2, 15.0))
            case "cut at answer":
                link.cut_at_answer()
            case "stall":
                link.stall(rng.uniform(5.0, 40.0))
            case "mute":
                link.go_mute(rng.uniform(5.0, 40.0), set(rng.choice([["up"], ["down"], ["up", "down"]])))
            case "echo acks":
                box.echo_acks(rng.uniform(5.0, 20.0))
            case "late acks":
                link.delay_answers(rng.uniform(5.0, 20.0), rng.uniform(1.0, 20.0))
            case _:
                return False
        return True

    def _gateway_fault(self, kind: str, box: VirtualGateway, rng: random.Random) -> bool:
        match kind:
            case "kill gateway":
                box.kill(rng.choice(["now", "before", "after"]), rng.uniform(0.1, 3.0))
            case "stop gateway":
                box.stop(rng.uniform(1.0, 20.0))
            case "cut power":
                box.cut_power(rng.choice(["now", "after"]), rng.uniform(1.0, 5.0))
            case "full disk":
                box.break_disk(State.FULL, rng.uniform(5.0, 60.0))
            case "failing disk":
                box.break_disk(State.FAILING, rng.uniform(0.5, 15.0))
            case "read-only disk":
                box.break_disk(State.READ_ONLY, rng.uniform(0.5, 15.0))
            case "flip bits":
                box.flip_bits(rng.choice([1, 1, 3, 20]), restart=rng.random() < 0.7)
            case "step clock":
                error_s = rng.choice([0.0, -3600.0, 3600.0, DECADE_S, -DECADE_S])
                box.step_clock(error_s, synchronised=rng.random() < 0.5)
            case "clone card":
                if len(self.boxes) < BOXES_MAX:
                    card = self._folder / f"card{len(self.boxes)}"
                    box.copy_card(card)
                    self._add(box.name, card)
            case _:
                return False
        return True

    def _cloud_fault(self, kind: str, rng: random.Random) -> None:
        seconds = rng.uniform(1.0, 20.0)
        match kind:
            case "kill cloud":
                self.cloud.kill(rng.choice(["now", "before", "before", "after"]), rng.uniform(0.1, 10.0))
            case "stop cloud":
                self.cloud.stop(seconds)
            case "cut power of cloud":
                self.cloud.kill("power", seconds)
            case "store down":
                self.cloud.store_weather(Weather.DOWN, seconds)
            case "store timeout":
                self.cloud.store_weather(Weather.TIMEOUT, seconds)
            case "store slow":
                self.cloud.store_slow(2 * seconds)
            case "catalog down":
                self.cloud.catalog_weather(Weather.DOWN, seconds)
            case "catalog timeout":
                self.cloud.catalog_weather(Weather.TIMEOUT, seconds)
            case "back up cloud":
                self.cloud.back_up()
            case "restore cloud":
                self.cloud.restore()
            case _:
                raise AssertionError(kind)


def run_virtual(seed: int, folder: Path, plant: Plant | None = None) -> TrialResult:
    """One trial in a folder of its own, which is made."""
    with _quiet(), watching() as make_disk, seeded_entropy(random.Random(f"entropy of {seed}")):
        return VirtualTrial(seed, folder, make_disk, plant).run()


@contextmanager
def _quiet() -> Iterator[None]:
    """The programs under test tell their log of every fault; here the checkers speak."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
