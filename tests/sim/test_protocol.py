"""Two state machines and everything that can go wrong between them, driven by hypothesis.

Boxes (gateways of one identity: a clone shares it) commit values that exist once in the world. Streams carry real
bytes; what a gateway gave up may still arrive; the cloud commits messages later, in any order, and may be killed in
between; acks come late, twice and out of order; cards are copied and put back, and so is the cloud.
"""

from __future__ import annotations

import random
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.sim.memory_cloud import MemoryCloud
from tests.sim.memory_outbox import ANCHOR, Disk, MemoryOutbox
from wire.alarm import AlarmKey, Phase
from wire.clock import Anchor
from wire.codec import read_header
from wire.errors import SegmentCorrupt, UnsupportedFormat
from wire.messages import CloudFrames, GatewayFrames
from wire.ranges import RangeSet
from wire.reading import Priority
from wire.sync.cloud import (
    AskHello,
    CloudSession,
    Ingest,
    SessionOptions,
    StoreAlarms,
    StoreSeriesSets,
    StoreTombstones,
)
from wire.sync.frames import (
    Ack,
    CloudFrame,
    GatewayFrame,
    Hello,
    MessageFrame,
    SeriesSetsFrame,
    TombstonesFrame,
    Welcome,
)
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.leave import Leave
from wire.sync.outbox_view import StoredAtom

pytestmark = pytest.mark.timeout(600)  # 120 stories of 30 steps, on a machine that does other things too

BOXES_MAX = 3
OTHER_ANCHOR = Anchor(2_000_000, 1_700_000_009_000_000, False, 0)
STORM = {  # weights
    "commit": 16,
    "alarm": 4,
    "connect": 12,
    "up": 20,
    "cloud": 12,
    "down": 20,
    "disconnect": 6,
    "late_ack": 2,
    "wait": 1,
    "kill": 2,
    "turn_valve": 2,
    "evict": 2,
    "rot": 1,
    "keep_copy": 2,
    "put_copy_back": 1,
    "cloud_backup": 1,
    "cloud_restored": 0.5,
}
pick = st.integers(0, 1 << 16)


@dataclass
class Stream:
    """One connection: bytes both ways, and the cloud's session. It outlives the gateway's end of it."""

    session: CloudSession
    up: deque[bytes] = field(default_factory=deque)
    down: list[bytes] = field(default_factory=list)
    at_gateway: GatewayFrames = field(default_factory=GatewayFrames)
    at_cloud: CloudFrames = field(default_factory=CloudFrames)


@dataclass
class Valve:
    """A governor that the test turns."""

    bulk: bool = True
    alarms: bool = True

    def leave(self, now: float) -> Leave:
        return Leave(self.bulk, self.alarms, why="shut")

    def told_time(self, server_time_us: int, now: float) -> None:
        """Nobody asks."""


@dataclass
class Box:
    """One gateway."""

    machine: int
    boot: int
    outbox: MemoryOutbox
    sync: GatewaySync
    ram_lsn: int = 0
    stream: Stream | None = None
    old_acks: list[Ack] = field(default_factory=list)
    backups: list[Disk] = field(default_factory=list)
    unproven: bool = False  # put back to an older state that nothing in RAM tells of, and not yet welcomed


class Protocol(RuleBasedStateMachine):
    """See the module."""

    @initialize(seed=st.integers(0, 1 << 32))
    def start(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.counter = 0
        self.cloud = MemoryCloud(self.number())
        self.cloud_backups: list[MemoryCloud] = []
        self.zombies: list[Stream] = []
        self.uncommitted: list[tuple[Stream, Ingest]] = []
        self.seen: dict[int, RangeSet] = {}
        self.alarms_restored: set[AlarmKey] = set()  # acknowledged, then lost with the cloud's newest state
        self.valves: dict[int, Valve] = {}  # by machine
        self.boxes = [self.box(Disk())]

    def number(self) -> int:
        self.counter += 1
        return self.counter

    def box(self, disk: Disk) -> Box:
        machine, boot = self.number(), self.number()
        outbox = self.outbox(disk, boot, 0)
        return Box(machine, boot, outbox, self.machine(outbox, machine), ram_lsn=outbox.disk.lsn)

    def outbox(self, disk: Disk, boot: int, ram_lsn: int) -> MemoryOutbox:
        in_use = self.rng.random() < 0.5  # else the definitions are those of an older config: NeedSeries
        return MemoryOutbox(disk, boot, self.number, self.may_delete, ram_lsn=ram_lsn, in_use=in_use)

    def machine(self, outbox: MemoryOutbox, machine: int) -> GatewaySync:
        options = SyncOptions(batch_s=self.rng.choice([0.0, 30.0]))
        identity = Identity(machine.to_bytes(16, "big"), "0.1", "c1")
        valve = self.valves.setdefault(machine, Valve())
        return GatewaySync(outbox, options, identity, random.Random(self.rng.random()), valve)

    def may_delete(self, atom: StoredAtom) -> None:
        assert self.cloud.of(atom.epoch).stored.contains(atom.first, atom.end), f"deleted {atom.first}, not durable"

    def chosen(self, at: int) -> Box:
        return self.boxes[at % len(self.boxes)]

    def send(self, box: Box, frames: list[GatewayFrame]) -> None:
        assert box.stream is not None or not frames
        valve = self.valves[box.machine]
        for frame in frames:
            bulk = isinstance(frame, TombstonesFrame)
            if isinstance(frame, MessageFrame):
                with suppress(SegmentCorrupt, UnsupportedFormat):
                    bulk = read_header(frame.segment).priority is not Priority.ALARM
            assert valve.bulk or not bulk, "bulk left although it may not"
            assert valve.alarms or isinstance(frame, Hello | SeriesSetsFrame), "something left although nothing may"
        if box.stream is not None:
            box.stream.up.extend(box.stream.at_gateway.encode(frame) for frame in frames)
        if box.sync.wants_disconnect is not None:
            self.hang_up(box)

    def hang_up(self, box: Box) -> None:
        if box.stream is not None:
            self.zombies.append(box.stream)
            box.stream = None
            box.sync.disconnected(self.now)
            assert box.sync.reconnect_at is not None
            assert self.now <= box.sync.reconnect_at <= self.now + 60.0

    # What gateways do

    @rule(at=pick, pairs=st.lists(st.integers(1, 3), min_size=1, max_size=3), priority=st.sampled_from(Priority))
    def commit(self, at: int, pairs: list[int], priority: Priority) -> None:
        box = self.chosen(at)
        epoch = box.outbox.live.epochs[-1]
        if box.unproven and epoch.next_seq + 2 * sum(pairs) >= self.cloud.of(epoch.id).end:
            return  # past the cloud's coverage, nothing could tell that numbers were given twice
        for size in pairs:
            values = [self.number() for _ in range(2 * size)]
            anchor = ANCHOR if at % 5 else OTHER_ANCHOR
            box.outbox.commit(box.outbox.next_seq(), values, priority, anchor)
        box.ram_lsn = box.outbox.disk.lsn
        self.send(box, box.sync.committed(self.now, alarm=priority is Priority.ALARM))

    @rule(at=pick)
    def alarm(self, at: int) -> None:
        """One alarm is raised, or the last one of this box grows or ends."""
        box = self.chosen(at)
        number = self.number()
        box.outbox.alarm(number if at % 3 else max(1, number - 1), Phase(1 + at % 3), number)
        box.ram_lsn = box.outbox.disk.lsn
        self.send(box, box.sync.committed(self.now, alarm=True))

    @rule(at=pick)
    def connect(self, at: int) -> None:
        box = self.chosen(at)
        if box.stream is None and box.sync.wants_stream(self.now):
            session = CloudSession("gw", SessionOptions(self.rng.choice([200, 4000])))
            box.stream = Stream(session)
            self.send(box, box.sync.connected(self.now))

    @rule(at=pick, bulk=st.booleans(), alarms=st.booleans())
    def turn_valve(self, at: int, bulk: bool, alarms: bool) -> None:
        """A pause, a window, a data plan."""
        box = self.chosen(at)
        valve = self.valves[box.machine]
        valve.bulk, valve.alarms = bulk, alarms or bulk
        self.send(box, box.sync.tick(self.now))

    @rule(at=pick)
    def disconnect(self, at: int) -> None:
        self.hang_up(self.chosen(at))

    @rule(at=pick, seconds=st.sampled_from([1.0, 31.0, 200.0]))
    def wait(self, at: int, seconds: float) -> None:
        self.now += seconds
        for box in self.boxes:
            self.send(box, box.sync.tick(self.now))

    @rule(at=pick)
    def kill(self, at: int) -> None:
        """SIGKILL: writes that no commit followed are taken back; RAM and boot stay."""
        box = self.chosen(at)
        if not box.unproven:
            self.begin(box, box.outbox.disk)

    @rule(at=pick)
    def reboot(self, at: int) -> None:
        box = self.chosen(at)
        if not box.unproven:
            box.boot, box.ram_lsn = self.number(), 0
            self.begin(box, box.outbox.disk)

    def begin(self, box: Box, disk: Disk) -> None:
        self.hang_up(box)
        box.outbox = self.outbox(disk, box.boot, box.ram_lsn)
        box.ram_lsn = box.outbox.disk.lsn
        box.sync = self.machine(box.outbox, box.machine)
        box.old_acks.clear()  # a stream dies with its process

    @rule(at=pick)
    def keep_copy(self, at: int) -> None:
        box = self.chosen(at)
        if not box.unproven:
            box.backups = [box.outbox.disk.copy(), *box.backups][:3]

    @rule(at=pick, wiped=st.booleans())
    def put_copy_back(self, at: int, wiped: bool) -> None:
        """An older state of the card returns within the same boot; `wiped`: and the RAM disk is empty.

        With the RAM disk gone too, only the cloud's coverage can tell that numbers are given a second time, and it
        cannot where both lives of an epoch still have something to send: no clone, no second copy, nothing on its way.
        """
        box = self.chosen(at)
        if not box.backups or box.unproven or (wiped and len(self.boxes) > 1):
            return
        disk = box.backups[at % len(box.backups)].copy()
        self.hang_up(box)
        if wiped:
            box.ram_lsn = 0
            box.backups.clear()
            self.zombies.clear()
            self.uncommitted.clear()
            box.unproven = disk.epochs[-1].boot == box.boot
        self.begin(box, disk)

    @precondition(lambda self: len(self.boxes) < BOXES_MAX)
    @rule(at=pick)
    def clone(self, at: int) -> None:
        box = self.chosen(at)
        if not box.unproven:
            self.boxes.append(self.box(box.outbox.disk.copy()))

    @rule(at=pick, number=st.integers(1, 3))
    def evict(self, at: int, number: int) -> None:
        box = self.chosen(at)
        busy = dict(box.sync.in_flight())
        free = [
            key
            for key, atom in sorted(box.outbox.live.atoms.items())
            if not busy.get(atom.epoch, RangeSet()).overlaps(atom.first, atom.end)
        ]
        if not box.unproven:
            box.outbox.evict(free[:number])
            box.ram_lsn = box.outbox.disk.lsn

    @rule(at=pick)
    def rot(self, at: int) -> None:
        """A bit of the card flips under an atom."""
        live = self.chosen(at).outbox.live
        if live.atoms:
            key = sorted(live.atoms)[at % len(live.atoms)]
            data = bytearray(live.atoms[key].data)
            data[at % len(data)] ^= 4
            live.atoms[key] = replace(live.atoms[key], data=bytes(data))

    # What the network does

    @rule(at=pick, frames=st.integers(1, 8))
    def carry_up(self, at: int, frames: int) -> None:
        streams = [box.stream for box in self.boxes if box.stream is not None] + self.zombies
        streams = [stream for stream in streams if stream.up]
        if streams:
            stream = streams[at % len(streams)]
            for _ in range(min(frames, len(stream.up))):
                self.take(stream, stream.up.popleft())

    @rule(at=pick, frames=st.integers(1, 8), twice=st.booleans())
    def carry_down(self, at: int, frames: int, twice: bool) -> None:
        """Welcome first; after it any order, and sometimes twice."""
        waiting = [box for box in self.boxes if box.stream is not None and box.stream.down]
        if not waiting:
            return
        box = waiting[at % len(waiting)]
        for turn in range(frames):
            if box.stream is None or not box.stream.down:
                return
            place = (at + turn) % len(box.stream.down)
            frame = box.stream.at_gateway.decode(box.stream.down[place])
            if not twice or isinstance(frame, Welcome):
                box.stream.down.pop(place)
            self.hear(box, frame)

    def hear(self, box: Box, frame: CloudFrame) -> None:
        if isinstance(frame, Ack):
            box.old_acks.append(frame)
        self.send(box, box.sync.received(frame, self.now))
        if box.sync.status.connected or box.outbox.live.epochs[-1].boot != box.boot:
            box.unproven = False

    @rule(at=pick)
    def late_ack(self, at: int) -> None:
        """An ack of an earlier stream of this box."""
        box = self.chosen(at)
        if box.old_acks and box.sync.status.connected:
            self.hear(box, box.old_acks[at % len(box.old_acks)])

    @rule()
    def lose_zombies(self) -> None:
        self.zombies.clear()

    # What the cloud does

    def take(self, stream: Stream, data: bytes) -> None:
        match stream.session.received(stream.at_cloud.decode(data)):
            case AskHello(hello):
                stream.down.append(stream.at_cloud.encode(stream.session.welcome(self.cloud.hello(hello), 0)))
            case StoreSeriesSets(sets):
                self.cloud.put_series_sets(sets)
            case StoreTombstones() as effect:
                self.cloud.record_tombstones(effect.tombstones)
                stream.down.append(stream.at_cloud.encode(stream.session.recorded(effect)))
            case StoreAlarms() as effect:
                self.cloud.record_alarms(effect.alarms)
                stream.down.append(stream.at_cloud.encode(stream.session.recorded(effect)))
            case Ingest() as effect:
                self.uncommitted.append((stream, effect))

    @rule(at=pick, number=st.integers(1, 6))
    def cloud_commit(self, at: int, number: int) -> None:
        for turn in range(min(number, len(self.uncommitted))):
            stream, effect = self.uncommitted.pop((at + turn) % len(self.uncommitted))
            outcome, atoms = self.cloud.commit(effect.message)
            stream.down.append(stream.at_cloud.encode(stream.session.resolved(effect, outcome, atoms)))

    @rule(committed=st.integers(0, 2))
    def cloud_killed(self, committed: int) -> None:
        """Some messages are committed, none of them is acknowledged; definitions and tombstones stay."""
        for _, effect in self.uncommitted[:committed]:
            self.cloud.commit(effect.message)
        self.forget_streams()

    def forget_streams(self) -> None:
        self.uncommitted.clear()
        self.zombies.clear()
        for box in self.boxes:
            self.hang_up(box)
        self.zombies.clear()

    @rule(at=pick)
    def cloud_backup(self, at: int) -> None:
        self.cloud_backups = [self.cloud.copy(0), *self.cloud_backups][:3]

    @rule(at=pick)
    def cloud_restored(self, at: int) -> None:
        if not self.cloud_backups or any(box.unproven for box in self.boxes):
            return
        self.forget_streams()
        self.alarms_restored |= self.cloud.alarms.keys()
        self.cloud = self.cloud_backups[at % len(self.cloud_backups)].copy(self.number())
        self.seen.clear()

    @rule(at=pick)
    def definitions_lost(self, at: int) -> None:
        """Between two streams only: what a stream has sent stays known."""
        if at % 4 == 0 and all(box.stream is None for box in self.boxes):
            self.cloud.sets.clear()

    @rule(seed=pick, number=st.integers(1, 150))
    def storm(self, seed: int, number: int) -> None:
        """Many of the above in a row: single steps alone rarely get deep."""
        rng = random.Random(seed)
        for _ in range(number):
            at = rng.randrange(1 << 16)
            match rng.choices(tuple(STORM), tuple(STORM.values()))[0]:
                case "commit":
                    self.commit(at, [rng.randint(1, 3)] * rng.randint(1, 3), rng.choice(list(Priority)))
                case "connect":
                    self.connect(at)
                case "up":
                    self.carry_up(at, rng.randint(1, 5))
                case "cloud":
                    self.cloud_commit(at, rng.randint(1, 5))
                case "down":
                    self.carry_down(at, rng.randint(1, 5), twice=rng.random() < 0.2)
                case "wait":
                    self.wait(at, rng.choice([1.0, 31.0]))
                case "turn_valve":
                    self.turn_valve(at, rng.random() < 0.7, rng.random() < 0.5)
                case "evict":
                    self.evict(at, 1)
                case "put_copy_back":
                    self.put_copy_back(at, wiped=rng.random() < 0.7)
                case name:
                    getattr(self, name)(at)

    @rule(rounds=st.integers(1, 12))
    def all_goes_well(self, rounds: int) -> None:
        for _ in range(rounds):
            self.one_round()

    def one_round(self) -> bool:
        """Everything that is on its way arrives. True when there was anything."""
        moved = False
        for at in range(len(self.boxes)):
            self.connect(at)
        for stream in [box.stream for box in self.boxes if box.stream is not None]:
            while stream.up:
                moved = True
                self.take(stream, stream.up.popleft())
        self.cloud_commit(0, len(self.uncommitted))
        for box in self.boxes:
            while box.stream is not None and box.stream.down:
                moved = True
                self.hear(box, box.stream.at_gateway.decode(box.stream.down.pop(0)))
        return moved

    # What must hold

    @invariant()
    def nothing_is_stored_twice(self) -> None:
        assert [value for value, times in self.cloud.values.items() if times > 1] == []
        stored = sum(coverage.stored.count for coverage in self.cloud.coverage.values())
        assert stored == len(self.cloud.values)

    @invariant()
    def coverage_never_shrinks(self) -> None:
        for epoch, coverage in self.cloud.coverage.items():
            before = self.seen.get(epoch, RangeSet())
            assert not before - coverage.stored
            self.seen[epoch] = coverage.stored.copy()

    @invariant()
    def nothing_is_lost(self) -> None:
        """What a box ever took is in the cloud, in the box, or recorded as given up."""
        buried: dict[int, RangeSet] = {}
        for tombstone in self.cloud.tombstones.values():
            buried.setdefault(tombstone.epoch, RangeSet()).add(tombstone.first, tombstone.end)
        for box in self.boxes:
            live = box.outbox.live
            if live.generation not in (0, self.cloud.generation):
                continue  # it has not yet learnt that the cloud lost something
            here = {value for values in live.values.values() for value in values}
            own = {epoch: ranges.copy() for epoch, ranges in buried.items()}
            for tombstone in live.tombstones.values():
                own.setdefault(tombstone.epoch, RangeSet()).add(tombstone.first, tombstone.end)
            for value, (epoch, seq) in live.places.items():
                if value not in self.cloud.values and value not in here:
                    assert own.get(epoch, RangeSet()).contains(seq, seq + 1), (
                        f"{value} at {seq} of epoch {epoch} is lost"
                    )

    @invariant()
    def no_alarm_is_lost(self) -> None:
        """One that a box committed is in the cloud, or waits in the box."""
        for box in self.boxes:
            live = box.outbox.live
            assert live.raised - self.alarms_restored <= self.cloud.alarms.keys() | live.alarms.keys()

    @staticmethod
    def waiting(box: Box) -> list[object]:
        """What it still has to deliver."""
        live = box.outbox.live
        return [*live.atoms, *live.tombstones, *live.alarms]

    def teardown(self) -> None:
        """In the end all is delivered."""
        if not hasattr(self, "boxes"):
            return
        for valve in self.valves.values():
            valve.bulk = valve.alarms = True
        for _ in range(400):
            self.now += 0.1
            if not self.one_round():
                if not any(map(self.waiting, self.boxes)):
                    break
                self.wait(0, 31.0)
        for box in self.boxes:
            assert self.waiting(box) == []
            assert box.sync.status.in_flight == 0
        self.nothing_is_stored_twice()
        self.nothing_is_lost()
        self.no_alarm_is_lost()


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)


def test_what_was_given_up_last_is_told() -> None:
    """No atom and no alarm follows the tombstone: the story ends when it, too, has arrived."""
    story = Protocol()
    story.start(0)
    story.all_goes_well(1)
    story.commit(0, [1], Priority.NORMAL)
    story.evict(0, 1)
    assert story.waiting(story.boxes[0])
    story.teardown()
    assert story.cloud.tombstones
