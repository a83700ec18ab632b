"""Frames to bytes and back: the only place, with wire/v1 itself, that knows protobuf.

One converter per stream, because epochs travel as their place in Hello's list. `GatewayFrames` is the gateway's end,
`CloudFrames` the cloud's. Decoding is total: any bytes give a frame or `ProtocolViolation`, and every length is checked
against a bound that the peer cannot choose. gRPC carries the bytes as they are (no serialiser of its own).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from wire.alarm import Alarm, AlarmKey, Phase, Severity
from wire.errors import ProtocolViolation
from wire.ranges import SEQ_MAX, RangeSet
from wire.reading import LossReason, Tombstone
from wire.segment import MESSAGE_BYTES_MAX
from wire.series import SERIES_PER_SET_MAX, SeriesDef, SeriesSet, StampUnit, ValueType
from wire.sync.frames import (
    EPOCHS_MAX,
    PROTOCOL_VERSION,
    Ack,
    AlarmsFrame,
    CloudFrame,
    EpochCoverage,
    EpochOffer,
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
from wire.v1 import sync_pb2 as pb

SYNC_METHOD = "/tidegate.wire.v1.SyncService/Sync"  # protos/wire/v1/sync.proto
FRAME_BYTES_MAX = 4 * 1024 * 1024  # a set of 4096 series is the largest frame, about 1.5 MB
TOMBSTONES_PER_FRAME_MAX = 1024
ALARMS_PER_FRAME_MAX = 1024
ALARM_ID_MAX = (1 << 63) - 1
SETS_MAX = 4096  # ids named in one frame
MODELS_MAX = 256
MACHINE_BYTES_MAX = 32
TEXT_LENGTH_MAX = 1024


def _check(ok: bool, detail: str) -> None:
    if not ok:
        raise ProtocolViolation(detail)


def _ranges(flat: Sequence[int]) -> RangeSet:
    try:
        return RangeSet.from_gaps(flat)
    except ValueError as error:
        raise ProtocolViolation(f"ranges: {error}") from error


def _text(text: str, name: str) -> str:
    _check(len(text) <= TEXT_LENGTH_MAX, f"{name} of {len(text)} characters, at most {TEXT_LENGTH_MAX}")
    _check("\0" not in text, f"{name} holds a NUL")
    return text


def _set_ids(ids: Sequence[int]) -> tuple[int, ...]:
    _check(len(ids) <= SETS_MAX, f"{len(ids)} series sets named, at most {SETS_MAX}")
    _check(all(one <= SEQ_MAX for one in ids), f"a series set's id is over {SEQ_MAX}")
    return tuple(ids)


def _coverage(coverage: pb.Coverage) -> EpochCoverage:
    return EpochCoverage(_ranges(coverage.stored), _ranges(coverage.tombstoned))


def _coverage_pb(coverage: EpochCoverage) -> pb.Coverage:
    return pb.Coverage(stored=coverage.stored.to_gaps(), tombstoned=coverage.tombstoned.to_gaps())


class _Epochs:
    """The epoch table that Hello set up."""

    def __init__(self) -> None:
        self.ids: tuple[int, ...] = ()
        self._places: dict[int, int] = {}

    def adopt(self, hello: Hello) -> None:
        self.ids = tuple(offer.epoch for offer in hello.epochs)
        self._places = {epoch: place for place, epoch in enumerate(self.ids)}

    def place(self, epoch: int) -> int:
        return self._places[epoch]

    def id(self, place: int) -> int:
        _check(place < len(self.ids), f"epoch {place} of {len(self.ids)} that Hello named")
        return self.ids[place]

    def tombstone_pb(self, tombstone: Tombstone) -> pb.Tombstone:
        return pb.Tombstone(
            epoch_index=self.place(tombstone.epoch),
            first=tombstone.first,
            end=tombstone.end,
            reason=int(tombstone.reason),
            count=tombstone.count,
            span_first_us=tombstone.span_first_us,
            span_last_us=tombstone.span_last_us,
        )

    def tombstones(self, found: Sequence[pb.Tombstone]) -> tuple[Tombstone, ...]:
        _check(len(found) <= TOMBSTONES_PER_FRAME_MAX, f"{len(found)} tombstones in one frame")
        return tuple(self._tombstone(tombstone) for tombstone in found)

    def _tombstone(self, found: pb.Tombstone) -> Tombstone:
        ordered = found.first <= found.end <= SEQ_MAX
        _check(ordered, f"tombstone {found.first}..{found.end} is not a range up to {SEQ_MAX}")
        _check(found.count <= SEQ_MAX, f"tombstone counts {found.count}, at most {SEQ_MAX}")
        try:
            reason = LossReason(found.reason)
        except ValueError as error:
            raise ProtocolViolation(f"tombstone reason {found.reason} is unknown") from error
        epoch = self.id(found.epoch_index)
        return Tombstone(epoch, found.first, found.end, reason, found.count, found.span_first_us, found.span_last_us)

    def alarm_pb(self, epoch: int, alarm: Alarm) -> pb.Alarm:
        return pb.Alarm(
            epoch_index=self.place(epoch),
            id=alarm.id,
            series=alarm.series,
            rule=alarm.rule,
            phase=int(alarm.phase),
            onset_us=alarm.onset_us,
            stamp_us=alarm.stamp_us,
            score=alarm.score,
            threshold=alarm.threshold,
            value=alarm.value,
            expected=alarm.expected,
            low=alarm.low,
            high=alarm.high,
            unit=alarm.unit,
            severity=int(alarm.severity),
        )

    def alarms(self, found: Sequence[pb.Alarm]) -> tuple[tuple[int, Alarm], ...]:
        _check(len(found) <= ALARMS_PER_FRAME_MAX, f"{len(found)} alarms in one frame")
        return tuple((self.id(alarm.epoch_index), _alarm(alarm)) for alarm in found)


class GatewayFrames:
    """The gateway's end of one stream."""

    def __init__(self) -> None:
        self._epochs = _Epochs()

    def encode(self, frame: GatewayFrame) -> bytes:
        """Bytes of one frame. Hello comes first and sets the epochs that later frames may name."""
        match frame:
            case Hello():
                self._epochs.adopt(frame)
                out = pb.GatewayFrame(hello=_hello_pb(frame))
            case MessageFrame():
                message = pb.Message(
                    id=frame.id,
                    epoch_index=self._epochs.place(frame.epoch),
                    next_seq=frame.next_seq,
                    segment=frame.segment,
                )
                out = pb.GatewayFrame(message=message)
            case TombstonesFrame():
                records = [self._epochs.tombstone_pb(tombstone) for tombstone in frame.tombstones]
                out = pb.GatewayFrame(tombstones=pb.Tombstones(tombstones=records))
            case AlarmsFrame():
                changes = [self._epochs.alarm_pb(epoch, alarm) for epoch, alarm in frame.alarms]
                out = pb.GatewayFrame(alarms=pb.Alarms(alarms=changes))
            case SeriesSetsFrame():
                out = pb.GatewayFrame(series_sets=pb.SeriesSets(sets=[_series_set_pb(s) for s in frame.sets]))
        return out.SerializeToString()

    def decode(self, data: bytes) -> CloudFrame:
        """One frame of the cloud. Raises `ProtocolViolation` for anything else."""
        frame = pb.CloudFrame()
        _parse(frame, data)
        match frame.WhichOneof("frame"):
            case "welcome":
                return self._welcome(frame.welcome)
            case "ack":
                return self._ack(frame.ack)
            case "overlap":
                return Overlap(frame.overlap.message_id, _coverage(frame.overlap.coverage))
            case "need_series":
                return NeedSeries(frame.need_series.message_id, _set_ids(frame.need_series.ids))
            case "refused":
                refused = frame.refused
                return Refused(refused.message_id, _text(refused.code, "code"), _text(refused.detail, "detail"))
        raise ProtocolViolation("a cloud frame of no known kind")

    def _welcome(self, found: pb.Welcome) -> Welcome:
        named, answered = len(self._epochs.ids), len(found.coverage)
        _check(named == answered, f"Welcome covers {answered} epochs, Hello named {named}")
        return Welcome(
            generation=found.generation,
            coverage=tuple(_coverage(coverage) for coverage in found.coverage),
            server_time_us=found.server_time_us,
            credit_bytes=found.credit_bytes,
            need_series=_set_ids(found.need_series),
        )

    def _ack(self, found: pb.Ack) -> Ack:
        return Ack(
            generation=found.generation,
            stored=tuple((self._epochs.id(part.epoch_index), _ranges(part.ranges)) for part in found.stored),
            tombstones=self._epochs.tombstones(found.tombstones),
            message_ids=tuple(found.message_ids),
            credit_bytes=found.credit_bytes,
            alarms=_alarm_keys(found.alarms),
        )


class CloudFrames:
    """The cloud's end of one stream."""

    def __init__(self) -> None:
        self._epochs = _Epochs()

    def encode(self, frame: CloudFrame) -> bytes:
        """Bytes of one frame; it may name the epochs of the Hello that was decoded."""
        match frame:
            case Welcome():
                welcome = pb.Welcome(
                    generation=frame.generation,
                    coverage=[_coverage_pb(coverage) for coverage in frame.coverage],
                    server_time_us=frame.server_time_us,
                    credit_bytes=frame.credit_bytes,
                    need_series=frame.need_series,
                )
                out = pb.CloudFrame(welcome=welcome)
            case Ack():
                out = pb.CloudFrame(ack=self._ack_pb(frame))
            case Overlap():
                overlap = pb.Overlap(message_id=frame.message_id, coverage=_coverage_pb(frame.coverage))
                out = pb.CloudFrame(overlap=overlap)
            case NeedSeries():
                out = pb.CloudFrame(need_series=pb.NeedSeries(message_id=frame.message_id, ids=frame.ids))
            case Refused():
                code, detail = frame.code[:TEXT_LENGTH_MAX], frame.detail[:TEXT_LENGTH_MAX]
                out = pb.CloudFrame(refused=pb.Refused(message_id=frame.message_id, code=code, detail=detail))
        return out.SerializeToString()

    def _ack_pb(self, ack: Ack) -> pb.Ack:
        parts = [
            pb.AckedRanges(epoch_index=self._epochs.place(epoch), ranges=ranges.to_gaps())
            for epoch, ranges in ack.stored
        ]
        return pb.Ack(
            generation=ack.generation,
            stored=parts,
            tombstones=[self._epochs.tombstone_pb(tombstone) for tombstone in ack.tombstones],
            credit_bytes=ack.credit_bytes,
            message_ids=ack.message_ids,
            alarms=[pb.AlarmKey(id=id_, phase=phase, stamp_us=stamp_us) for id_, phase, stamp_us in ack.alarms],
        )

    def decode(self, data: bytes) -> GatewayFrame:
        """One frame of the gateway. Raises `ProtocolViolation` for anything else, unnamed epochs included."""
        frame = pb.GatewayFrame()
        _parse(frame, data)
        match frame.WhichOneof("frame"):
            case "hello":
                hello = _hello(frame.hello)
                self._epochs.adopt(hello)
                return hello
            case "message":
                return self._message(frame.message)
            case "tombstones":
                return TombstonesFrame(self._epochs.tombstones(frame.tombstones.tombstones))
            case "alarms":
                return AlarmsFrame(self._epochs.alarms(frame.alarms.alarms))
            case "series_sets":
                _check(len(frame.series_sets.sets) <= SETS_MAX, f"{len(frame.series_sets.sets)} series sets")
                return SeriesSetsFrame(tuple(_series_set(found) for found in frame.series_sets.sets))
        raise ProtocolViolation("a gateway frame of no known kind")

    def _message(self, found: pb.Message) -> MessageFrame:
        size = len(found.segment)
        _check(0 < size <= MESSAGE_BYTES_MAX, f"message of {size} bytes, 1 to {MESSAGE_BYTES_MAX} are allowed")
        _check(found.next_seq <= SEQ_MAX, f"next_seq {found.next_seq} is over {SEQ_MAX}")
        return MessageFrame(found.id, self._epochs.id(found.epoch_index), found.next_seq, found.segment)


def _parse(frame: pb.GatewayFrame | pb.CloudFrame, data: bytes) -> None:
    _check(len(data) <= FRAME_BYTES_MAX, f"frame of {len(data)} bytes, at most {FRAME_BYTES_MAX}")
    try:
        frame.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolViolation(f"a frame of {len(data)} bytes is not protobuf") from error


_PHASES = frozenset(map(int, Phase))
_SEVERITIES = frozenset(map(int, Severity))


def _alarm(found: pb.Alarm) -> Alarm:
    optional = {
        name: getattr(found, name) if found.HasField(name) else None for name in ("value", "expected", "low", "high")
    }
    for name, number in {"score": found.score, "threshold": found.threshold, **optional}.items():
        _check(number is None or math.isfinite(number), f"alarm {name} is {number}")
    id_, phase, stamp_us = _alarm_key(found)
    _check(found.severity in _SEVERITIES, f"alarm severity {found.severity} is unknown")
    return Alarm(
        id=id_,
        series=_text(found.series, "alarm series"),
        rule=_text(found.rule, "alarm rule"),
        phase=Phase(phase),
        onset_us=found.onset_us,
        stamp_us=stamp_us,
        score=found.score,
        threshold=found.threshold,
        **optional,
        unit=_text(found.unit, "alarm unit"),
        severity=Severity(found.severity),
    )


def _alarm_key(found: pb.Alarm | pb.AlarmKey) -> AlarmKey:
    _check(0 < found.id <= ALARM_ID_MAX, f"alarm id {found.id} is not 1 to {ALARM_ID_MAX}")
    _check(found.phase in _PHASES, f"alarm phase {found.phase} is unknown")
    return found.id, found.phase, found.stamp_us


def _alarm_keys(found: Sequence[pb.AlarmKey]) -> tuple[AlarmKey, ...]:
    _check(len(found) <= ALARMS_PER_FRAME_MAX, f"{len(found)} alarms in one ack")
    return tuple(_alarm_key(key) for key in found)


def _hello_pb(hello: Hello) -> pb.Hello:
    return pb.Hello(
        protocol=hello.protocol,
        machine=hello.machine,
        agent_version=hello.agent_version,
        config_version=hello.config_version,
        models=dict(hello.models),
        generation_seen=hello.generation_seen,
        epochs=[_offer_pb(offer) for offer in hello.epochs],
        series_sets=hello.series_sets,
    )


def _hello(found: pb.Hello) -> Hello:
    _check(found.protocol == PROTOCOL_VERSION, f"protocol {found.protocol}, this cloud speaks {PROTOCOL_VERSION}")
    _check(
        1 <= len(found.epochs) <= EPOCHS_MAX, f"Hello names {len(found.epochs)} epochs, 1 to {EPOCHS_MAX} are allowed"
    )
    _check(len(found.models) <= MODELS_MAX, f"{len(found.models)} models, at most {MODELS_MAX}")
    _check(len(found.machine) <= MACHINE_BYTES_MAX, f"machine hash of {len(found.machine)} bytes")
    offers = tuple(_offer(offer) for offer in found.epochs)
    _check(len({offer.epoch for offer in offers}) == len(offers), "Hello names an epoch twice")
    models = sorted((_text(name, "model"), _text(version, "model version")) for name, version in found.models.items())
    return Hello(
        machine=found.machine,
        agent_version=_text(found.agent_version, "agent_version"),
        config_version=_text(found.config_version, "config_version"),
        generation_seen=found.generation_seen,
        epochs=offers,
        series_sets=_set_ids(found.series_sets),
        models=tuple(models),
        protocol=found.protocol,
    )


def _offer_pb(offer: EpochOffer) -> pb.EpochOffer:
    return pb.EpochOffer(
        epoch=offer.epoch,
        next_seq=offer.next_seq,
        offered=offer.offered.to_gaps(),
        predecessor=offer.predecessor,
        predecessor_next_seq=offer.predecessor_next_seq,
        given_up=offer.given_up.to_gaps(),
    )


def _offer(found: pb.EpochOffer) -> EpochOffer:
    offered = _ranges(found.offered)
    _check(0 < found.epoch <= SEQ_MAX, f"epoch id {found.epoch} is not 1 to {SEQ_MAX}")
    _check(found.predecessor <= SEQ_MAX, f"predecessor {found.predecessor} is over {SEQ_MAX}")
    in_order = offered.end <= found.next_seq <= SEQ_MAX
    _check(in_order, f"epoch {found.epoch:016x}: offers up to {offered.end}, next_seq {found.next_seq}")
    predecessor_next_seq: int | None = None
    if found.HasField("predecessor_next_seq"):
        predecessor_next_seq = found.predecessor_next_seq
        _check(predecessor_next_seq <= SEQ_MAX, f"predecessor_next_seq {predecessor_next_seq} is over {SEQ_MAX}")
    given_up = _ranges(found.given_up)
    return EpochOffer(found.epoch, found.next_seq, offered, found.predecessor, predecessor_next_seq, given_up)


def _series_set_pb(series_set: SeriesSet) -> pb.SeriesSet:
    return pb.SeriesSet(
        stamp_unit=int(series_set.stamp_unit), series=[_series_def_pb(series) for series in series_set.series]
    )


def _series_def_pb(series: SeriesDef) -> pb.SeriesDef:
    return pb.SeriesDef(
        sensor=series.sensor,
        channel=series.channel,
        unit=series.unit,
        value_type=int(series.value_type),
        num=series.num,
        den=series.den,
        off=series.off,
        device_class=series.device_class,
        low=series.low,
        high=series.high,
        rate_max=series.rate_max,
        calibration=series.calibration,
    )


def _series_set(found: pb.SeriesSet) -> SeriesSet:
    _check(len(found.series) <= SERIES_PER_SET_MAX, f"{len(found.series)} series in a set")
    try:
        return SeriesSet(tuple(_series_def(series) for series in found.series), StampUnit(found.stamp_unit))
    except ValueError as error:
        raise ProtocolViolation(f"series set: {error}") from error


def _series_def(found: pb.SeriesDef) -> SeriesDef:
    bounds = {name: getattr(found, name) if found.HasField(name) else None for name in ("low", "high", "rate_max")}
    return SeriesDef(
        sensor=found.sensor,
        channel=found.channel,
        unit=_text(found.unit, "unit"),
        value_type=ValueType(found.value_type),
        num=found.num,
        den=found.den,
        off=found.off,
        device_class=_text(found.device_class, "device_class"),
        calibration=found.calibration,
        **bounds,
    )
