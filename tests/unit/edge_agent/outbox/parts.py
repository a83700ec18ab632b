"""What the outbox' tests share: a clock that is set by hand, ticks, and a gateway's two directories."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.view import RecorderView
from wire.clock import NS_PER_S, SyncState
from wire.codec import decode
from wire.ranges import RangeSet
from wire.reading import CellState, Priority, Tick
from wire.series import SeriesDef, SeriesSet, ValueType
from wire.sync.outbox_view import StoredAtom

KIB = 1024
OPTIONS = OutboxOptions(journal_bytes=64 * KIB, wal_bytes=256 * KIB, bytes_max=64 * KIB * KIB)
EVERYTHING = (0, 1 << 62)


class Hands:
    """A `Clock` moved by hand."""

    def __init__(self, boottime_s: float = 100.0, wall_s: float = 1_700_000_000.0) -> None:
        self.boottime = round(boottime_s * NS_PER_S)
        self.offset = round(wall_s * NS_PER_S) - self.boottime
        self.state = SyncState(True, 500)

    def wall_ns(self) -> int:
        return self.boottime + self.offset

    def boottime_ns(self) -> int:
        return self.boottime

    def sync_state(self) -> SyncState:
        return self.state

    def sleep(self, seconds: float) -> None:
        self.boottime += round(seconds * NS_PER_S)


def series_set(columns: int = 3, name: str = "s", value_type: ValueType = ValueType.INT) -> SeriesSet:
    return SeriesSet(tuple(SeriesDef(name, f"c{at}", "Cel", value_type=value_type) for at in range(columns)))


def ticks(of: SeriesSet, count: int, start: int = 0) -> list[Tick]:
    """Ticks whose every value tells where it belongs: value = 1000 * stamp + column."""
    width = len(of.series)
    return [
        Tick(of.id, stamp, tuple(1000 * stamp + at for at in range(width))) for stamp in range(start, start + count)
    ]


def noise(of: SeriesSet, count: int, seed: int = 0) -> list[Tick]:
    """Ticks that do not compress."""
    chance = random.Random(seed)
    width = len(of.series)
    return [Tick(of.id, stamp, tuple(chance.getrandbits(62) for _ in range(width))) for stamp in range(count)]


class Gateway:
    """One machine with its directories; `start` is the agent's process, `reboot` the machine's."""

    running: ClassVar[set[Gateway]] = set()  # killed at the end of each test, by the fixture in conftest

    def __init__(self, root: Path, options: OutboxOptions = OPTIONS) -> None:
        self.root = root
        self.options = options
        self.clock = Hands()
        self.boot = 1
        self.machine = "machine-1"
        self.recorder: Recorder | None = None

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def runtime(self) -> Path:
        return self.root / f"run-{self.boot}"  # RAM: a reboot finds it empty

    @property
    def database(self) -> Path:
        return self.state / "outbox.db"

    def start(self, *sets: SeriesSet, priority: Priority = Priority.NORMAL) -> Recorder:
        self.recorder = Recorder.open(
            self.state, self.runtime, self.clock, f"boot-{self.boot}", self.machine, self.options
        )
        self.running.add(self)
        for each in sets:
            self.recorder.register(each, priority)
        return self.recorder

    def kill(self) -> None:
        """The process dies; RAM and disk stay."""
        if self.recorder is not None:
            self.recorder.abandon()
        self.recorder = None
        self.running.discard(self)

    def reboot(self) -> None:
        """Power goes; RAM with it."""
        self.kill()
        self.boot += 1
        self.clock.boottime = 10 * NS_PER_S


def waiting(view: RecorderView) -> list[StoredAtom]:
    """Every atom of every epoch, as the sync side is offered it."""
    return [
        atom for offer in view.offers() for atom in view.pending(offer.epoch, *EVERYTHING, None, RangeSet(), 1 << 40)
    ]


def values(atoms: Iterable[StoredAtom]) -> list[int | float]:
    """Every value in the atoms, sorted."""
    found: list[int | float] = []
    for atom in atoms:
        for block in decode(atom.data).blocks:
            for at, column in enumerate(block.columns):
                keep = slice(None) if block.states is None else block.states[at] == CellState.VALUE
                found += column[keep].tolist()
    return sorted(found)


def values_of(taken: Sequence[Tick]) -> list[int | float]:
    """Every value in ticks, sorted."""
    return sorted(
        value
        for tick in taken
        for at, value in enumerate(tick.raw)
        if tick.states is None or tick.states[at] == CellState.VALUE
    )
