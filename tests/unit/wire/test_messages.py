"""Frames survive the wire, and no bytes from a peer can do more than end the stream."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.alarm import Alarm, Phase, Severity
from wire.errors import ProtocolViolation
from wire.messages import FRAME_BYTES_MAX, SYNC_METHOD, CloudFrames, GatewayFrames
from wire.ranges import SEQ_MAX, RangeSet
from wire.reading import LossReason, Tombstone
from wire.segment import MESSAGE_BYTES_MAX
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType
from wire.sync.frames import (
    EPOCHS_MAX,
    Ack,
    AlarmsFrame,
    AssignmentFrame,
    EpochCoverage,
    EpochOffer,
    Hello,
    MessageFrame,
    NeedSeries,
    Overlap,
    Refused,
    ReportsFrame,
    SeriesSetsFrame,
    TombstonesFrame,
    Welcome,
)
from wire.sync.updates import Report
from wire.trust import BUNDLE_BYTES_MAX
from wire.v1 import sync_pb2 as pb

EPOCHS = (11, 22, 33)
ids = st.integers(0, (1 << 32) - 1)
hashes = st.integers(0, SEQ_MAX)
int64 = st.integers(-(1 << 63), (1 << 63) - 1)
words = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=12)
floats = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5)


@st.composite
def range_sets(draw: st.DrawFn) -> RangeSet:
    flat = draw(st.lists(st.integers(1, 1 << 40), max_size=6).filter(lambda numbers: len(numbers) % 2 == 0))
    return RangeSet.from_gaps(flat)


@st.composite
def coverages(draw: st.DrawFn) -> EpochCoverage:
    stored = draw(range_sets())
    return EpochCoverage(stored, draw(range_sets()) - stored)


@st.composite
def tombstones(draw: st.DrawFn) -> Tombstone:
    first = draw(hashes)
    return Tombstone(
        draw(st.sampled_from(EPOCHS)),
        first,
        draw(st.integers(first, SEQ_MAX)),
        draw(st.sampled_from(LossReason)),
        draw(hashes),
        draw(int64),
        draw(int64),
    )


series_defs = st.builds(
    SeriesDef,
    names,
    names,
    words,
    st.sampled_from(ValueType),
    int64,
    st.integers(1, 1 << 40),
    int64,
    words,
    floats,
    floats,
    floats,
    ids,
)
series_sets = st.builds(SeriesSet, st.lists(series_defs, min_size=1, max_size=4).map(tuple), st.sampled_from(StampUnit))
numbers = st.floats(allow_nan=False, allow_infinity=False)
alarm_ids, phases = st.integers(1, SEQ_MAX), st.sampled_from(Phase)
alarms = st.builds(
    Alarm,
    alarm_ids,
    words,
    words,
    phases,
    int64,
    int64,
    numbers,
    numbers,
    floats,
    floats,
    floats,
    floats,
    words,
    st.sampled_from(Severity),
)
alarm_keys = st.tuples(alarm_ids, phases.map(int), int64)
reports = st.builds(Report, alarm_ids, int64, words, words, words, words, words)
gateway_frames = st.one_of(
    st.builds(ReportsFrame, st.lists(reports, max_size=4).map(tuple)),
    st.builds(AlarmsFrame, st.lists(st.tuples(st.sampled_from(EPOCHS), alarms), max_size=4).map(tuple)),
    st.builds(MessageFrame, ids, st.sampled_from(EPOCHS), hashes, st.binary(min_size=1, max_size=40)),
    st.builds(TombstonesFrame, st.lists(tombstones(), max_size=4).map(tuple)),
    st.builds(SeriesSetsFrame, st.lists(series_sets, max_size=2).map(tuple)),
)
cloud_frames = st.one_of(
    st.builds(
        Welcome,
        st.integers(0, (1 << 64) - 1),
        st.tuples(coverages(), coverages(), coverages()),
        int64,
        hashes,
        st.lists(hashes, max_size=3).map(tuple),
        st.booleans(),
        ca_bundle=st.binary(max_size=64),
        renew=st.booleans(),
    ),
    st.builds(
        Ack,
        hashes,
        st.lists(st.tuples(st.sampled_from(EPOCHS), range_sets()), max_size=3).map(tuple),
        st.lists(tombstones(), max_size=3).map(tuple),
        st.lists(ids, max_size=3).map(tuple),
        hashes,
        st.lists(alarm_keys, max_size=3).map(tuple),
        st.lists(alarm_ids, max_size=3).map(tuple),
        st.lists(ids, max_size=3).map(tuple),
    ),
    st.builds(AssignmentFrame, st.binary(min_size=1, max_size=40)),
    st.builds(Overlap, ids, coverages()),
    st.builds(NeedSeries, ids, st.lists(hashes, max_size=3).map(tuple)),
    st.builds(Refused, ids, words, words),
)


def hello(*epochs: int, **changes: Any) -> Hello:
    offers = tuple(EpochOffer(epoch, 100, RangeSet([(10, 20), (90, 100)]), 7, None) for epoch in epochs)
    return Hello(b"m" * 16, "0.1", "c1", 5, offers, (1, 2), (("bearing", "3"),), **changes)


def ends() -> tuple[GatewayFrames, CloudFrames]:
    gateway, cloud = GatewayFrames(), CloudFrames()
    cloud.decode(gateway.encode(hello(*EPOCHS)))
    return gateway, cloud


@given(
    st.lists(
        st.builds(
            lambda epoch, offered, more, before, known, given_up: EpochOffer(
                epoch, offered.end + more, offered, before, known, given_up
            ),
            st.integers(1, SEQ_MAX),
            range_sets(),
            st.integers(0, 9),
            hashes,
            st.none() | hashes,
            range_sets(),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda offer: offer.epoch,
    ),
    words,
    st.dictionaries(words, words, max_size=3),
)
def test_hello_round_trip(offers: list[EpochOffer], text: str, models: dict[str, str]) -> None:
    models_told = tuple(sorted(models.items()))
    frame = Hello(
        b"machine",
        text,
        text,
        1 << 63,
        tuple(offers),
        (3,),
        models_told,
        nonce=b"n" * len(offers),
        ca_bundle=len(offers),
    )
    assert CloudFrames().decode(GatewayFrames().encode(frame)) == frame


@given(gateway_frames)
def test_gateway_frames_round_trip(frame: Any) -> None:
    gateway, cloud = ends()
    assert cloud.decode(gateway.encode(frame)) == frame


@given(series_sets)
def test_a_series_set_keeps_its_hash(series_set: SeriesSet) -> None:
    """Also when a bound was given as an integer: the definition that arrives is the one that was named."""
    gateway, cloud = ends()
    frame = cloud.decode(gateway.encode(SeriesSetsFrame((series_set,))))
    assert isinstance(frame, SeriesSetsFrame)
    assert frame.sets[0].id == series_set.id


@given(cloud_frames)
def test_cloud_frames_round_trip(frame: Any) -> None:
    gateway, cloud = ends()
    assert gateway.decode(cloud.encode(frame)) == frame


def gateway_bytes(**fields: Any) -> bytes:
    return pb.GatewayFrame(**fields).SerializeToString()


def cloud_bytes(**fields: Any) -> bytes:
    return pb.CloudFrame(**fields).SerializeToString()


def epoch_offer(**fields: Any) -> bytes:
    return gateway_bytes(hello=pb.Hello(protocol=1, epochs=[pb.EpochOffer(**fields)]))


def one_series(**fields: Any) -> bytes:
    series = pb.SeriesDef(**({"sensor": "s", "channel": "c", "den": 1} | fields))
    return gateway_bytes(series_sets=pb.SeriesSets(sets=[pb.SeriesSet(series=[series])]))


def tombstone(**fields: Any) -> bytes:
    return gateway_bytes(tombstones=pb.Tombstones(tombstones=[pb.Tombstone(**({"end": 1, "reason": 1} | fields))]))


def alarm(**fields: Any) -> bytes:
    return gateway_bytes(alarms=pb.Alarms(alarms=[pb.Alarm(**({"id": 1, "phase": 1, "severity": 2} | fields))]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xff",
        b"\x0a\xff",
        bytes(FRAME_BYTES_MAX + 1),
        gateway_bytes(hello=pb.Hello(protocol=2)),
        gateway_bytes(hello=pb.Hello(protocol=1)),
        gateway_bytes(hello=pb.Hello(protocol=1, epochs=[pb.EpochOffer(epoch=1 + n) for n in range(EPOCHS_MAX + 1)])),
        gateway_bytes(hello=pb.Hello(protocol=1, machine=bytes(33), epochs=[pb.EpochOffer(epoch=1)])),
        gateway_bytes(hello=pb.Hello(protocol=1, nonce=bytes(33), epochs=[pb.EpochOffer(epoch=1)])),
        gateway_bytes(reports=pb.Reports(reports=[pb.Report(id=0)])),
        gateway_bytes(reports=pb.Reports(reports=[pb.Report(id=1 << 63)])),
        gateway_bytes(reports=pb.Reports(reports=[pb.Report(id=1, text="t" * 2000)])),
        gateway_bytes(reports=pb.Reports(reports=[pb.Report(id=1, stage="\0")])),
        gateway_bytes(reports=pb.Reports(reports=[pb.Report(id=1)] * 257)),
        gateway_bytes(hello=pb.Hello(protocol=1, agent_version="v" * 2000, epochs=[pb.EpochOffer(epoch=1)])),
        gateway_bytes(hello=pb.Hello(protocol=1, agent_version="\0", epochs=[pb.EpochOffer(epoch=1)])),
        gateway_bytes(hello=pb.Hello(protocol=1, series_sets=[1 << 63], epochs=[pb.EpochOffer(epoch=1)])),
        gateway_bytes(hello=pb.Hello(protocol=1, series_sets=[1] * 5000, epochs=[pb.EpochOffer(epoch=1)])),
        gateway_bytes(hello=pb.Hello(protocol=1, epochs=[pb.EpochOffer(epoch=1), pb.EpochOffer(epoch=1)])),
        epoch_offer(epoch=0),
        epoch_offer(epoch=1 << 63),
        epoch_offer(epoch=1, next_seq=5, offered=[0, 6]),
        epoch_offer(epoch=1, next_seq=1 << 63),
        epoch_offer(epoch=1, next_seq=5, offered=[0]),
        epoch_offer(epoch=1, predecessor=1 << 63),
        epoch_offer(epoch=1, predecessor_next_seq=1 << 63),
        gateway_bytes(message=pb.Message(segment=b"x", epoch_index=3)),
        gateway_bytes(message=pb.Message(segment=b"")),
        gateway_bytes(message=pb.Message(segment=bytes(MESSAGE_BYTES_MAX + 1))),
        gateway_bytes(message=pb.Message(segment=b"x", next_seq=1 << 63)),
        tombstone(first=2),
        tombstone(end=1 << 63),
        tombstone(reason=0),
        tombstone(reason=99),
        tombstone(count=1 << 63),
        tombstone(epoch_index=3),
        gateway_bytes(tombstones=pb.Tombstones(tombstones=[pb.Tombstone(end=1, reason=1)] * 1025)),
        alarm(id=0),
        alarm(id=1 << 63),
        alarm(phase=0),
        alarm(phase=4),
        alarm(epoch_index=3),
        alarm(severity=0),
        alarm(severity=4),
        alarm(score=float("nan")),
        alarm(threshold=float("inf")),
        alarm(value=float("nan")),
        alarm(low=float("-inf")),
        alarm(series="s" * 2000),
        alarm(rule="\0"),
        alarm(unit="u" * 2000),
        gateway_bytes(alarms=pb.Alarms(alarms=[pb.Alarm(id=1, phase=1, severity=1)] * 1025)),
        one_series(sensor=""),
        one_series(channel="a/b"),
        one_series(den=0),
        one_series(value_type=9),
        one_series(low=float("nan")),
        one_series(unit="u" * 2000),
        gateway_bytes(series_sets=pb.SeriesSets(sets=[pb.SeriesSet()])),
        gateway_bytes(series_sets=pb.SeriesSets(sets=[pb.SeriesSet(stamp_unit=7, series=[pb.SeriesDef()])])),
        gateway_bytes(series_sets=pb.SeriesSets(sets=[pb.SeriesSet(series=[pb.SeriesDef()] * 4097)])),
    ],
)
def test_the_cloud_refuses(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        ends()[1].decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x0a\xff",
        cloud_bytes(welcome=pb.Welcome()),
        cloud_bytes(welcome=pb.Welcome(coverage=[pb.Coverage()] * 2)),
        cloud_bytes(welcome=pb.Welcome(coverage=[pb.Coverage(stored=[1])] * 3)),
        cloud_bytes(welcome=pb.Welcome(coverage=[pb.Coverage()] * 3, ca_bundle=bytes(BUNDLE_BYTES_MAX + 1))),
        cloud_bytes(ack=pb.Ack(stored=[pb.AckedRanges(epoch_index=3)])),
        cloud_bytes(ack=pb.Ack(stored=[pb.AckedRanges(ranges=[4, 0])])),
        cloud_bytes(ack=pb.Ack(tombstones=[pb.Tombstone(end=1)])),
        cloud_bytes(ack=pb.Ack(alarms=[pb.AlarmKey(id=1, phase=9)])),
        cloud_bytes(ack=pb.Ack(alarms=[pb.AlarmKey(id=1, phase=1)] * 1025)),
        cloud_bytes(need_series=pb.NeedSeries(ids=[1 << 63])),
        cloud_bytes(refused=pb.Refused(code="c" * 2000)),
        cloud_bytes(assignment=pb.Assignment()),
        cloud_bytes(assignment=pb.Assignment(document=bytes((16 << 10) + 1))),
        cloud_bytes(ack=pb.Ack(reports=[0])),
        cloud_bytes(ack=pb.Ack(reports=[1] * 257)),
    ],
)
def test_the_gateway_refuses(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        ends()[0].decode(data)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_frame_or_a_violation(data: bytes) -> None:
    gateway, cloud = ends()
    for end in (gateway, cloud, CloudFrames()):
        with contextlib.suppress(ProtocolViolation):
            end.decode(data)


@given(gateway_frames, st.data())
def test_a_flipped_byte_gives_a_frame_or_a_violation(frame: Any, data: st.DataObject) -> None:
    gateway, cloud = ends()
    raw = bytearray(gateway.encode(frame))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolViolation):
        cloud.decode(bytes(raw))


def test_long_explanations_are_cut_not_refused() -> None:
    gateway, cloud = ends()
    refused = gateway.decode(cloud.encode(Refused(1, "corrupt", "x" * 5000)))
    assert isinstance(refused, Refused)
    assert len(refused.detail) == 1024


def test_the_method_is_the_proto_s() -> None:
    service = pb.DESCRIPTOR.services_by_name["SyncService"]
    assert f"/{service.full_name}/{service.methods[0].name}" == SYNC_METHOD
