"""Frames to bytes and back: the only place, with `message_parts` and wire/v1 itself, that knows protobuf.

One converter per stream, because epochs travel as their place in Hello's list. `GatewayFrames` is the gateway's end,
`CloudFrames` the cloud's. Decoding is total: any bytes give a frame or `ProtocolViolation`, and every length is checked
against a bound that the peer cannot choose. gRPC carries the bytes as they are (no serialiser of its own).
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from wire.assignment import DOCUMENT_BYTES_MAX
from wire.errors import ProtocolViolation
from wire.message_parts import (
    SETS_MAX,
    TEXT_LENGTH_MAX,
    Epochs,
    alarm_keys_of,
    bundle_of,
    check,
    coverage_of,
    coverage_pb,
    hello_of,
    hello_pb,
    ranges_of,
    report_ids_of,
    report_pb,
    reports_of,
    series_set_of,
    series_set_pb,
    set_ids_of,
    text_of,
)
from wire.ranges import SEQ_MAX
from wire.segment import MESSAGE_BYTES_MAX
from wire.sync.frames import (
    Ack,
    AlarmsFrame,
    AssignmentFrame,
    CloudFrame,
    GatewayFrame,
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
from wire.v1 import sync_pb2 as pb

SYNC_METHOD = "/tidegate.wire.v1.SyncService/Sync"  # protos/wire/v1/sync.proto
FRAME_BYTES_MAX = 4 * 1024 * 1024  # a set of 4096 series is the largest frame, about 1.5 MB


class GatewayFrames:
    """The gateway's end of one stream."""

    def __init__(self) -> None:
        self._epochs = Epochs()

    def encode(self, frame: GatewayFrame) -> bytes:
        """Bytes of one frame. Hello comes first and sets the epochs that later frames may name."""
        match frame:
            case Hello():
                self._epochs.adopt(frame)
                out = pb.GatewayFrame(hello=hello_pb(frame))
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
            case ReportsFrame():
                steps = [report_pb(report) for report in frame.reports]
                out = pb.GatewayFrame(reports=pb.Reports(reports=steps))
            case SeriesSetsFrame():
                out = pb.GatewayFrame(series_sets=pb.SeriesSets(sets=[series_set_pb(s) for s in frame.sets]))
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
                return Overlap(frame.overlap.message_id, coverage_of(frame.overlap.coverage))
            case "need_series":
                return NeedSeries(frame.need_series.message_id, set_ids_of(frame.need_series.ids))
            case "refused":
                refused = frame.refused
                return Refused(refused.message_id, text_of(refused.code, "code"), text_of(refused.detail, "detail"))
            case "assignment":
                size = len(frame.assignment.document)
                check(0 < size <= DOCUMENT_BYTES_MAX, f"assignment of {size} bytes, at most {DOCUMENT_BYTES_MAX}")
                return AssignmentFrame(frame.assignment.document)
        raise ProtocolViolation("a cloud frame of no known kind")

    def _welcome(self, found: pb.Welcome) -> Welcome:
        named, answered = len(self._epochs.ids), len(found.coverage)
        check(named == answered, f"Welcome covers {answered} epochs, Hello named {named}")
        return Welcome(
            generation=found.generation,
            coverage=tuple(coverage_of(coverage) for coverage in found.coverage),
            server_time_us=found.server_time_us,
            credit_bytes=found.credit_bytes,
            need_series=set_ids_of(found.need_series),
            takes_reports=found.takes_reports,
            ca_bundle=bundle_of(found.ca_bundle),
            renew=found.renew,
        )

    def _ack(self, found: pb.Ack) -> Ack:
        return Ack(
            generation=found.generation,
            stored=tuple((self._epochs.id(part.epoch_index), ranges_of(part.ranges)) for part in found.stored),
            tombstones=self._epochs.tombstones(found.tombstones),
            message_ids=tuple(found.message_ids),
            credit_bytes=found.credit_bytes,
            alarms=alarm_keys_of(found.alarms),
            reports=report_ids_of(found.reports),
            held_ms=tuple(found.held_ms),
        )


class CloudFrames:
    """The cloud's end of one stream."""

    def __init__(self) -> None:
        self._epochs = Epochs()

    def encode(self, frame: CloudFrame) -> bytes:
        """Bytes of one frame; it may name the epochs of the Hello that was decoded."""
        match frame:
            case Welcome():
                welcome = pb.Welcome(
                    generation=frame.generation,
                    coverage=[coverage_pb(coverage) for coverage in frame.coverage],
                    server_time_us=frame.server_time_us,
                    credit_bytes=frame.credit_bytes,
                    need_series=frame.need_series,
                    takes_reports=frame.takes_reports,
                    ca_bundle=frame.ca_bundle,
                    renew=frame.renew,
                )
                out = pb.CloudFrame(welcome=welcome)
            case Ack():
                out = pb.CloudFrame(ack=self._ack_pb(frame))
            case Overlap():
                overlap = pb.Overlap(message_id=frame.message_id, coverage=coverage_pb(frame.coverage))
                out = pb.CloudFrame(overlap=overlap)
            case NeedSeries():
                out = pb.CloudFrame(need_series=pb.NeedSeries(message_id=frame.message_id, ids=frame.ids))
            case AssignmentFrame():
                out = pb.CloudFrame(assignment=pb.Assignment(document=frame.document))
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
            reports=ack.reports,
            held_ms=ack.held_ms,
        )

    def decode(self, data: bytes) -> GatewayFrame:
        """One frame of the gateway. Raises `ProtocolViolation` for anything else, unnamed epochs included."""
        frame = pb.GatewayFrame()
        _parse(frame, data)
        match frame.WhichOneof("frame"):
            case "hello":
                hello = hello_of(frame.hello)
                self._epochs.adopt(hello)
                return hello
            case "message":
                return self._message(frame.message)
            case "tombstones":
                return TombstonesFrame(self._epochs.tombstones(frame.tombstones.tombstones))
            case "alarms":
                return AlarmsFrame(self._epochs.alarms(frame.alarms.alarms))
            case "series_sets":
                check(len(frame.series_sets.sets) <= SETS_MAX, f"{len(frame.series_sets.sets)} series sets")
                return SeriesSetsFrame(tuple(series_set_of(found) for found in frame.series_sets.sets))
            case "reports":
                return ReportsFrame(reports_of(frame.reports.reports))
        raise ProtocolViolation("a gateway frame of no known kind")

    def _message(self, found: pb.Message) -> MessageFrame:
        size = len(found.segment)
        check(0 < size <= MESSAGE_BYTES_MAX, f"message of {size} bytes, 1 to {MESSAGE_BYTES_MAX} are allowed")
        check(found.next_seq <= SEQ_MAX, f"next_seq {found.next_seq} is over {SEQ_MAX}")
        return MessageFrame(found.id, self._epochs.id(found.epoch_index), found.next_seq, found.segment)


def _parse(frame: pb.GatewayFrame | pb.CloudFrame, data: bytes) -> None:
    check(len(data) <= FRAME_BYTES_MAX, f"frame of {len(data)} bytes, at most {FRAME_BYTES_MAX}")
    try:
        frame.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolViolation(f"a frame of {len(data)} bytes is not protobuf") from error
