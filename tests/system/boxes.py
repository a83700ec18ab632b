"""Gateways whose card and machine are apart: cards are copied, put back, wiped; machines reboot, clocks go wrong."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cloud_sync.data_folder import DataFolder, open_parts
from edge_agent.outbox.opening import OUTBOX
from simulator.lab.cloud import LabCloud
from simulator.lab.count import Cycle
from simulator.lab.counter import CounterSensors, CountingUnit
from simulator.lab.gateway import LabGateway, Plan
from simulator.lab.processes import Process
from simulator.lab.stored import Stored, stored_of
from tests.system.other_machine import OtherMachine
from wire.clock import SystemClock

NAME = "gw"
INTERVAL = "40ms"
COMMIT = "300ms"
WAIT_S = 60.0
NUMBERS_APART = 1_000_000  # no two boxes give out the same


class _Counter(CounterSensors):
    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.line = CountingUnit(seed * NUMBERS_APART)


class Box(LabGateway):
    """One machine with a card. `state/` is the card, `run/` the RAM."""

    def __init__(self, folder: Path, library: Path, number: int) -> None:
        super().__init__(Plan(NAME, sensors=_Counter, interval=INTERVAL, commit_interval=COMMIT, batch="0s"), folder,
                         number)  # fmt: skip
        self.machine = OtherMachine(folder / "machine", library)

    @property
    def card(self) -> Path:
        return self.folder / "state"

    def launch(self) -> None:
        self._process = Process(self.plan.name, self._command(), self.log, self.machine.environment)

    def restart(self, cloud: LabCloud) -> None:
        """The agent ends in order and starts anew, in the same boot; the cloud has another port."""
        assert self._process is not None
        self._process.stop(60.0)
        self.look()
        self.configure(cloud.grpc_port)
        self.start()

    def power_off(self) -> None:
        """The process is gone and the RAM is empty; a look at the journal comes first."""
        self.kill()
        shutil.rmtree(self.folder / "run")

    def copy_card(self, to: Path) -> None:
        """Only while it is off: a copy of a running card is another matter."""
        shutil.copytree(self.card, to)

    def put_card(self, image: Path) -> None:
        shutil.rmtree(self.card, ignore_errors=True)
        shutil.copytree(image, self.card)

    def wipe_card(self) -> None:
        """Everything but who it is."""
        for path in self.card.glob(f"{OUTBOX}*"):
            path.unlink()

    def taken(self) -> set[int]:
        """Every number that the journal was seen to hold."""
        return numbers(self.journalled())

    def look(self) -> set[int]:
        """The same after another look."""
        self._look_at_journal()
        return self.taken()

    def finish(self) -> set[int]:
        """The sensor falls silent, the agent ends in order and delivers; all that was taken."""
        assert isinstance(self.sensors, CounterSensors)
        self.sensors.quiet()
        assert self._process is not None
        self._process.stop(60.0)
        self._look_at_journal()
        return self.taken()


def numbers(cycles: set[Cycle]) -> set[int]:
    return {int(number) for cycle in cycles for number in cycle}


@contextmanager
def site(folder: Path, library: Path, boxes: int) -> Iterator[tuple[LabCloud, list[Box]]]:
    """A cloud and so many boxes, all of one name; the first has joined. None is started."""
    with ExitStack() as stack:
        cloud = LabCloud(folder / "cloud")
        cloud.initialise()
        cloud.start()
        stack.callback(cloud.stop)
        made = [Box(folder / f"box{at}", library, at) for at in range(boxes)]
        for box in made:
            stack.callback(box.machine.close)
            stack.callback(box.stop)
            box.configure(cloud.grpc_port)
        made[0].join(cloud.token(1))
        yield cloud, made


def stored(cloud: LabCloud) -> Stored:
    """Read back from the packs."""
    catalog, store = open_parts(DataFolder(cloud.folder), SystemClock())
    try:
        return stored_of(catalog, store, NAME)
    finally:
        catalog.close()


def values(cloud: LabCloud) -> Counter[float]:
    return stored(cloud).values


def wait_for_more(cloud: LabCloud, more: int = 60) -> None:
    """Until so many readings have come on top of what is stored."""
    before = cloud.stored().get(NAME, 0)
    wait(cloud, lambda: cloud.stored().get(NAME, 0) >= before + more)


def wait(cloud: LabCloud, condition: Callable[[], bool]) -> None:
    assert cloud.wait_for(condition, WAIT_S)
