from __future__ import annotations

import pytest

from wire.alarm import Alarm, Phase
from wire.errors import ProtocolViolation
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone
from wire.series import SeriesDef, SeriesSet
from wire.sync.cloud import (
    CREDIT_BYTES,
    CREDIT_STEPS,
    LOAD_FREE,
    AskHello,
    CloudSession,
    Ingest,
    SessionOptions,
    StoreAlarms,
    StoreSeriesSets,
    StoreTombstones,
    credit_at,
)
from wire.sync.frames import (
    MESSAGES_IN_FLIGHT_MAX,
    Ack,
    AlarmsFrame,
    EpochCoverage,
    EpochOffer,
    Hello,
    MessageFrame,
    NeedSeries,
    Overlap,
    Refused,
    SeriesSetsFrame,
    TombstonesFrame,
    Welcome,
)
from wire.sync.outcomes import AlreadyStored, Corrupt, HelloAnswer, Outcome, Overlaps, Stored, UnknownSeries

HELLO = Hello(b"m", "0.1", "c", 0, (EpochOffer(1, 10, RangeSet()), EpochOffer(2, 10, RangeSet())))
ANSWER = HelloAnswer(77, (EpochCoverage(), EpochCoverage()), (5,))
ATOMS = RangeSet([(0, 4)])


def opened(credit_bytes: int = 100) -> CloudSession:
    session = CloudSession("gw", SessionOptions(credit_bytes))
    assert session.received(HELLO) == AskHello(HELLO)
    session.welcome(ANSWER, 123)
    return session


def message(number: int, size: int = 10, epoch: int = 2) -> MessageFrame:
    return MessageFrame(number, epoch, 10, bytes(size))


def test_welcome_says_what_the_catalog_said() -> None:
    session = CloudSession("gw", SessionOptions(100))
    session.received(HELLO)
    assert session.welcome(ANSWER, 123) == Welcome(77, ANSWER.coverage, 123, 100, (5,), True)


@pytest.mark.parametrize(
    ("outcome", "frame"),
    [
        (Stored(), Ack(77, ((2, ATOMS),), message_ids=(4,), held_ms=(0,))),
        (AlreadyStored(), Ack(77, ((2, ATOMS),), message_ids=(4,), held_ms=(0,))),
        (Overlaps(EpochCoverage(ATOMS)), Overlap(4, EpochCoverage(ATOMS))),
        (UnknownSeries((5, 6)), NeedSeries(4, (5, 6))),
        (Corrupt("crc", "bad"), Refused(4, "crc", "bad")),
    ],
)
def test_each_outcome_has_its_answer_and_frees_the_credit(outcome: Outcome, frame: object) -> None:
    session = opened()
    effect = session.received(message(4))
    assert isinstance(effect, Ingest)
    assert session.unacked_bytes == 10
    assert session.resolved(effect, outcome, ATOMS) == frame
    assert session.unacked_bytes == 0


def test_tombstones_and_definitions() -> None:
    session = opened()
    lost = (Tombstone(1, 0, 4, LossReason.EVICTED, 4),)
    sets = (SeriesSet((SeriesDef("s", "c", "Cel"),)),)
    effect = session.received(TombstonesFrame(lost))
    assert effect == StoreTombstones(lost)
    assert isinstance(effect, StoreTombstones)
    assert session.recorded(effect) == Ack(77, tombstones=lost)
    alarm = Alarm(5, "s/c", "high 3", Phase.GREW, 10, 20, 1.0, 3.0, 4.0, None, None, 3.0, "Cel")
    effect = session.received(AlarmsFrame(((1, alarm),)))
    assert effect == StoreAlarms(((1, alarm),))
    assert isinstance(effect, StoreAlarms)
    assert session.recorded(effect) == Ack(77, alarms=((5, 2, 20),))
    assert session.received(SeriesSetsFrame(sets)) == StoreSeriesSets(sets)


def test_answers_may_come_in_any_order() -> None:
    session = opened()
    effects = [session.received(message(number)) for number in range(3)]
    for effect in reversed(effects):
        assert isinstance(effect, Ingest)
        said = Ack(77, ((2, ATOMS),), message_ids=(effect.message.id,), held_ms=(1500,))
        assert session.resolved(effect, Stored(), ATOMS, 1.4996) == said


def test_a_message_larger_than_the_credit_may_go_alone() -> None:
    session = opened(credit_bytes=100)
    session.received(message(1, size=500))
    with pytest.raises(ProtocolViolation, match="credit is 100"):
        session.received(message(2, size=1))


def test_a_grant_falls_in_steps_with_the_load_and_never_to_nothing() -> None:
    grants = [credit_at(load / 100) for load in range(201)]
    assert grants == sorted(grants, reverse=True)
    assert set(grants[: int(100 * LOAD_FREE) + 1]) == {CREDIT_BYTES}
    assert len(set(grants)) == CREDIT_STEPS + 1
    assert set(grants[100:]) == {1}, "one message at a time"


def test_a_grant_is_told_when_it_changes_and_what_was_under_way_is_taken() -> None:
    session = opened(credit_bytes=1000)
    assert session.grant(0.0) == 0, "as Welcome said"
    session.received(message(1, size=600))
    assert session.grant(0.9) == 125
    assert session.grant(0.9) == 0
    session.received(message(2, size=300))  # it left before the gateway was told of less
    with pytest.raises(ProtocolViolation, match="credit is 1000"):
        session.received(message(3, size=200))


def test_hello_comes_first_and_once() -> None:
    with pytest.raises(ProtocolViolation, match="MessageFrame before Welcome"):
        CloudSession("gw").received(message(1))
    session = CloudSession("gw")
    session.received(HELLO)
    with pytest.raises(ProtocolViolation, match="before Welcome"):
        session.received(TombstonesFrame(()))
    with pytest.raises(ProtocolViolation, match="second Hello"):
        session.received(HELLO)
    with pytest.raises(ProtocolViolation, match="second Hello"):
        opened().received(HELLO)


def test_ids_epochs_and_number_are_checked() -> None:
    session = opened(credit_bytes=1 << 20)
    session.received(message(1))
    with pytest.raises(ProtocolViolation, match="still unanswered"):
        session.received(message(1))
    with pytest.raises(ProtocolViolation, match="was not in Hello"):
        session.received(message(2, epoch=3))
    for number in range(2, MESSAGES_IN_FLIGHT_MAX + 1):
        session.received(message(number))
    with pytest.raises(ProtocolViolation, match="messages unanswered"):
        session.received(message(MESSAGES_IN_FLIGHT_MAX + 1))
