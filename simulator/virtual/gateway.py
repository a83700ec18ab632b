"""The real agent without its threads: recorder, writer and sync machine, driven by events. Its chips count."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from edge_agent.errors import AgentError, OutboxFull, StateBusy
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.opening import JOURNAL, OUTBOX
from edge_agent.outbox.options import KIB, OutboxOptions
from edge_agent.writer import Writer
from simulator.disk import Disk, State
from simulator.virtual.chips import PERIOD_S, Budget, Chips, values_of
from simulator.virtual.link import Link, Listener, Stream
from simulator.virtual.numbering import NumberedRecorder, Numbers
from simulator.virtual.world import MachineClock, Pause, World
from wire.clock import US_PER_S
from wire.messages import GatewayFrames
from wire.ranges import RangeSet
from wire.sync.frames import Ack, CloudFrame, GatewayFrame
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.outbox_view import OutboxView

TIGHT_BYTES = 820 * KIB  # 768 of it are WAL and reserve
ALARM_CONTEXT_S = 5.0  # before and after an alarm: a trial has a minute
RESTART_S = 2.0  # from the end of a failed process until its supervisor starts it again


class Machine(GatewaySync):
    """The real one; `careless` plants the mistake of deleting what was sent."""

    careless = False

    def pumped(self, view: OutboxView) -> None:
        """Frames were handed to the network."""
        if self.careless:
            for epoch, ranges in self.in_flight():
                view.acked(epoch, ranges)


class VirtualGateway:
    """One box: card, RAM, clock, process. `taken` is what its chips gave out and the agent accepted.

    A process that fails by itself is started again, as its supervisor would; nobody else lends a hand.
    """

    def __init__(
        self,
        world: World,
        name: str,
        folder: Path,
        link: Link,
        cloud: Listener,
        rng: random.Random,
        make_disk: Callable[[Path], Disk],
        *,
        numbers: list[int],
        careless: bool = False,
        card: Path | None = None,
        budget: Budget = Budget.ROOMY,
    ) -> None:
        """`numbers`: see `Chips`. `card`: whose copy this box has."""
        self.name = name
        self.taken: set[float] = set()
        self.given: Numbers = {}
        self.excused: set[float] = set()  # in RAM when the power went, and no older than the window that is printed
        self.sampling = True
        self.deaths: list[str] = []  # of processes that ended by themselves
        self._refused: set[float] = set()  # found the ring full, and no commit has said so yet
        self._chips = Chips(budget, numbers, rng)
        self._world, self._folder, self._link, self._cloud, self._rng = world, folder, link, cloud, rng
        self._careless = careless
        self._machine_id = f"machine-{folder.name}"
        self._options = OutboxOptions(
            commit_interval_s=rng.choice([2.0, 5.0]),
            journal_bytes=64 * KIB,
            wal_bytes=256 * KIB,
            bytes_max=TIGHT_BYTES if budget.is_tight else OutboxOptions().bytes_max,
            alarm_context_s=ALARM_CONTEXT_S,
        )
        self._sync_options = SyncOptions(batch_s=rng.choice([0.0, 15.0]), backoff_max_s=10.0)
        self._lives = self._boots = 0
        self._stream: Stream | None = None
        self._old_ack: Ack | None = None
        self._echo = 0.1  # how likely an old acknowledgement is heard again with each new one
        self._alive = False
        self._pause = Pause(world)
        folder.mkdir(parents=True)
        self._disk = make_disk(folder)
        if card is not None:
            shutil.copytree(card, self._state)
        self._boot()
        self._world.after(rng.uniform(0, self._chips.period_s), self._sample)

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
        self._pause.go_on()
        try:
            recorder = NumberedRecorder.open(
                self._state, self._runtime, self.clock, boot, self._machine_id, self._options
            )
        except AgentError as error:
            self._note(error)
            self._world.after(RESTART_S, self._start)
            return
        recorder.given = self.given
        self._recorder = recorder
        try:
            self._assemble(recorder)
        except AgentError as error:
            self._alive = True
            self._fail(error)
            return
        self._alive = True
        self._turn()
        self._connect()

    def _assemble(self, recorder: NumberedRecorder) -> None:
        for series_set, priority in self._chips.sets:
            recorder.register(series_set, priority)
        self._view = recorder.view()
        recorder.note(self._view.offers())
        self._writer = Writer(recorder, self._committed, self.clock)
        identity = Identity(self._machine_id.encode()[-16:], "0.1", "c1")
        self._sync = Machine(self._view, self._sync_options, identity, random.Random(self._rng.random()))
        self._sync.careless = self._careless

    # The line

    def _sample(self) -> None:
        self._world.after(self._chips.period_s, self._sample)
        if not self._alive or not self.sampling or self._pause.holds(lambda: None):
            return
        stamp_us = self.clock.boottime_ns() // 1000
        for tick in self._chips.read(stamp_us):
            given = values_of(tick)
            self.taken |= given
            if not self._recorder.has_room():
                self._refused |= given
            self._recorder.take([tick])
        if self._chips.raises():
            self._recorder.alarm()
        self._step()

    def _turn(self) -> None:
        """The writer's thread, as a chain of events that dies with its process."""
        recorder = self._recorder

        def again() -> None:
            if self._alive and recorder is self._recorder and not self._pause.holds(again):
                wait_s = self._step()
                self._world.after(min(max(wait_s, 0.01), 2.0), again)

        again()

    def _step(self) -> float:
        try:
            return self._writer.step()
        except AgentError as error:  # as in the agent: the writer's thread ends, and the agent with it
            self._fail(error)
            return 0.0

    def _committed(self) -> None:
        self._refused.clear()
        self._send(lambda: self._sync.committed(self._world.now))

    # Sync

    def _connect(self) -> None:
        if not self._alive or self._stream is not None or self._pause.holds(self._connect):
            return
        stream = self._link.open(self.name, self._cloud)
        if stream is None:
            self._sync.disconnected(self._world.now, "no way")
            self._again()
            return
        frames = GatewayFrames()
        stream.on_down = lambda data: self._received(stream, frames, data)
        stream.on_lost = lambda: self._lost(stream)
        self._stream, self._frames = stream, frames
        self._send(lambda: self._sync.connected(self._world.now))

    def _again(self) -> None:
        sync = self._sync
        self._world.at(sync.reconnect_at or 0.0, lambda: self._connect() if sync is self._sync else None)

    def _lost(self, stream: Stream) -> None:
        if stream is self._stream and not self._pause.holds(lambda: self._lost(stream)):
            self._stream = None
            self._sync.disconnected(self._world.now, "lost")
            self._again()

    def _received(self, stream: Stream, frames: GatewayFrames, data: bytes) -> None:
        if stream is not self._stream or self._pause.holds(lambda: self._received(stream, frames, data)):
            return
        frame: CloudFrame = frames.decode(data)
        self._send(lambda: self._sync.received(frame, self._world.now))
        if isinstance(frame, Ack):
            old = self._old_ack
            if old is not None and self._rng.random() < self._echo:
                self._send(lambda: self._sync.received(old, self._world.now))
            self._old_ack = frame

    def _send(self, ask: Callable[[], list[GatewayFrame]]) -> None:
        """Ask the machine, and carry what it says. What its view meets is treated as `SyncClient` does."""
        stream, sync = self._stream, self._sync
        try:
            frames = ask()
            if self._recorder.epoch not in self.given:  # it began with what an older one had
                self._recorder.note(self._view.offers())
            if stream is not None:
                for frame in frames:
                    stream.up(self._frames.encode(frame))
                sync.pumped(self._view)
        except (OutboxFull, StateBusy):
            if stream is not None:
                stream.hang_up()
                self._lost(stream)
            return
        except AgentError as error:
            self._fail(error)
            return
        if sync.wants_disconnect is not None and stream is not None:
            stream.hang_up()
            self._lost(stream)
        elif sync.wakeup is not None:
            self._world.at(sync.wakeup, lambda: self._tick(sync))

    def _tick(self, sync: GatewaySync) -> None:
        is_due = sync is self._sync and sync.wakeup is not None and sync.wakeup <= self._world.now
        if self._alive and is_due and not self._pause.holds(lambda: self._tick(sync)):
            self._send(lambda: sync.tick(self._world.now))

    # Faults

    def stop(self, seconds: float) -> None:
        """SIGSTOP for a while: nothing is sampled, committed, sent or heard."""
        if self._alive:
            self._pause.stop(seconds)

    def kill(self, kind: str, down_s: float) -> None:
        """SIGKILL "now", or in the middle of a commit: "before" or "after" its transaction, the ring not yet told."""
        if self._alive:
            self._next_life(kind)
            self._die(down_s, self._start)

    def cut_power(self, kind: str, down_s: float) -> None:
        """The journal is gone, and of what SQLite wrote only what it fsynced is sure. `kind` as in `kill`."""
        if self._alive:
            before = self._state
            self._excuse()
            self._next_life(kind)
            self._disk.after_power_cut(self._state, before, self._rng)
            shutil.rmtree(self._runtime)
            self._die(down_s, self._boot)

    def flip_bits(self, count: int, *, restart: bool) -> None:
        """Bits of the database change; met while the process runs, or at its next start, within the same boot."""
        if not self._alive:
            return
        if restart:
            self._next_life("now")
        path = self._state / OUTBOX
        with path.open("r+b") as file:
            for _ in range(count):
                at = self._rng.randrange(path.stat().st_size)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << self._rng.randrange(8)]))
        if restart:
            self._die(0.1, self._start)

    def break_disk(self, state: State, seconds: float) -> None:
        """The card is full, fails or is read-only for a while."""
        if state is State.FULL:
            self._disk.fill(self._rng.choice([0, 0, 3_000, 40_000]))
        else:
            self._disk.state = state
        self._world.after(seconds, self._disk.mend)

    def echo_acks(self, seconds: float) -> None:
        """Every acknowledgement is heard twice for a while, the second time after its successor."""
        self._echo = 1.0
        self._world.after(seconds, lambda: setattr(self, "_echo", 0.1))

    def copy_card(self, to: Path) -> None:
        """What a card reader gets."""
        shutil.copytree(self._state, to)

    def step_clock(self, seconds: float, *, synchronised: bool) -> None:
        """The wall clock is wrong by this from now on."""
        self.clock.wall_error_s = seconds
        self.clock.synchronised = synchronised

    def heal(self) -> None:
        """All that a fault broke works again."""
        self._disk.mend()

    def _next_life(self, kind: str) -> None:
        """The files that the next process finds."""
        old_state, old_runtime = self._state, self._runtime
        recorder = self._recorder
        self._lives += 1
        shutil.copytree(old_runtime, self._runtime)
        if kind == "after":
            self._writer.commit()
        if kind == "after" and recorder is not self._recorder:
            raise AssertionError("a commit that failed does not end the process")
        shutil.copytree(old_state, self._state)

    def _excuse(self) -> None:
        """What a power cut may cost now: the uncommitted records of the last seconds, as `status` prints them."""
        stats = self._recorder.stats()
        path = self._runtime / JOURNAL
        head = Journal.head(path)
        assert head is not None
        units = {series_set.id: series_set.stamp_unit.us for series_set, _ in self._chips.sets}
        waiting = [(tick.stamp * units[tick.set_id], tick) for tick in Journal.scan(path, head.outbox, head.committed)]
        newest = max((stamp for stamp, _ in waiting), default=0)
        oldest = newest - (stats.power_cut_window_s + PERIOD_S) * US_PER_S
        for stamp, tick in waiting:
            if stamp >= oldest:
                self.excused |= values_of(tick)
        self.excused |= self._refused
        self._refused.clear()

    def _fail(self, error: AgentError) -> None:
        """The process ends by itself."""
        if self._alive:
            self._note(error)
            self._next_life("now")
            self._die(RESTART_S, self._start)

    def _note(self, error: AgentError) -> None:
        text = str(error).replace(f"{self._folder}/", "")
        self.deaths.append(f"{self._world.now:7.2f} s {self.name} ended: {type(error).__name__}: {text}")

    def _die(self, down_s: float, restart: Callable[[], None]) -> None:
        self._alive = False
        self._old_ack = None
        self._recorder.abandon()
        if self._stream is not None:
            self._stream.hang_up()
            self._stream = None
        shutil.rmtree(self._folder / f"state-{self._lives - 1}")
        shutil.rmtree(self._folder / f"run-{self._lives - 1}")
        self._world.after(down_s, restart)

    def held(self) -> dict[int, RangeSet]:
        """What its outbox answers for, by epoch: atoms, and tombstones still to be sent. Nothing while it
        is down or its card does not read."""
        if not self._alive:
            return {}
        try:
            return {offer.epoch: offer.offered | offer.given_up for offer in self._view.offers()}
        except AgentError:  # the card is broken; the agent meets it by itself
            return {}

    def drained(self) -> bool:
        """Everything is committed and acknowledged."""
        if not self._alive:
            return False
        try:
            return (
                not self._recorder.stats().journal_ticks
                and not any(offer.offered or offer.given_up for offer in self._view.offers())
                and not self._view.tombstones(1)
                and not self._view.alarms(1)
            )
        except AgentError as error:
            self._fail(error)
            return False

    def end(self) -> None:
        """Of the trial."""
        if self._alive:
            self._recorder.abandon()
        self._alive = False
