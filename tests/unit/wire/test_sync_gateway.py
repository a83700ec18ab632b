"""What each event means for the gateway's machine. Its other side is an outbox in memory."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tests.sim.memory_outbox import ANCHOR, SERIES, Disk, MemoryOutbox
from wire.alarm import Phase
from wire.clock import Anchor
from wire.codec import decode, read_header
from wire.ranges import Range, RangeSet
from wire.reading import LossReason, Priority, Tombstone
from wire.sync.frames import (
    Ack,
    AlarmsFrame,
    EpochCoverage,
    GatewayFrame,
    Hello,
    MessageFrame,
    NeedSeries,
    Overlap,
    Refused,
    SeriesSetsFrame,
    TombstonesFrame,
    Welcome,
)
from wire.sync.gateway import GatewaySync, Identity, SyncOptions
from wire.sync.lanes import Lanes
from wire.sync.status import Reason

GENERATION = 77
CREDIT = 1 << 20


class Bench:
    """A machine, its outbox, and time."""

    def __init__(self, **options: float) -> None:
        self.numbers = 0
        self.rng = random.Random(1)
        self.disk = Disk()
        self.options = options
        self.now = 0.0
        self.reboot()

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def reboot(self) -> None:
        """A new boot and epoch, and a new process."""
        self.outbox = MemoryOutbox(self.disk, self.number(), self.number, lambda atom: None)
        self.start()

    def start(self) -> None:
        self.sync = GatewaySync(self.outbox, SyncOptions(**self.options), Identity(b"m", "0.1", "c"), random.Random(1))

    def commit(self, priority: Priority = Priority.NORMAL, *, pairs: int = 1, anchor: Anchor = ANCHOR) -> Range:
        first = self.outbox.next_seq()
        values = [self.rng.getrandbits(40) for _ in range(2 * pairs)]  # no codec makes less of them
        self.outbox.commit(first, values, priority, anchor)
        self.disk = self.outbox.disk
        return first, self.outbox.next_seq()

    def connect(
        self, *coverage: EpochCoverage, generation: int = GENERATION, credit: int = CREDIT
    ) -> list[GatewayFrame]:
        """Hello and Welcome; returns what follows."""
        (hello,) = self.sync.connected(self.now)
        assert isinstance(hello, Hello)
        missing = (EpochCoverage(),) * (len(hello.epochs) - len(coverage))
        return self.sync.received(Welcome(generation, (*missing, *coverage), 0, credit), self.now)

    @property
    def epoch(self) -> int:
        return self.outbox.live.epochs[-1].id

    def held(self) -> list[Range]:
        return sorted((atom.first, atom.end) for atom in self.outbox.live.atoms.values())

    def ack(self, *frames: MessageFrame, generation: int = GENERATION) -> list[GatewayFrame]:
        stored = tuple((frame.epoch, RangeSet(atoms_of(frame))) for frame in frames)
        return self.sync.received(Ack(generation, stored, (), tuple(frame.id for frame in frames)), self.now)


def atoms_of(frame: MessageFrame) -> list[Range]:
    return [(atom.first, atom.end) for atom in read_header(frame.segment).atoms]


def messages(frames: list[GatewayFrame]) -> list[MessageFrame]:
    return [frame for frame in frames if isinstance(frame, MessageFrame)]


def only(frames: list[GatewayFrame]) -> MessageFrame:
    (frame,) = frames
    assert isinstance(frame, MessageFrame)
    return frame


def stored(*ranges: Range) -> EpochCoverage:
    return EpochCoverage(RangeSet(ranges))


def test_hello_names_all_epochs_the_current_one_last() -> None:
    bench = Bench()
    bench.commit()
    old = bench.epoch
    bench.reboot()
    bench.commit()
    (hello,) = bench.sync.connected(0.0)
    assert isinstance(hello, Hello)
    assert [(offer.epoch, offer.next_seq, offer.offered) for offer in hello.epochs] == [
        (old, 2, RangeSet([(0, 2)])),
        (bench.epoch, 2, RangeSet([(0, 2)])),
    ]
    assert hello.series_sets == (SERIES.id,)


def test_welcome_drops_what_is_covered_and_nothing_else() -> None:
    bench = Bench()
    for _ in range(3):
        bench.commit()
    sent = only(bench.connect(stored((0, 2))))
    assert atoms_of(sent) == [(2, 4), (4, 6)]
    assert bench.held() == [(2, 4), (4, 6)]


def test_a_tombstoned_range_that_is_still_here_is_sent() -> None:
    bench = Bench()
    bench.commit()
    sent = only(bench.connect(EpochCoverage(RangeSet(), RangeSet([(0, 2)]))))
    assert atoms_of(sent) == [(0, 2)]


def test_order_tombstones_alarms_newest_backlog_oldest_first() -> None:
    bench = Bench()
    bench.commit(Priority.LOW)
    bench.commit(Priority.NORMAL)
    old = bench.epoch
    bench.reboot()
    bench.commit(Priority.NORMAL)
    bench.commit(Priority.ALARM)
    bench.outbox.evict([(old, 0)])
    (hello,) = bench.sync.connected(0.0)
    bench.commit(Priority.LOW)
    bench.commit(Priority.NORMAL)
    bench.commit(Priority.ALARM)
    assert isinstance(hello, Hello)
    frames = bench.sync.received(Welcome(GENERATION, (EpochCoverage(),) * 2, 0, CREDIT), 0.0)
    assert isinstance(frames[0], TombstonesFrame)
    now = bench.epoch
    assert [(frame.epoch, atoms_of(frame)) for frame in messages(frames)] == [
        (now, [(8, 10)]),  # alarm, newest
        (now, [(2, 4)]),  # alarm, older
        (now, [(6, 8)]),  # live normal
        (now, [(4, 6)]),  # live low
        (old, [(2, 4)]),  # backlog normal, oldest epoch first
        (now, [(0, 2)]),
    ]


def test_each_message_carries_its_own_epoch_s_next_seq() -> None:
    bench = Bench()
    bench.commit()
    bench.reboot()
    for _ in range(5):
        bench.commit()
    assert [frame.next_seq for frame in messages(bench.connect())] == [2, 10]


def test_consecutive_atoms_are_merged_and_others_are_not() -> None:
    bench = Bench()
    for anchor in (ANCHOR, ANCHOR, replace(ANCHOR, wall_us=5), replace(ANCHOR, wall_us=5), ANCHOR):
        bench.commit(anchor=anchor)
    sent = messages(bench.connect())
    assert [atoms_of(frame) for frame in sent] == [[(0, 2), (2, 4)], [(4, 6), (6, 8)], [(8, 10)]]
    assert sum(decode(frame.segment).count for frame in sent) == 10


def test_nothing_is_deleted_on_send() -> None:
    bench = Bench()
    bench.commit()
    sent = only(bench.connect())
    assert bench.held() == [(0, 2)]
    assert bench.sync.in_flight() == [(bench.epoch, RangeSet([(0, 2)]))]
    bench.ack(sent)
    assert bench.held() == []
    assert bench.sync.in_flight() == []


def test_live_atoms_wait_for_their_batch_and_alarms_do_not() -> None:
    bench = Bench(batch_s=30.0)
    bench.connect()
    bench.commit()
    assert bench.sync.committed(100.0) == []
    assert bench.sync.wakeup == 130.0
    bench.commit(Priority.ALARM)
    alarm = only(bench.sync.committed(110.0))
    assert atoms_of(alarm) == [(2, 4)]
    bench.now = 111.0
    assert bench.ack(alarm) == []
    bench.commit()
    assert bench.sync.committed(120.0) == []
    assert atoms_of(only(bench.sync.tick(130.0))) == [(0, 2), (4, 6)]


def test_flush_sends_what_waits() -> None:
    bench = Bench(batch_s=3600.0)
    bench.connect()
    bench.commit()
    assert bench.sync.committed(1.0) == []
    assert atoms_of(only(bench.sync.flush(2.0))) == [(0, 2)]


def test_without_a_batch_atoms_go_as_committed() -> None:
    bench = Bench()
    bench.connect()
    bench.commit()
    assert atoms_of(only(bench.sync.committed(1.0))) == [(0, 2)]
    assert bench.sync.committed(2.0) == []


def test_bulk_stops_at_the_window_and_an_alarm_passes() -> None:
    bench = Bench()
    for _ in range(40):
        bench.commit(pairs=200)
    first = bench.connect()
    held = sum(len(frame.segment) for frame in messages(first))
    assert held <= 16 * 1024
    assert bench.sync.tick(0.1) == []
    assert bench.sync.wakeup is not None
    assert bench.sync.wakeup > 0.1, "nothing to be done before an ack comes"
    alarm = bench.commit(Priority.ALARM)
    assert atoms_of(only(bench.sync.committed(0.1))) == [alarm]
    bench.now = 0.2
    assert messages(bench.ack(*messages(first))), "an ack opens the window"


def test_credit_is_kept() -> None:
    bench = Bench()
    for _ in range(50):
        bench.commit(Priority.ALARM, pairs=20, anchor=replace(ANCHOR, wall_us=bench.outbox.next_seq()))
    size = len(next(iter(bench.outbox.live.atoms.values())).data)
    sent = messages(bench.connect(credit=3 * size))
    assert 1 <= len(sent) <= 3
    assert sum(len(frame.segment) for frame in sent) <= 3 * size


def test_credit_that_shrinks_is_obeyed_and_that_grows_is_used() -> None:
    """Under load one message at a time goes; what was on its way before stays there."""
    bench = Bench()
    for _ in range(60):
        bench.commit(Priority.ALARM, pairs=20, anchor=replace(ANCHOR, wall_us=bench.outbox.next_seq()))
    size = len(next(iter(bench.outbox.live.atoms.values())).data)
    way = messages(bench.connect(credit=4 * size))
    assert len(way) >= 3
    stored = RangeSet(atoms_of(way[0]))
    shrunk = Ack(GENERATION, ((bench.epoch, stored),), (), (way[0].id,), credit_bytes=1)
    assert bench.sync.received(shrunk, 1.0) == []
    assert bench.sync.status.credit_bytes == 1
    for frame in way[1:-1]:
        assert bench.ack(frame) == []
    alone = messages(bench.ack(way[-1]))
    assert len(alone) == 1
    stored = RangeSet(atoms_of(alone[0]))
    grown = Ack(GENERATION, ((bench.epoch, stored),), (), (alone[0].id,), credit_bytes=5 * size)
    assert len(messages(bench.sync.received(grown, 2.0))) >= 4


def test_a_stall_ends_the_stream_and_keeps_the_data() -> None:
    bench = Bench(stall_s=20.0)
    bench.commit()
    bench.connect()
    assert bench.sync.wakeup is not None
    bench.sync.tick(bench.sync.wakeup)
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.STALL
    bench.sync.disconnected(bench.sync.wakeup or 100.0)
    assert bench.held() == [(0, 2)]
    assert atoms_of(only(bench.connect())) == [(0, 2)]


def test_an_idle_stream_never_stalls() -> None:
    bench = Bench(stall_s=20.0)
    bench.connect()
    assert bench.sync.wakeup is None
    bench.sync.tick(1e6)
    assert bench.sync.wants_disconnect is None


def test_silence_after_hello_is_a_stall() -> None:
    bench = Bench(stall_s=20.0)
    bench.sync.connected(0.0)
    bench.sync.tick(20.0)
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.STALL


def test_backoff_grows_until_an_ack() -> None:
    bench = Bench(backoff_base_s=1.0, backoff_max_s=64.0)

    def longest() -> float:
        waits = []
        for _ in range(60):
            bench.connect()
            bench.sync.disconnected(0.0)
            assert bench.sync.reconnect_at is not None
            waits.append(bench.sync.reconnect_at)
        return max(waits)

    assert longest() > 32.0, "a Welcome alone is no success"
    bench.commit()
    bench.ack(only(bench.connect()))
    bench.sync.disconnected(0.0)
    assert bench.sync.reconnect_at is not None
    assert bench.sync.reconnect_at <= 1.0


def test_an_idle_stream_that_lived_long_resets_the_backoff() -> None:
    bench = Bench(backoff_base_s=1.0, backoff_max_s=64.0)
    for _ in range(30):
        bench.sync.disconnected(0.0, "no way")
    bench.connect()
    bench.sync.disconnected(64.0)
    assert bench.sync.reconnect_at is not None
    assert bench.sync.reconnect_at <= 65.0
    assert bench.sync.status.last_error == ""


def test_late_repeated_and_foreign_answers_change_nothing() -> None:
    bench = Bench()
    bench.commit()
    bench.commit(anchor=replace(ANCHOR, wall_us=5))
    first, second = messages(bench.connect())
    for _ in range(2):
        bench.ack(second)
    assert bench.held() == [(0, 2)]
    for frame in (
        Overlap(second.id, stored((0, 4))),
        NeedSeries(second.id, (SERIES.id,)),
        Refused(second.id, "crc", "late"),
        Refused(999, "crc", "never sent"),
        Ack(GENERATION, ((12345, RangeSet([(0, 2)])),), (), (999,)),
    ):
        assert bench.sync.received(frame, 1.0) == []
    assert bench.held() == [(0, 2)]
    assert bench.sync.status.in_flight == 1
    bench.ack(first)
    assert bench.held() == []
    bench.sync.disconnected(2.0)
    assert bench.ack(first) == []


def test_message_ids_do_not_start_anew_with_a_stream() -> None:
    bench = Bench()
    bench.commit()
    first = only(bench.connect())
    bench.sync.disconnected(0.0)
    second = only(bench.connect())
    assert first.id != second.id
    bench.sync.received(Refused(first.id, "crc", "of the old stream"), 1.0)
    assert bench.outbox.set_aside_atoms == []


def test_overlap_drops_what_is_covered_and_merges_the_rest_anew() -> None:
    bench = Bench()
    for _ in range(4):
        bench.commit()
    sent = only(bench.connect())
    again = only(bench.sync.received(Overlap(sent.id, stored((2, 4), (4, 6))), 1.0))
    assert atoms_of(again) == [(0, 2), (6, 8)]
    assert again.id != sent.id
    assert bench.held() == [(0, 2), (6, 8)]


def test_an_atom_that_is_stored_with_other_borders_begins_a_new_epoch() -> None:
    bench = Bench()
    bench.commit(pairs=2)
    sent = only(bench.connect())
    old = bench.epoch
    assert bench.sync.received(Overlap(sent.id, stored((0, 2))), 1.0) == []
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.NEW_EPOCH
    assert bench.epoch != old
    bench.sync.disconnected(1.0)
    assert only(bench.connect()).epoch == bench.epoch


def test_of_an_older_epoch_it_is_set_aside() -> None:
    bench = Bench()
    bench.commit(pairs=2)
    bench.commit()
    bench.reboot()
    sent = only(bench.connect())
    frames = bench.sync.received(Overlap(sent.id, stored((0, 2))), 1.0)
    assert isinstance(frames[0], TombstonesFrame)
    assert [atoms_of(frame) for frame in messages(frames)] == [[(4, 6)]]
    assert [atom.first for atom in bench.outbox.set_aside_atoms] == [0]


def test_overlap_with_nothing_in_common_breaks_the_protocol() -> None:
    bench = Bench()
    bench.commit()
    sent = only(bench.connect())
    assert bench.sync.received(Overlap(sent.id, EpochCoverage()), 1.0) == []
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.PROTOCOL


def test_definitions_go_before_the_message_that_needs_them() -> None:
    bench = Bench()
    bench.commit()
    sent = only(bench.connect())
    sets, again = bench.sync.received(NeedSeries(sent.id, (SERIES.id,)), 1.0)
    assert sets == SeriesSetsFrame((SERIES,))
    assert isinstance(again, MessageFrame)
    assert atoms_of(again) == [(0, 2)]
    bench.sync.received(NeedSeries(again.id, (SERIES.id,)), 2.0)
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.PROTOCOL


def test_two_messages_may_need_the_same_definition() -> None:
    bench = Bench()
    bench.commit()
    bench.commit(anchor=replace(ANCHOR, wall_us=5))
    first, second = messages(bench.connect())
    bench.sync.received(NeedSeries(first.id, (SERIES.id,)), 1.0)
    again = only(bench.sync.received(NeedSeries(second.id, (SERIES.id,)), 1.0))
    assert atoms_of(again) == [(2, 4)]
    assert bench.sync.wants_disconnect is None


def test_welcome_asks_for_definitions_and_gets_them_first() -> None:
    bench = Bench()
    bench.commit()
    bench.sync.connected(0.0)
    frames = bench.sync.received(Welcome(GENERATION, (EpochCoverage(),), 0, CREDIT, (SERIES.id, 4711)), 0.0)
    assert frames[0] == SeriesSetsFrame((SERIES,))


def test_a_definition_nobody_knows_sets_the_atom_aside() -> None:
    bench = Bench()
    bench.commit()
    bench.commit()
    sent = only(bench.connect())
    alone = messages(bench.sync.received(NeedSeries(sent.id, (4711,)), 1.0))
    assert [atoms_of(frame) for frame in alone] == [[(0, 2)], [(2, 4)]]
    bench.sync.received(NeedSeries(alone[0].id, (4711,)), 2.0)
    bench.ack(alone[1])
    assert bench.held() == []
    assert [atom.first for atom in bench.outbox.set_aside_atoms] == [0]


def test_a_refused_message_is_taken_apart_and_only_the_bad_atom_set_aside() -> None:
    bench = Bench()
    for _ in range(3):
        bench.commit()
    sent = only(bench.connect())
    alone = messages(bench.sync.received(Refused(sent.id, "shape", "no"), 1.0))
    assert [atoms_of(frame) for frame in alone] == [[(0, 2)], [(2, 4)], [(4, 6)]]
    frames = bench.sync.received(Refused(alone[1].id, "shape", "no"), 2.0)
    (tombstones,) = frames
    assert isinstance(tombstones, TombstonesFrame)
    assert [(t.first, t.end, t.reason) for t in tombstones.tombstones] == [(2, 4, LossReason.CORRUPT)]
    bench.ack(alone[0], alone[2])
    assert bench.held() == []
    assert "shape" in bench.sync.status.last_error


def test_a_damaged_atom_does_not_stop_its_neighbours() -> None:
    bench = Bench()
    for _ in range(3):
        bench.commit()
    key = (bench.epoch, 0)
    bench.outbox.live.atoms[key] = replace(bench.outbox.live.atoms[key], data=b"rot")
    assert [atoms_of(frame) for frame in messages(bench.connect())] == [[(2, 4), (4, 6)]]
    assert [atom.first for atom in bench.outbox.set_aside_atoms] == [0]


def test_a_new_generation_is_told_what_is_gone() -> None:
    bench = Bench()
    for _ in range(5):
        bench.commit()
    sent = only(bench.connect())
    bench.ack(sent)
    bench.commit()
    bench.commit()
    bench.outbox.evict([(bench.epoch, 12)])
    bench.sync.disconnected(0.0)
    coverage = EpochCoverage(RangeSet([(0, 2)]), RangeSet([(4, 6)]))
    frames = bench.connect(coverage, generation=78)
    assert isinstance(frames[0], TombstonesFrame)
    gone = [(t.first, t.end) for t in frames[0].tombstones if t.reason is LossReason.CLOUD_RESTORED]
    assert gone == [(2, 4), (6, 10)], "not what is stored, tombstoned, held here, or about to be told"
    assert atoms_of(messages(frames)[0]) == [(10, 12)]
    bench.sync.disconnected(0.0)
    bench.sync.connected(0.0)
    assert bench.outbox.generation_seen() == 78


def test_what_an_older_catalog_of_the_same_generation_forgot_is_told() -> None:
    """Put back without `cloud-sync restored`: without a word its ledger would call these pending for ever."""
    bench = Bench()
    for _ in range(3):
        bench.commit()
    sent = only(bench.connect())
    bench.ack(sent)
    bench.sync.disconnected(0.0)
    frames = bench.connect(EpochCoverage(RangeSet([(0, 2)]), RangeSet()))
    assert isinstance(frames[0], TombstonesFrame)
    assert [(t.first, t.end, t.reason) for t in frames[0].tombstones] == [(2, 6, LossReason.CLOUD_RESTORED)]
    bench.sync.received(Ack(GENERATION, (), frames[0].tombstones, ()), bench.now)
    bench.sync.disconnected(0.0)
    assert not bench.connect(EpochCoverage(RangeSet([(0, 2)]), RangeSet([(2, 6)])))


def test_an_ack_of_another_generation_deletes_nothing() -> None:
    bench = Bench()
    bench.commit()
    sent = only(bench.connect())
    bench.ack(sent, generation=78)
    assert bench.held() == [(0, 2)]
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.GENERATION


def test_coverage_beyond_next_seq_begins_a_new_epoch_and_deletes_nothing() -> None:
    bench = Bench()
    bench.commit()
    old = bench.epoch
    assert bench.connect(stored((0, 40))) == []
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.NEW_EPOCH
    assert bench.held() == [(0, 2)]
    bench.sync.disconnected(0.0)
    sent = only(bench.connect(stored((0, 40)), EpochCoverage()))
    assert sent.epoch == bench.epoch != old


def test_tombstones_are_acknowledged_by_key_one_frame_at_a_time() -> None:
    bench = Bench()
    stones = [Tombstone(bench.epoch, n, n + 1, LossReason.EVICTED, 1) for n in range(100)]
    bench.outbox.live.tombstones = {stone.key: stone for stone in stones}
    (first,) = bench.connect()
    assert isinstance(first, TombstonesFrame)
    assert first.tombstones == tuple(stones[:64])
    assert bench.sync.tick(1.0) == []
    assert bench.sync.received(Ack(GENERATION, tombstones=first.tombstones[:63]), 1.0) == []
    (rest,) = bench.sync.received(Ack(GENERATION, tombstones=first.tombstones[63:]), 1.0)
    assert isinstance(rest, TombstonesFrame)
    assert rest.tombstones == tuple(stones[64:])
    bench.sync.received(Ack(GENERATION, tombstones=rest.tombstones), 1.0)
    assert bench.outbox.live.tombstones == {}
    assert bench.sync.wakeup is None, "nothing is awaited any more"


def test_records_of_an_epoch_that_hello_did_not_name_block_no_others() -> None:
    bench = Bench()
    stones = [Tombstone(999, n, n + 1, LossReason.EVICTED, 1) for n in range(500)]
    ours = Tombstone(bench.epoch, 0, 1, LossReason.EVICTED, 1)
    bench.outbox.live.tombstones = {stone.key: stone for stone in (*stones, ours)}
    for number in range(1, 100):
        bench.outbox.alarm(number, Phase.RAISED, number)
    bench.outbox.live.alarms = {key: (999, alarm) for key, (_, alarm) in bench.outbox.live.alarms.items()}
    bench.outbox.alarm(100, Phase.RAISED, 100)
    alarms, tombstones = bench.connect()
    assert isinstance(alarms, AlarmsFrame)
    assert [(epoch, alarm.id) for epoch, alarm in alarms.alarms] == [(bench.epoch, 100)]
    assert tombstones == TombstonesFrame((ours,))


@pytest.mark.parametrize(
    "frame", [Ack(GENERATION), Overlap(0, EpochCoverage()), Welcome(GENERATION, (), 0, CREDIT)], ids=type
)
def test_what_has_no_place_before_welcome(frame: Ack | Overlap | Welcome) -> None:
    bench = Bench()
    bench.sync.connected(0.0)
    assert bench.sync.received(frame, 0.0) == []
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.PROTOCOL


def test_a_second_welcome() -> None:
    bench = Bench()
    bench.connect()
    bench.sync.received(Welcome(GENERATION, (EpochCoverage(),), 0, CREDIT), 0.0)
    assert bench.sync.wants_disconnect is not None
    assert bench.sync.wants_disconnect.reason is Reason.PROTOCOL


def test_status_tells() -> None:
    bench = Bench()
    bench.commit()
    sent = only(bench.connect())
    status = bench.sync.status
    assert (status.connected, status.in_flight, status.in_flight_bytes) == (True, 1, len(sent.segment))
    assert (status.messages_sent, status.bytes_sent) == (1, len(sent.segment))
    assert (status.last_ack_at, status.generation, status.replies) == (None, GENERATION, 1)
    bench.now = 5.0
    bench.ack(sent)
    assert (bench.sync.status.last_ack_at, bench.sync.status.in_flight, bench.sync.status.replies) == (5.0, 0, 2)
    bench.sync.disconnected(6.0, "cable")
    assert (bench.sync.status.connected, bench.sync.status.last_error) == (False, "cable")


def test_a_batch_that_waits_for_acks_does_not_ask_to_be_woken() -> None:
    bench = Bench(batch_s=5.0)
    bench.connect()
    for _ in range(40):
        bench.commit(pairs=200)
    assert bench.sync.committed(1.0) == []
    assert messages(bench.sync.tick(6.0))
    assert bench.sync.wakeup is not None
    assert bench.sync.wakeup > 6.0


def test_after_a_stall_the_link_is_not_trusted() -> None:
    bench = Bench(stall_s=20.0)
    bench.commit()
    sent = only(bench.connect())
    bench.now = 0.001
    bench.ack(sent)
    assert bench.sync.status.rate_bytes_per_s > 0
    bench.commit()
    bench.sync.committed(1.0)
    bench.sync.tick(1000.0)
    assert bench.sync.status.rate_bytes_per_s == 0


def test_an_atom_that_goes_alone_is_not_taken_along() -> None:
    bench = Bench()
    for _ in range(3):
        bench.commit()
    lanes = Lanes(bench.outbox, [bench.epoch], 100)
    lanes.give_back(bench.epoch, [(2, 4)], alone=True)
    (lane,) = [lane for lane in lanes if lane.priority is Priority.NORMAL and not lane.live]
    taken = []
    while (parcel := lanes.take(lane, 10_000)) is not None:
        lanes.leave(lane, parcel)
        taken.append(list(parcel.atoms))
    assert taken == [[(0, 2)], [(2, 4)], [(4, 6)]]
