"""The real write path of the cloud in a world of events: sessions, queue, ingest, packs on a folder, SQLite catalog."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloud_sync.catalog.catalog import PackEntry, PackTicket
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.grpc_api.stream import merge_acks
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.ingest.queue import CommitQueue, Submission
from cloud_sync.metrics import Metrics
from cloud_sync.storage.local_store import LocalStore
from tests.sim.network import Stream
from tests.sim.world import MachineClock, World
from wire.codec import decode
from wire.messages import CloudFrames
from wire.ranges import RangeSet
from wire.reading import CellState
from wire.sync.cloud import AskHello, CloudSession, Ingest, StoreAlarms, StoreSeriesSets, StoreTombstones
from wire.sync.frames import CloudFrame
from wire.sync.outcomes import CatalogOutcome, Stored

PACK_S = (0.005, 0.05, 0.5)  # what a PUT and a commit take


class CloudKilled(Exception):
    """SIGKILL, in the middle of a pack."""


class KillableCatalog(SqlCatalog):
    """The real catalog; its process can be killed on either side of a commit."""

    kill = ""  # "before" or "after"

    def commit_pack(self, ticket: PackTicket, size: int, entries: Sequence[PackEntry]) -> list[CatalogOutcome]:
        if self.kill == "before":
            raise CloudKilled
        outcomes = super().commit_pack(ticket, size, entries)
        if self.kill == "after":
            raise CloudKilled
        return outcomes


@dataclass
class Session:
    stream: Stream
    machine: CloudSession
    frames: CloudFrames = field(default_factory=CloudFrames)

    def answer(self, frames: Sequence[CloudFrame]) -> None:
        for frame in merge_acks(list(frames)):
            self.stream.down(self.frames.encode(frame))


class SimCloud:
    """One replica. `ack_early` plants the mistake of acknowledging what is not committed."""

    def __init__(self, world: World, folder: Path, rng: random.Random, *, ack_early: bool = False) -> None:
        self.catalog: KillableCatalog
        self._world = world
        self._folder = folder
        self._ack_early = ack_early
        self._pack_s = rng.choice(PACK_S)
        self._clock = MachineClock(world)
        self._store = LocalStore(folder / "objects")
        self._lives = 0
        self._path = folder / "catalog-0" / "catalog.db"
        self._backup: Path | None = None
        self._up = False
        self.start()

    def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.catalog = KillableCatalog.open(self._path, self._clock)  # type: ignore[assignment]
        self._ingestor = Ingestor(self.catalog, self._store, self._clock, Metrics())
        self._queue: CommitQueue[tuple[Session, Ingest]] = CommitQueue()
        self._sessions: list[Session] = []
        self._due: float | None = None
        self._up = True

    def kill(self, kind: str, down_s: float) -> None:
        """`kind`: now, or with the next pack "before" or "after" its commit."""
        if not self._up:
            return
        if kind == "now":
            self._die(down_s)
        else:
            self.catalog.kill = kind
            self._down_s = down_s

    def _die(self, down_s: float) -> None:
        """What a SIGKILL leaves is the files as they are: the next life opens a copy of them."""
        self._up = False
        self._next_life(self._path.parent)
        for session in self._sessions:
            session.stream.lose()
            session.stream.cloud_open = False
        self.catalog.close()
        self._world.after(down_s, self.start)

    def _next_life(self, source: Path) -> None:
        self._lives += 1
        folder = self._folder / f"catalog-{self._lives}"
        shutil.copytree(source, folder)
        self._path = folder / "catalog.db"

    def back_up(self) -> None:
        if self._up and self._backup is None:
            self._backup = self._folder / "backup"
            shutil.copytree(self._path.parent, self._backup)

    def restore(self) -> None:
        """The catalog as it was at the backup, under a new generation."""
        if self._up and self._backup is not None:
            backup, self._backup = self._backup, None
            self._up = False
            for session in self._sessions:
                session.stream.lose()
                session.stream.cloud_open = False
            self.catalog.close()
            self._next_life(backup)
            shutil.rmtree(backup)
            self.start()
            self.catalog.begin_generation()

    def accept(self, stream: Stream) -> bool:
        if not self._up:
            return False
        session = Session(stream, CloudSession(stream.name))
        self._sessions = [each for each in self._sessions if each.stream.cloud_open] + [session]
        stream.on_up = lambda data: self._received(session, data)
        return True

    def _received(self, session: Session, data: bytes) -> None:
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
                self._queue.add(Submission(session.stream.name, effect.message, (session, effect)), self._world.now)
                if self._ack_early:
                    atoms = decode(effect.message.segment).atoms
                    ranges = RangeSet([(atom.first, atom.end) for atom in atoms])
                    session.answer([session.machine.resolved(effect, Stored(), ranges)])
                self._schedule()

    def _schedule(self) -> None:
        due = self._queue.due_s()
        if due is not None and due != self._due:
            self._due = due
            queue = self._queue
            self._world.at(due, lambda: self._take(queue))

    def _take(self, queue: CommitQueue[tuple[Session, Ingest]]) -> None:
        """A pack is due; what it takes to write it may be the cloud's last moments."""
        if queue is self._queue and self._up and len(queue):
            self._due = None
            batch = queue.take(self._world.now)
            self._world.after(self._pack_s, lambda: self._write(queue, batch))
            self._schedule()

    def _write(
        self, queue: CommitQueue[tuple[Session, Ingest]], batch: list[Submission[tuple[Session, Ingest]]]
    ) -> None:
        if queue is not self._queue or not self._up:
            return
        try:
            results = self._ingestor.write([(each.gateway, each.message) for each in batch])
        except CloudKilled:
            self._die(self._down_s)
            return
        answers: dict[int, tuple[Session, list[CloudFrame]]] = {}
        for submission, result in zip(batch, results):
            session, effect = submission.done
            if not self._ack_early:
                frame = session.machine.resolved(effect, result.outcome, result.atoms)
                answers.setdefault(id(session), (session, []))[1].append(frame)
        for session, frames in answers.values():
            session.answer(frames)

    def values(self, gateway: str) -> tuple[Counter[float], list[tuple[int, int, int, float]]]:
        """Every value that is stored, read back from the packs, and (epoch, series, stamp in us, value) of each."""
        found: Counter[float] = Counter()
        points: list[tuple[int, int, int, float]] = []
        sets = [one.id for one in self.catalog.series_sets(gateway)]
        for row in self.catalog.messages(gateway, sets, -(1 << 62), 1 << 62):
            segment = decode(self._store.get(row.pack_key, row.offset, row.length))
            for block in segment.blocks:
                for place, column in enumerate(block.columns):
                    good = slice(None) if block.states is None else block.states[place] == CellState.VALUE
                    stamps = block.stamps[good] * block.stamp_unit.us
                    found.update(column[good].tolist())
                    series = block.set_id ^ place
                    points += [(row.epoch, series, int(s), v) for s, v in zip(stamps, column[good].tolist())]
        return found, points
