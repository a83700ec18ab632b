"""The real agent without its threads: recorder, writer and sync machine, driven by events. Its chips count."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from edge_agent.outbox.options import KIB, OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.writer import Writer
from tests.sim.network import Link, Listener, Stream
from tests.sim.world import MachineClock, World
from wire.messages import GatewayFrames
from wire.reading import CellState, Priority, Tick
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType
from wire.sync.frames import Ack, CloudFrame, GatewayFrame
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.outbox_view import OutboxView

PERIOD_S = 0.5
PLAIN = SeriesSet(tuple(SeriesDef("oven", f"t{n}", "Cel", den=100) for n in range(3)))
FAST = SeriesSet((SeriesDef("arm", "x", "m/s2", ValueType.FLOAT64),), StampUnit.US)
LOW = SeriesSet((SeriesDef("hall", "rh", "%RH"), SeriesDef("hall", "co2", "ppm")))
ALARM = SeriesSet((SeriesDef("door", "open", "/"),))
SETS = ((PLAIN, Priority.NORMAL), (FAST, Priority.NORMAL), (LOW, Priority.LOW), (ALARM, Priority.ALARM))


class Machine(GatewaySync):
    """The real one; `careless` plants the mistake of deleting what was sent."""

    careless = False

    def pumped(self, view: OutboxView) -> None:
        if self.careless:
            for epoch, ranges in self.in_flight():
                view.acked(epoch, ranges)


class SimGateway:
    """One box: card, RAM, clock, process. `taken` is what its chips gave out and the journal holds."""

    def __init__(
        self,
        world: World,
        name: str,
        folder: Path,
        link: Link,
        cloud: Listener,
        rng: random.Random,
        *,
        numbers: list[int],
        careless: bool = False,
        card: Path | None = None,
    ) -> None:
        """`numbers`: the next value that no chip of this world has given out yet. `card`: whose copy this box has."""
        self.name = name
        self.taken: set[float] = set()
        self.excused: set[float] = set()  # in RAM when the power went
        self.sampling = True
        self._held: set[float] = set()  # in the journal and not yet committed
        self._numbers = numbers
        self._world, self._folder, self._link, self._cloud, self._rng = world, folder, link, cloud, rng
        self._careless = careless
        self._machine_id = f"machine-{folder.name}"
        self._options = OutboxOptions(
            commit_interval_s=rng.choice([2.0, 5.0]), journal_bytes=64 * KIB, wal_bytes=256 * KIB
        )
        self._sync_options = SyncOptions(batch_s=rng.choice([0.0, 15.0]), backoff_max_s=10.0)
        self._lives = self._boots = 0
        self._stream: Stream | None = None
        self._old_ack: Ack | None = None
        self._alive = False
        folder.mkdir(parents=True)
        if card is not None:
            shutil.copytree(card, self._state)
        self._boot()
        self._world.after(rng.uniform(0, PERIOD_S), self._sample)

    @property
    def _state(self) -> Path:
        return self._folder / f"state-{self._lives}"

    @property
    def _runtime(self) -> Path:
        return self._folder / f"run-{self._lives}"

    def _boot(self) -> None:
        self._boots += 1
        wrong = self._rng.choice([0.0, 0.0, -3e8, 4e7])
        self.clock = MachineClock(self._world, wrong)
        self._start()

    def _start(self) -> None:
        boot = f"{self._folder.name}-boot-{self._boots}"
        self._recorder = Recorder.open(self._state, self._runtime, self.clock, boot, self._machine_id, self._options)
        for series_set, priority in SETS:
            self._recorder.register(series_set, priority)
        self._view = self._recorder.view()
        self._writer = Writer(self._recorder, self._committed, self.clock)
        identity = Identity(self._machine_id.encode()[-16:], "0.1", "c1")
        self._sync = Machine(self._view, self._sync_options, identity, random.Random(self._rng.random()))
        self._sync.careless = self._careless
        self._alive = True
        self._turn()
        self._connect()

    # The line

    def _sample(self) -> None:
        self._world.after(PERIOD_S, self._sample)
        if not self._alive or not self.sampling:
            return
        stamp_us = self.clock.boottime_ns() // 1000
        for series_set, _ in SETS[: 4 if self._rng.random() < 0.05 else 3]:
            cells: list[int | float] = []
            states = bytearray()
            for series in series_set.series:
                self._numbers[0] += 1
                gap = self._rng.random() < 0.02
                states.append(CellState.NO_ANSWER if gap else CellState.VALUE)
                number = float(self._numbers[0]) if series.value_type is ValueType.FLOAT64 else self._numbers[0]
                cells.append(0 if gap else number)
            tick = Tick(series_set.id, stamp_us // series_set.stamp_unit.us, tuple(cells), bytes(states))
            self._recorder.take([tick])
            given = {float(n) for n, state in zip(cells, states) if state == CellState.VALUE}
            self.taken |= given
            self._held |= given
        if self._rng.random() < 0.01:
            self._recorder.alarm()
        self._step()

    def _turn(self) -> None:
        """The writer's thread, as a chain of events that dies with its process."""
        recorder = self._recorder

        def again() -> None:
            if self._alive and recorder is self._recorder:
                wait_s = self._step()
                self._world.after(min(max(wait_s, 0.01), 2.0), again)

        again()

    def _step(self) -> float:
        return self._writer.step()

    def _committed(self) -> None:
        self._held.clear()
        self._send(self._sync.committed(self._world.now))

    # Sync

    def _connect(self) -> None:
        if not self._alive or self._stream is not None:
            return
        stream = self._link.open(self.name, self._cloud)
        if stream is None:
            self._sync.disconnected(self._world.now, "no way")
            self._again()
            return
        frames = GatewayFrames()
        stream.on_down = lambda data: self._received(stream, frames.decode(data))
        stream.on_lost = lambda: self._lost(stream)
        self._stream, self._frames = stream, frames
        self._send(self._sync.connected(self._world.now))

    def _again(self) -> None:
        sync = self._sync
        self._world.at(sync.reconnect_at or 0.0, lambda: self._connect() if sync is self._sync else None)

    def _lost(self, stream: Stream) -> None:
        if stream is self._stream:
            self._stream = None
            self._sync.disconnected(self._world.now, "lost")
            self._again()

    def _received(self, stream: Stream, frame: CloudFrame) -> None:
        if stream is not self._stream:
            return
        self._send(self._sync.received(frame, self._world.now))
        if isinstance(frame, Ack):
            if self._old_ack is not None and self._rng.random() < 0.1:
                self._send(self._sync.received(self._old_ack, self._world.now))
            self._old_ack = frame

    def _send(self, frames: list[GatewayFrame]) -> None:
        stream, sync = self._stream, self._sync
        if stream is not None:
            for frame in frames:
                stream.up(self._frames.encode(frame))
            sync.pumped(self._view)
        if sync.wants_disconnect is not None and stream is not None:
            stream.hang_up()
            self._lost(stream)
        elif sync.wakeup is not None:
            self._world.at(sync.wakeup, lambda: self._tick(sync))

    def _tick(self, sync: GatewaySync) -> None:
        if self._alive and sync is self._sync and sync.wakeup is not None and sync.wakeup <= self._world.now:
            self._send(sync.tick(self._world.now))

    # Faults

    def kill(self, kind: str, down_s: float) -> None:
        """SIGKILL "now", or in the middle of a commit: "before" or "after" its transaction, the ring not yet told."""
        if not self._alive:
            return
        old_state, old_runtime = self._state, self._runtime
        self._lives += 1
        if kind == "after":
            shutil.copytree(old_runtime, self._runtime)
            self._writer.commit()
            shutil.copytree(old_state, self._state)
        else:
            shutil.copytree(old_runtime, self._runtime)
            shutil.copytree(old_state, self._state)
        self._die(down_s, self._start)

    def cut_power(self, down_s: float) -> None:
        """The journal is gone: what was not committed may be lost, and is the only thing that may."""
        if self._alive:
            self.excused |= self._held
            self._held.clear()
            self._lives += 1
            shutil.copytree(self._folder / f"state-{self._lives - 1}", self._state)
            self._die(down_s, self._boot)

    def _die(self, down_s: float, restart: object) -> None:
        self._alive = False
        self._old_ack = None
        self._recorder.abandon()
        if self._stream is not None:
            self._stream.hang_up()
            self._stream = None
        shutil.rmtree(self._folder / f"state-{self._lives - 1}")
        shutil.rmtree(self._folder / f"run-{self._lives - 1}")
        assert callable(restart)
        self._world.after(down_s, restart)

    def copy_card(self, to: Path) -> None:
        shutil.copytree(self._state, to)

    def step_clock(self, seconds: float, *, synchronised: bool) -> None:
        self.clock.wall_error_s = seconds
        self.clock.synchronised = synchronised

    def drained(self) -> bool:
        """Everything is committed and acknowledged."""
        return (
            self._alive
            and not self._held
            and not any(offer.offered for offer in self._view.offers())
            and not self._view.tombstones(1)
            and not self._view.alarms(1)
        )

    def stop(self) -> None:
        self._alive = False
        self._recorder.abandon()
