"""Detection in the recorder: kills, failed commits and broken models change no score, lose no alarm and no reading."""

from __future__ import annotations

import json
import logging
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from edge_agent.detect.contract import load_model
from edge_agent.detect.detector import Detector, channels_of
from edge_agent.detect.errors import RunFailed
from edge_agent.detect.lane import FAILURES_MAX
from edge_agent.detect.library import find_model
from edge_agent.detect.rules import Rule, RuleKind
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Binding, Session
from edge_agent.detect.watched import Watch
from edge_agent.errors import OutboxFull
from edge_agent.outbox import alarm_rows
from edge_agent.outbox import recorder as recorder_module
from edge_agent.outbox.desk import ACTIVE, ACTIVE_BYTES_MAX, OFFSET, Desk
from edge_agent.outbox.record import Entry
from edge_agent.outbox.recorder import Recorder
from tests.unit.edge_agent.detect import toys
from tests.unit.edge_agent.outbox.parts import Gateway, values, values_of, waiting
from wire.alarm import Alarm, AlarmKey, Phase, Severity
from wire.clock import NS_PER_MS, NS_PER_S, Anchor, SyncState
from wire.codec import decode
from wire.reading import Priority, Tick
from wire.segment import SCORE_NONE
from wire.series import SeriesDef, SeriesSet

BOOT = 0xB007
SET = SeriesSet((SeriesDef("pump", "pressure", "Pa", num=1, den=4), SeriesDef("oven", "heat", "Cel")))
RULES = (Rule(1, "oven/heat", "Cel", RuleKind.HIGH, 190.0, 10.0, 0.0, Severity.CRITICAL),)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session(load_model(find_model("value-novelty")))


def detector(session: Session, rules: Sequence[Rule] = RULES, boot: int = BOOT) -> Detector:
    lane = Runner(session, calibration_rows=104).add(channels_of(SET.series))
    return Detector(boot, [Watch(SET, [(lane, (0, 1))], rules)])


def ticks(count: int) -> list[Tick]:
    chance = random.Random(3)
    found = []
    for row in range(count):
        heat = round(100 * np.sin(row / 20) + chance.gauss(0, 3)) + (150 if row % 83 == 50 else 0)
        found.append(Tick(SET.id, row * 1000, (round(chance.gauss(400, 4)), heat)))
    return found


def unbroken(session: Session, taken: Sequence[Tick]) -> tuple[list[bytes | None], list[AlarmKey]]:
    whole = detector(session)
    found = [whole.step(tick) for tick in taken]
    return [each.codes for each in found], [alarm.key for each in found for alarm in each.alarms]


def stored_codes(recorder: Recorder) -> list[bytes | None]:
    """Scores by tick, in the order of their stamps."""
    found: dict[int, bytes | None] = {}
    for atom in waiting(recorder.view()):
        for block in decode(atom.data).blocks:
            for row, stamp in enumerate(block.stamps.tolist()):
                codes = None if block.scores is None else bytes(int(column[row]) for column in block.scores)
                found[stamp] = None if codes is None or set(codes) == {SCORE_NONE} else codes
    return [codes for _, codes in sorted(found.items())]


def stored_alarms(recorder: Recorder) -> list[Alarm]:
    return [alarm for _, alarm in recorder.view().alarms(1000)]


def test_killed_again_and_again_it_finds_what_an_unbroken_run_finds(gateway: Gateway, session: Session) -> None:
    taken = ticks(500)
    told: list[Alarm] = []
    chance = random.Random(7)
    recorder = gateway.start(SET)
    recorder.detect(detector(session), told.append)
    for tick in taken:
        gateway.clock.sleep(1)
        recorder.take([tick])
        if chance.random() < 0.7:
            recorder.look()
        if chance.random() < 0.1:
            recorder.commit()
        if chance.random() < 0.05:
            gateway.kill()
            recorder = gateway.start(SET)
            recorder.detect(detector(session), told.append)
    recorder.commit()
    codes, alarms = unbroken(session, taken)
    assert stored_codes(recorder) == codes
    assert [alarm.key for alarm in stored_alarms(recorder)] == alarms
    assert len(alarms) > 8
    assert {alarm.key for alarm in told} == set(alarms)  # told at once; after a kill perhaps again, with the same key
    assert values(waiting(recorder.view())) == values_of(taken)


def test_an_alarm_hurries_the_commit_and_raises_what_lies_round_it(gateway: Gateway, session: Session) -> None:
    recorder = gateway.start(SET)
    recorder.detect(detector(session))
    gateway.clock.sleep(1.5)
    recorder.take([Tick(SET.id, 0, (400, 20))])
    recorder.look()
    assert recorder.due_in_s(gateway.clock.boottime_ns()) == pytest.approx(3.5)
    recorder.take([Tick(SET.id, 1000, (400, 200))])
    recorder.look()
    assert recorder.due(gateway.clock.boottime_ns())
    recorder.commit()
    (atom,) = waiting(recorder.view())
    assert atom.priority is Priority.ALARM
    assert atom.count == 4
    (alarm,) = stored_alarms(recorder)
    assert (alarm.series, alarm.rule, alarm.phase, alarm.severity) == (
        "oven/heat", "high 190", Phase.RAISED, Severity.CRITICAL
    )  # fmt: skip
    assert recorder.detection == ("", [alarm])
    recorder.view().alarms_acked([alarm.key])
    recorder.commit()
    assert recorder._outbox.database.connection.execute("SELECT count(*) FROM alarms").fetchone() == (0,)
    recorder.take([Tick(SET.id, 2000, (400, 20))])
    recorder.commit()
    assert [alarm.phase for alarm in stored_alarms(recorder)] == [Phase.CLEARED]
    assert recorder.detection == ("", [])


@pytest.mark.parametrize(
    ("off_s", "synchronised", "kept"),
    [
        (20, (True, True), True),
        (30 * 86_400, (True, True), False),
        (20, (False, True), False),
        (20, (True, False), False),
    ],
)
def test_over_a_reboot_the_gap_is_the_time_that_the_machine_was_off(
    gateway: Gateway, session: Session, off_s: int, synchronised: tuple[bool, bool], kept: bool
) -> None:
    gateway.clock.state = SyncState(synchronised[0], 500)
    recorder = gateway.start(SET)
    recorder.detect(detector(session))
    for second in range(200):
        gateway.clock.sleep(1)
        recorder.take([Tick(SET.id, gateway.clock.boottime_ns() // NS_PER_MS, (400 + second % 3, second % 5))])
    recorder.commit()
    wall_ns = gateway.clock.wall_ns()
    gateway.reboot()
    gateway.clock.offset = wall_ns + off_s * NS_PER_S - gateway.clock.boottime
    gateway.clock.state = SyncState(synchronised[1], 500)
    recorder = gateway.start(SET)
    recorder.detect(detector(session, boot=BOOT + 1))
    gateway.clock.sleep(1)
    recorder.take([Tick(SET.id, gateway.clock.boottime_ns() // NS_PER_MS, (400, 2))])
    recorder.commit()
    assert (stored_codes(recorder)[0] is not None) is kept, "the first reading after the reboot"


def test_over_a_reboot_models_go_on_once_the_clock_is_set(
    gateway: Gateway, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the agent is killed, and the machine boots once more, before a clock says how long it was off."""
    caplog.set_level(logging.INFO)

    def start(boot: int) -> tuple[Recorder, Detector]:
        recorder, running = gateway.start(SET), detector(session, boot=BOOT + boot)
        recorder.detect(running)
        return recorder, running

    def take(recorder: Recorder, seconds: int) -> None:
        for _ in range(seconds):
            gateway.clock.sleep(1)
            stamp = gateway.clock.boottime_ns() // NS_PER_MS
            recorder.take([Tick(SET.id, stamp, (400 + stamp // 1000 % 3, stamp // 1000 % 5))])
        recorder.commit()

    recorder, running = start(0)
    take(recorder, 200)
    wall_ns = gateway.clock.wall_ns()
    for boot in (1, 2):
        gateway.reboot()
        gateway.clock.offset, gateway.clock.state = 0, SyncState(False, 0)
        for _ in range(2):
            recorder, running = start(boot)
            take(recorder, 20)
            assert running.reports()[0].state == "calibrating"
            gateway.kill()
    recorder, running = start(2)
    gateway.clock.offset, gateway.clock.state = wall_ns + 300 * NS_PER_S, SyncState(True, 500)
    take(recorder, 20)
    assert running.reports()[0].state == "running"
    said = [record.message for record in caplog.records if "before the reboot" in record.message]
    assert said == [
        *["models calibrate, and go on where they were before the reboot once the clock is set"] * 5,
        "the clock is set: models go on where they were before the reboot",
    ]
    gateway.kill()
    recorder, running = start(2)
    assert running.reports()[0].state == "running"


def test_changes_of_alarms_that_find_no_room_are_counted_and_told_once(
    gateway: Gateway, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(alarm_rows, "ALARMS_MAX", 2)
    told: list[Alarm] = []
    recorder = gateway.start(SET)
    recorder.detect(detector(session), told.append)
    for at in range(6):  # the oven is hot, and not, and hot again
        recorder.take([Tick(SET.id, at * 1000, (400, 20 if at % 2 else 200))])
        recorder.commit()
    assert recorder.stats().alarms_lost == len(told) - 2 == 4
    assert [alarm.key for alarm in stored_alarms(recorder)] == [alarm.key for alarm in told[-2:]]
    recorder.view().alarms_acked([alarm.key for alarm in told])
    recorder.take([Tick(SET.id, 9000, (400, 200))])
    recorder.commit()
    assert recorder.stats().alarms_lost == 4
    assert [record.message for record in caplog.records if "changes of alarms" in record.message] == [
        "2 changes of alarms wait for the cloud, the most that are kept: the oldest go",
        "all changes of alarms are kept again; 4 are lost",
    ]
    gateway.kill()
    assert gateway.start(SET).stats().alarms_lost == 4


def test_a_commit_that_fails_changes_nothing(
    gateway: Gateway, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = ticks(300)
    recorder = gateway.start(SET)
    recorder.detect(detector(session))

    def full(*_: object) -> NoReturn:
        raise OutboxFull("no room")

    for at, tick in enumerate(taken):
        recorder.take([tick])
        recorder.look()
        if at % 20 == 19:
            with monkeypatch.context() as patch:
                patch.setattr(recorder_module, "store", full)
                with pytest.raises(OutboxFull):
                    recorder.commit()
        if at % 30 == 29:
            recorder.commit()
    gateway.kill()
    recorder = gateway.start(SET)
    recorder.detect(detector(session))
    recorder.commit()
    codes, alarms = unbroken(session, taken)
    assert stored_codes(recorder) == codes
    assert [alarm.key for alarm in stored_alarms(recorder)] == alarms


def test_a_detector_that_takes_over_sees_what_could_not_be_committed(
    gateway: Gateway, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model is installed while the disk is full: no score, no state and no change of an alarm is left out."""
    taken = ticks(400)
    recorder = gateway.start(SET)
    told: list[Alarm] = []
    recorder.detect(detector(session), told.append)

    def full(*_: object) -> NoReturn:
        raise OutboxFull("no room")

    for at, tick in enumerate(taken):
        recorder.take([tick])
        recorder.look()
        if at % 50 == 49:
            with monkeypatch.context() as patch:
                patch.setattr(recorder_module, "store", full)
                with pytest.raises(OutboxFull):
                    recorder.commit()
            recorder.detect(detector(session), told.append)
        if at % 70 == 69:
            recorder.commit()
    recorder.commit()
    codes, alarms = unbroken(session, taken)
    assert stored_codes(recorder) == codes
    assert [alarm.key for alarm in stored_alarms(recorder)] == alarms
    assert {alarm.key for alarm in told} == set(alarms)


def test_an_alarm_of_a_detector_that_is_replaced_before_a_commit_is_kept_and_ends(
    gateway: Gateway, session: Session
) -> None:
    recorder = gateway.start(SET)
    told: list[Alarm] = []
    recorder.detect(detector(session), told.append)
    recorder.take([Tick(SET.id, 0, (400, 200))])
    recorder.look()
    recorder.detect(detector(session, ()), told.append)  # nobody looks at the oven any more
    gateway.clock.sleep(2)
    recorder.look()
    recorder.commit()
    assert [alarm.phase for alarm in told] == [Phase.RAISED, Phase.CLEARED]
    assert stored_alarms(recorder) == told
    assert recorder.detection == ("", [])


class Bad(Session):
    """A session that gives NaN, or raises."""

    fails: type[Exception] | None = None

    def run_bound(self, binding: Binding) -> None:
        if self.fails is not None:
            raise self.fails("no")
        super().run_bound(binding)
        for array in binding.outputs.values():
            array[:] = np.nan


@pytest.mark.parametrize("fails", [None, RunFailed, ZeroDivisionError])
def test_a_broken_model_costs_scores_and_never_a_reading(
    gateway: Gateway, tmp_path: Path, fails: type[Exception] | None
) -> None:
    broken = Bad(toys.load(tmp_path / "models"))
    broken.fails = fails
    taken = ticks(3 * FAILURES_MAX)
    lane = Runner(broken).add(channels_of(SET.series))
    recorder = gateway.start(SET)
    recorder.detect(Detector(BOOT, [Watch(SET, [(lane, (0, 1))], ())]))
    for tick in taken:
        recorder.take([tick])
        recorder.look()
    recorder.commit()
    assert values(waiting(recorder.view())) == values_of(taken)
    assert stored_codes(recorder) == [None] * len(taken)
    problem, _ = recorder.detection
    assert problem.startswith("ZeroDivisionError") == (fails is ZeroDivisionError)
    assert lane.stopped == (fails is not ZeroDivisionError)


def test_a_silent_channel_is_told_without_a_reading_and_once(gateway: Gateway, session: Session) -> None:
    stale = (Rule(1, "oven/heat", "Cel", RuleKind.STALE, 10.0),)
    recorder = gateway.start(SET)
    recorder.detect(detector(session, stale))
    start = gateway.clock.boottime_ns() // 1_000_000
    recorder.take([Tick(SET.id, start, (400, 20))])
    recorder.look()
    recorder.commit()
    for _ in range(15):
        gateway.clock.sleep(1)
        recorder.look()
    assert recorder.due(gateway.clock.boottime_ns())
    gateway.kill()  # before the commit: found again, with the same id
    recorder = gateway.start(SET)
    told: list[Alarm] = []
    recorder.detect(detector(session, stale), told.append)
    recorder.look()
    recorder.commit()
    (alarm,) = stored_alarms(recorder)
    assert told == [alarm]
    assert alarm.onset_us == start * 1000 + 10_000_000


def test_an_alarm_that_nobody_watches_any_more_ends(gateway: Gateway, session: Session) -> None:
    recorder = gateway.start(SET)
    recorder.detect(detector(session))
    recorder.take([Tick(SET.id, 0, (400, 200))])
    recorder.commit()
    gateway.kill()
    recorder = gateway.start(SET)
    recorder.detect(detector(session, ()))  # the rule is configured no more
    gateway.clock.sleep(2)
    recorder.look()
    recorder.commit()
    raised, cleared = stored_alarms(recorder)
    assert (raised.id, cleared.phase, recorder.detection[1]) == (cleared.id, Phase.CLEARED, [])


def test_a_memory_of_alarms_that_unpacks_without_end_is_left_behind() -> None:
    """A damaged page must not cost the gateway its RAM: what follows the bound is not looked at."""
    hot = SeriesSet(tuple(SeriesDef("oven", f"t{at}", "Cel") for at in range(1)))
    desk = Desk(
        Detector(BOOT, [Watch(hot, [], [Rule(0, "oven/t0", "Cel", RuleKind.HIGH, 10.0)])]),
        {},
        Anchor(0, 0, False, 0),
        0,
        lambda alarm: None,
    )
    desk.step([Entry(0, Tick(hot.id, 0, (20,)), Anchor(0, 0, False, 0))])
    text = zlib.decompressobj().decompress(desk.changes(Anchor(0, 0, False, 0))[0][ACTIVE])
    for blanks, known in ((0, 1), (ACTIVE_BYTES_MAX, 0)):
        blob = zlib.compress(b" " * blanks + text)
        again = Desk(Detector(BOOT, []), {ACTIVE: blob}, Anchor(0, 0, False, 0), 0, lambda alarm: None)
        assert len(again.active) == known


@pytest.mark.parametrize("blob", [b"", b"7", b"x", b"[7]", b'{"1": Infinity}', b"[" * 100_000, b"\xff"])
def test_a_damaged_memory_of_alarms_and_clock_is_left_behind(blob: bytes) -> None:
    """What cannot be understood costs what it told, and nothing else."""
    whole = Detector(BOOT, [Watch(SET, [], RULES)])
    desk = Desk(whole, {ACTIVE: blob, OFFSET: blob}, Anchor(0, 0, False, 0), 0, lambda alarm: None)
    assert (desk.problem, desk.active) == ("", {})


def test_what_is_raised_is_written_over_where_it_stands() -> None:
    """Its row keeps its size, so an alarm that begins or ends moves no page of the file."""
    rules = [Rule(at, f"oven/t{at}", "Cel", RuleKind.HIGH, 10.0) for at in range(4)]
    hot = SeriesSet(tuple(SeriesDef("oven", f"t{at}", "Cel") for at in range(4)))
    desk = Desk(Detector(BOOT, [Watch(hot, [], rules)]), {}, Anchor(0, 0, False, 0), 0, lambda alarm: None)
    sizes = []
    for second, raised in enumerate([4, 1, 3, 0, 4, 2]):
        values = tuple(20 if at < raised else 0 for at in range(4))
        desk.step([Entry(second, Tick(hot.id, second * 1000, values), Anchor(0, 0, False, 0))])
        blob = desk.changes(Anchor(0, 0, False, 0))[0][ACTIVE]
        desk.done()
        sizes.append(len(blob))
        again = Desk(Detector(BOOT, []), {ACTIVE: blob}, Anchor(0, 0, False, 0), 0, lambda alarm: None)
        assert again.active == desk.active
        assert len(again.active) == raised
    assert set(sizes) == {sizes[0]}
    bare = json.dumps(json.loads(zlib.decompressobj().decompress(blob))).encode()
    assert Desk(Detector(BOOT, []), {ACTIVE: bare}, Anchor(0, 0, False, 0), 0, lambda alarm: None).active == desk.active
