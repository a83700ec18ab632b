"""A link of bytes per second and a backlog without end, in virtual time: what an alarm waits, and what a cut costs."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.requests import Requests
from edge_agent.outbox.view import RecorderView
from simulator.virtual.world import MachineClock, World
from tests.sim.memory_cloud import MemoryCloud
from tests.sim.memory_outbox import ANCHOR, Disk, MemoryOutbox
from wire.alarm import Phase
from wire.codec import read_header
from wire.messages import GatewayFrames
from wire.ranges import RangeSet
from wire.reading import Priority, Tick
from wire.series import SeriesDef, SeriesSet
from wire.sync.cloud import AskHello, CloudSession, Ingest, StoreAlarms, StoreSeriesSets, StoreTombstones
from wire.sync.flow import QUEUE_S, WINDOW_BYTES_MIN
from wire.sync.frames import CloudFrame, GatewayFrame, MessageFrame
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.outcomes import Stored

COMMIT_S = 0.1  # from a message's arrival to its ack


class Line:
    """One gateway, one cloud, and between them `rate` bytes per second and a delay each way."""

    def __init__(self, rate: float, delay_s: float) -> None:
        self.world = World()
        self.rate, self.delay_s = rate, delay_s
        self.free = 0.0  # when the last byte that was sent will have left
        self.numbers = 0
        self.outbox = MemoryOutbox(Disk(), 1, self.number, lambda atom: None)
        self.cloud = MemoryCloud(9)
        self.session = CloudSession("gw")
        self.frames = GatewayFrames()
        self.raised: dict[int, float] = {}
        self.waits: list[float] = []
        self.sync = GatewaySync(self.outbox, SyncOptions(), Identity(b"m", "0.1", "c"), random.Random(1))

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def commit(self, pairs: int) -> None:
        rng = random.Random(self.numbers)
        values = [rng.getrandbits(40) << 20 | self.number() for _ in range(2 * pairs)]
        self.outbox.commit(self.outbox.next_seq(), values, Priority.NORMAL, ANCHOR)

    def send(self, frames: list[GatewayFrame]) -> None:
        for frame in frames:
            size = len(self.frames.encode(frame))
            self.free = max(self.free, self.world.now) + size / self.rate
            self.world.at(self.free + self.delay_s, lambda frame=frame: self.arrive(frame))  # type: ignore[misc]
        wakeup = self.sync.wakeup
        assert self.sync.wants_disconnect is None
        if wakeup is not None:
            self.world.at(wakeup, self.tick)

    def tick(self) -> None:
        if self.sync.wakeup is not None and self.sync.wakeup <= self.world.now:
            self.send(self.sync.tick(self.world.now))

    def arrive(self, frame: GatewayFrame) -> None:
        match self.session.received(frame):
            case AskHello(hello):
                self.answer(0.0, self.session.welcome(self.cloud.hello(hello), 0))
            case StoreSeriesSets(sets):
                self.cloud.put_series_sets(sets)
            case StoreAlarms() as effect:
                self.waits += [self.world.now - self.raised.pop(alarm.id) for _, alarm in effect.alarms]
                self.answer(COMMIT_S, self.session.recorded(effect))
            case StoreTombstones() as effect:
                self.answer(COMMIT_S, self.session.recorded(effect))
            case Ingest() as effect:
                outcome, atoms = self.cloud.commit(effect.message)
                self.answer(COMMIT_S, self.session.resolved(effect, outcome, atoms))

    def answer(self, commit_s: float, frame: CloudFrame) -> None:
        self.world.after(commit_s + self.delay_s, lambda: self.send(self.sync.received(frame, self.world.now)))

    def alarm(self) -> None:
        number = self.number()
        self.outbox.alarm(number, Phase.RAISED, number)
        self.raised[number] = self.world.now
        self.send(self.sync.committed(self.world.now, alarm=True))


@pytest.mark.parametrize("rate", [2_000.0, 12_500.0])
@pytest.mark.parametrize("delay_s", [0.02, 0.6])
def test_bulk_never_hides_an_alarm(rate: float, delay_s: float) -> None:
    """It waits behind a second of bulk, or behind the least window where a second is less."""
    line = Line(rate, delay_s)
    backlog = 40 * rate
    while sum(len(atom.data) for atom in line.outbox.live.atoms.values()) < backlog:
        line.commit(60)
    line.send(line.sync.connected(0.0))
    for at in range(10, 35):
        line.world.at(float(at) + at / 40, line.alarm)
    line.world.run(35.0)
    sent = line.sync.status.bytes_sent
    line.world.run(60.0)
    assert sent > 0.6 * rate * 30, "the link is full all the time"
    assert line.raised == {}
    assert len(line.waits) == 25
    bound = 1.25 * max(QUEUE_S, WINDOW_BYTES_MIN / rate) + 2 * delay_s + COMMIT_S + 0.3
    assert max(line.waits) <= bound, f"{max(line.waits):.2f} s, over {bound:.2f}"


CHANNELS = SeriesSet(tuple(SeriesDef("press", f"c{n}", "bar", den=100) for n in range(50)))
TICKS = 20_000  # of 50 cells: a million


@pytest.fixture(scope="module")
def backlog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A million readings in a real outbox, in 400 atoms."""
    folder = tmp_path_factory.mktemp("backlog")
    options = OutboxOptions(journal_bytes=1 << 20)
    clock = MachineClock(World())
    recorder = Recorder.open(folder / "state", folder / "run", clock, "boot", "machine", options)
    recorder.register(CHANNELS)
    for first in range(0, TICKS, 50):
        recorder.take([Tick(CHANNELS.id, at * 100, tuple(range(at, at + 50))) for at in range(first, first + 50)])
        recorder.commit()
    yield folder / "state" / "outbox.db"
    recorder.abandon()


class Uphill:
    """Drains the backlog; what is on its way when a stream is cut is lost, both ways."""

    def __init__(self, view: RecorderView, seed: int) -> None:
        self.sync = GatewaySync(view, SyncOptions(), Identity(b"m", "0.1", "c"), random.Random(seed))
        self.rng = random.Random(seed)
        self.cloud = MemoryCloud(9)
        self.sent = self.lost = 0  # cells
        self.now = 0.0

    def stream(self, turns: int) -> bool:
        """One connection that lasts so many frames; True when nothing is left."""
        session = CloudSession("gw")
        up: deque[GatewayFrame] = deque(self.sync.connected(self.now))
        down: deque[CloudFrame] = deque()
        while turns and (up or down):
            turns -= 1
            self.now += 0.01
            if up and (not down or self.rng.random() < 0.6):
                down.extend(self.arrive(session, up.popleft()))
            else:
                up.extend(self.sync.received(down.popleft(), self.now))
        self.lost += sum(cells_of(frame).count for frame in up if isinstance(frame, MessageFrame))
        self.sync.disconnected(self.now)
        self.now += 100.0
        return not up and not down

    def arrive(self, session: CloudSession, frame: GatewayFrame) -> list[CloudFrame]:
        match session.received(frame):
            case AskHello(hello):
                return [session.welcome(self.cloud.hello(hello), 0)]
            case StoreSeriesSets(sets):
                self.cloud.put_series_sets(sets)
            case Ingest(message) as effect:
                cells, stored = cells_of(message), self.cloud.of(message.epoch).stored
                assert not any(stored.overlaps(first, end) for first, end in cells), "it had been told of these"
                self.sent += cells.count
                self.cloud.of(message.epoch).store([*cells])
                return [session.resolved(effect, Stored(), cells)]
        return []


def cells_of(message: MessageFrame) -> RangeSet:
    return RangeSet([(atom.first, atom.end) for atom in read_header(message.segment).atoms])


@pytest.mark.parametrize("seed", range(3))
def test_a_large_backlog_goes_on_where_it_was_cut(backlog: Path, seed: int) -> None:
    """A million readings, cut at random places: what had arrived is not sent again, acknowledged or not."""
    rng = random.Random(seed)
    view = RecorderView(backlog, Requests(), lambda: (), lambda generation, gone: None, lambda covered: None)
    uphill = Uphill(view, seed)
    cuts = 0
    while not uphill.stream(rng.choice([1, 2, 4, 7])):  # frames
        cuts += 1
        assert cuts < 500
    view.close()
    assert cuts >= 5
    assert uphill.sent == TICKS * 50
    (coverage,) = uphill.cloud.coverage.values()
    assert coverage.stored == RangeSet([(0, TICKS * 50)])
    assert 0 < uphill.lost < cuts * 2**20, "what was on its way, and no more"
