"""The real write path of the cloud in a world of events: sessions, queue, ingest, packs on a folder, SQLite catalog."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloud_sync.errors import CloudError
from cloud_sync.grpc_api.stream import merge_acks
from cloud_sync.ingest.ingestor import Ingestor, Resolved
from cloud_sync.ingest.queue import CommitQueue, Submission
from cloud_sync.metrics import Metrics
from cloud_sync.storage.local_store import LocalStore
from simulator.disk import Disk
from simulator.lab.stored import Stored, stored_of
from simulator.virtual.link import Stream
from simulator.virtual.store import CloudKilled, StormyCatalog, StormyStore, Weather
from simulator.virtual.world import MachineClock, Pause, World
from wire.codec import decode
from wire.messages import CloudFrames
from wire.ranges import RangeSet
from wire.sync import outcomes
from wire.sync.cloud import AskHello, CloudSession, Ingest, StoreAlarms, StoreSeriesSets, StoreTombstones
from wire.sync.frames import CloudFrame

PACK_S = (0.005, 0.05, 0.5)  # what a PUT and a commit take
SLOW_PACK_S = 8.0  # on a store's slow days: longer than most stall timers' patience


@dataclass
class Session:
    """One stream and its half of the protocol."""

    stream: Stream
    machine: CloudSession
    frames: CloudFrames = field(default_factory=CloudFrames)

    def answer(self, frames: Sequence[CloudFrame]) -> None:
        """Send."""
        for frame in merge_acks(list(frames)):
            self.stream.down(self.frames.encode(frame))


Waiting = tuple[Session, Ingest, float]  # since when


class VirtualCloud:
    """One replica. `ack_early` plants the mistake of acknowledging what is not committed."""

    def __init__(
        self,
        world: World,
        folder: Path,
        rng: random.Random,
        make_disk: Callable[[Path], Disk],
        *,
        ack_early: bool = False,
    ) -> None:
        self.catalog: StormyCatalog
        self._world = world
        self._folder = folder
        self._ack_early = ack_early
        self._pack_s = rng.choice(PACK_S)
        self._rng = random.Random(rng.random())
        self._clock = MachineClock(world)
        self._store = StormyStore(LocalStore(folder / "objects"))
        self._disk = make_disk(folder)
        self._pause = Pause(world)
        self._slow_until = 0.0
        self._lives = 0
        self._path = folder / "catalog-0" / "catalog.db"
        self._backup: Path | None = None
        self._up = False
        self._start()

    def _start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.catalog = StormyCatalog.open(self._path, self._clock)  # type: ignore[assignment]
        self._ingestor = Ingestor(self.catalog, self._store, self._clock, Metrics())
        self._queue: CommitQueue[Waiting] = CommitQueue()
        self._sessions: list[Session] = []
        self._due: float | None = None
        self._pause.go_on()
        self._up = True

    # Faults

    def kill(self, kind: str, down_s: float) -> None:
        """SIGKILL: `kind` now, or with the next pack "before" or "after" its commit. "power": the power goes."""
        if not self._up:
            return
        if kind in ("now", "power"):
            self._die(down_s, power=kind == "power")
        else:
            self.catalog.kill = kind
            self._down_s = down_s

    def stop(self, seconds: float) -> None:
        """SIGSTOP for a while: connections stay, nobody answers."""
        self._pause.stop(seconds)

    def store_weather(self, weather: Weather, seconds: float) -> None:
        """The object store is down, or does what it is asked and does not say so."""
        self._store.weather = weather
        self._world.after(seconds, lambda: setattr(self._store, "weather", Weather.FAIR))

    def store_slow(self, seconds: float) -> None:
        """Every pack takes long."""
        self._slow_until = self._world.now + seconds

    def catalog_weather(self, weather: Weather, seconds: float) -> None:
        """The database is down, or commits and does not say so."""
        catalog = self.catalog
        catalog.weather = weather
        self._world.after(seconds, lambda: setattr(catalog, "weather", Weather.FAIR))

    def back_up(self) -> None:
        """Once, until it is restored."""
        if self._up and self._backup is None:
            self._backup = self._folder / "backup"
            shutil.copytree(self._path.parent, self._backup)

    def restore(self) -> None:
        """The catalog as it was at the backup, under a new generation."""
        if self._up and self._backup is not None:
            backup, self._backup = self._backup, None
            self._up = False
            self._break_streams()
            self.catalog.close()
            self._next_life(backup)
            shutil.rmtree(backup)
            self._start()
            self.catalog.begin_generation()

    def heal(self) -> None:
        """All that a fault broke works again, unless it is on its way there."""
        self._store.weather = self.catalog.weather = Weather.FAIR
        self.catalog.kill = ""
        self._slow_until = 0.0

    def _die(self, down_s: float, *, power: bool = False) -> None:
        """What a SIGKILL leaves is the files as they are: the next life opens a copy of them."""
        self._up = False
        before = self._path.parent
        self._next_life(before)
        if power:
            self._disk.after_power_cut(self._path.parent, before, self._rng)
        self._break_streams()
        self.catalog.close()
        self._world.after(down_s, self._start)

    def _break_streams(self) -> None:
        for session in self._sessions:
            session.stream.lose()
            session.stream.cloud_open = False

    def _next_life(self, source: Path) -> None:
        self._lives += 1
        folder = self._folder / f"catalog-{self._lives}"
        shutil.copytree(source, folder)
        self._path = folder / "catalog.db"

    # Streams

    def accept(self, stream: Stream) -> bool:
        """See `Listener`. A stopped process' machine still takes connections."""
        if not self._up:
            return False
        session = Session(stream, CloudSession(stream.name))
        self._sessions = [each for each in self._sessions if each.stream.cloud_open] + [session]
        stream.on_up = lambda data: self._received(session, data)
        return True

    def _received(self, session: Session, data: bytes) -> None:
        if not session.stream.cloud_open or self._pause.holds(lambda: self._received(session, data)):
            return
        try:
            self._carry_out(session, data)
        except CloudError:
            self._refuse(session)

    def _carry_out(self, session: Session, data: bytes) -> None:
        match session.machine.received(session.frames.decode(data)):
            case AskHello(hello):
                answer = self.catalog.hello(session.stream.name, hello)
                session.answer([session.machine.welcome(answer, self._clock.wall_ns() // 1000)])
            case StoreSeriesSets(sets):
                self._ingestor.put_series_sets(session.stream.name, sets)
            case StoreTombstones() as effect:
                self._ingestor.record_tombstones(session.stream.name, effect.tombstones)
                session.answer([session.machine.recorded(effect)])
            case StoreAlarms() as effect:
                self._ingestor.record_alarms(session.stream.name, effect.alarms)
                session.answer([session.machine.recorded(effect)])
            case Ingest() as effect:
                self._queue.add(
                    Submission(session.stream.name, effect.message, (session, effect, self._world.now)), self._world.now
                )
                if self._ack_early:
                    atoms = decode(effect.message.segment).atoms
                    ranges = RangeSet([(atom.first, atom.end) for atom in atoms])
                    session.answer([session.machine.resolved(effect, outcomes.Stored(), ranges)])
                self._schedule()

    def _refuse(self, session: Session) -> None:
        """What could not be made durable ends its stream, without an answer."""
        session.stream.lose()
        session.stream.cloud_open = False

    def _schedule(self) -> None:
        due = self._queue.due_s()
        if due is not None and due != self._due:
            self._due = due
            queue = self._queue
            self._world.at(due, lambda: self._take(queue))

    def _take(self, queue: CommitQueue[Waiting]) -> None:
        """A pack is due; what it takes to write it may be the cloud's last moments."""
        if self._pause.holds(lambda: self._take(queue)):
            return
        if queue is self._queue and self._up and len(queue):
            self._due = None
            batch = queue.take(self._world.now)
            seconds = SLOW_PACK_S if self._world.now < self._slow_until else self._pack_s
            self._world.after(seconds, lambda: self._write(queue, batch))
            self._schedule()

    def _write(self, queue: CommitQueue[Waiting], batch: list[Submission[Waiting]]) -> None:
        if self._pause.holds(lambda: self._write(queue, batch)):
            return
        if queue is not self._queue or not self._up:
            return
        try:
            results = self._ingestor.write([(each.gateway, each.message) for each in batch])
        except CloudKilled:
            self._die(self._down_s)
        except CloudError:
            for session in {id(each.done[0]): each.done[0] for each in batch}.values():
                self._refuse(session)
        else:
            if not self._ack_early:
                self._answer(batch, results)

    def _answer(self, batch: Sequence[Submission[Waiting]], results: Sequence[Resolved]) -> None:
        answers: dict[int, tuple[Session, list[CloudFrame]]] = {}
        for submission, result in zip(batch, results):
            session, effect, came = submission.done
            frame = session.machine.resolved(effect, result.outcome, result.atoms, self._world.now - came)
            answers.setdefault(id(session), (session, []))[1].append(frame)
        for session, frames in answers.values():
            session.answer(frames)

    # What is stored

    def stored(self, gateway: str) -> Stored:
        """Read back from the packs."""
        return stored_of(self.catalog, self._store, gateway)
