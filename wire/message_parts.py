"""What frames are made of, to protobuf and back. Every length is checked against a bound that the peer cannot choose.

`X_pb` makes a message, `X_of` reads one; what is read raises `ProtocolViolation` when it is not as the protocol says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from wire.alarm import Alarm, AlarmKey, Phase, Severity
from wire.errors import ProtocolViolation
from wire.ranges import SEQ_MAX, RangeSet
from wire.reading import SERIES_PER_SET_MAX, LossReason, Tombstone
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType
from wire.sync.frames import EPOCHS_MAX, NONCE_BYTES_MAX, PROTOCOL_VERSION, EpochCoverage, EpochOffer, Hello
from wire.sync.updates import Report
from wire.trust import BUNDLE_BYTES_MAX
from wire.v1 import sync_pb2 as pb

TOMBSTONES_PER_FRAME_MAX = 1024
ALARMS_PER_FRAME_MAX = 1024
REPORTS_PER_FRAME_MAX = 256
ID_MAX = (1 << 63) - 1  # of alarms and reports
SETS_MAX = 4096  # ids named in one frame
MODELS_MAX = 256
MACHINE_BYTES_MAX = 32
TEXT_LENGTH_MAX = 1024


def check(ok: bool, detail: str) -> None:
    """Raises ProtocolViolation unless `ok`."""
    if not ok:
        raise ProtocolViolation(detail)


def ranges_of(flat: Sequence[int]) -> RangeSet:
    """Gap, length, gap, length, ..."""
    try:
        return RangeSet.from_gaps(flat)
    except ValueError as error:
        raise ProtocolViolation(f"ranges: {error}") from error


def text_of(text: str, name: str) -> str:
    """A text of bounded length that a database can keep."""
    check(len(text) <= TEXT_LENGTH_MAX, f"{name} of {len(text)} characters, at most {TEXT_LENGTH_MAX}")
    check("\0" not in text, f"{name} holds a NUL")
    return text


def bundle_of(bundle: bytes) -> bytes:
    """CAs of bounded length, PEM."""
    check(len(bundle) <= BUNDLE_BYTES_MAX, f"{len(bundle)} bytes of CAs, at most {BUNDLE_BYTES_MAX}")
    return bundle


def set_ids_of(ids: Sequence[int]) -> tuple[int, ...]:
    """Ids of series sets."""
    check(len(ids) <= SETS_MAX, f"{len(ids)} series sets named, at most {SETS_MAX}")
    check(all(one <= SEQ_MAX for one in ids), f"a series set's id is over {SEQ_MAX}")
    return tuple(ids)


def coverage_of(coverage: pb.Coverage) -> EpochCoverage:
    """See `EpochCoverage`."""
    return EpochCoverage(ranges_of(coverage.stored), ranges_of(coverage.tombstoned))


def coverage_pb(coverage: EpochCoverage) -> pb.Coverage:
    """See `EpochCoverage`."""
    return pb.Coverage(stored=coverage.stored.to_gaps(), tombstoned=coverage.tombstoned.to_gaps())


class Epochs:
    """The epoch table that Hello set up."""

    def __init__(self) -> None:
        self.ids: tuple[int, ...] = ()
        self._places: dict[int, int] = {}

    def adopt(self, hello: Hello) -> None:
        """Epochs are named by their places in this Hello from now on."""
        self.ids = tuple(offer.epoch for offer in hello.epochs)
        self._places = {epoch: place for place, epoch in enumerate(self.ids)}

    def place(self, epoch: int) -> int:
        """An epoch's place."""
        return self._places[epoch]

    def id(self, place: int) -> int:
        """The epoch at a place."""
        check(place < len(self.ids), f"epoch {place} of {len(self.ids)} that Hello named")
        return self.ids[place]

    def tombstone_pb(self, tombstone: Tombstone) -> pb.Tombstone:
        """See `Tombstone`."""
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
        """See `Tombstone`."""
        check(len(found) <= TOMBSTONES_PER_FRAME_MAX, f"{len(found)} tombstones in one frame")
        return tuple(self._tombstone(tombstone) for tombstone in found)

    def _tombstone(self, found: pb.Tombstone) -> Tombstone:
        ordered = found.first <= found.end <= SEQ_MAX
        check(ordered, f"tombstone {found.first}..{found.end} is not a range up to {SEQ_MAX}")
        check(found.count <= SEQ_MAX, f"tombstone counts {found.count}, at most {SEQ_MAX}")
        try:
            reason = LossReason(found.reason)
        except ValueError as error:
            raise ProtocolViolation(f"tombstone reason {found.reason} is unknown") from error
        epoch = self.id(found.epoch_index)
        return Tombstone(epoch, found.first, found.end, reason, found.count, found.span_first_us, found.span_last_us)

    def alarm_pb(self, epoch: int, alarm: Alarm) -> pb.Alarm:
        """See `Alarm`."""
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
        """Changes of alarms with their epochs."""
        check(len(found) <= ALARMS_PER_FRAME_MAX, f"{len(found)} alarms in one frame")
        return tuple((self.id(alarm.epoch_index), _alarm(alarm)) for alarm in found)


_PHASES = frozenset(map(int, Phase))
_SEVERITIES = frozenset(map(int, Severity))


def _alarm(found: pb.Alarm) -> Alarm:
    optional = {
        name: getattr(found, name) if found.HasField(name) else None for name in ("value", "expected", "low", "high")
    }
    for name, number in {"score": found.score, "threshold": found.threshold, **optional}.items():
        check(number is None or math.isfinite(number), f"alarm {name} is {number}")
    id_, phase, stamp_us = _alarm_key(found)
    check(found.severity in _SEVERITIES, f"alarm severity {found.severity} is unknown")
    return Alarm(
        id=id_,
        series=text_of(found.series, "alarm series"),
        rule=text_of(found.rule, "alarm rule"),
        phase=Phase(phase),
        onset_us=found.onset_us,
        stamp_us=stamp_us,
        score=found.score,
        threshold=found.threshold,
        **optional,
        unit=text_of(found.unit, "alarm unit"),
        severity=Severity(found.severity),
    )


def _alarm_key(found: pb.Alarm | pb.AlarmKey) -> AlarmKey:
    check(0 < found.id <= ID_MAX, f"alarm id {found.id} is not 1 to {ID_MAX}")
    check(found.phase in _PHASES, f"alarm phase {found.phase} is unknown")
    return found.id, found.phase, found.stamp_us


def alarm_keys_of(found: Sequence[pb.AlarmKey]) -> tuple[AlarmKey, ...]:
    """Keys in an ack."""
    check(len(found) <= ALARMS_PER_FRAME_MAX, f"{len(found)} alarms in one ack")
    return tuple(_alarm_key(key) for key in found)


def hello_pb(hello: Hello) -> pb.Hello:
    """See `Hello`."""
    return pb.Hello(
        protocol=hello.protocol,
        machine=hello.machine,
        agent_version=hello.agent_version,
        config_version=hello.config_version,
        models=dict(hello.models),
        nonce=hello.nonce,
        generation_seen=hello.generation_seen,
        epochs=[_offer_pb(offer) for offer in hello.epochs],
        series_sets=hello.series_sets,
        ca_bundle=hello.ca_bundle,
    )


def hello_of(found: pb.Hello) -> Hello:
    """See `Hello`."""
    check(found.protocol == PROTOCOL_VERSION, f"protocol {found.protocol}, this cloud speaks {PROTOCOL_VERSION}")
    check(
        1 <= len(found.epochs) <= EPOCHS_MAX, f"Hello names {len(found.epochs)} epochs, 1 to {EPOCHS_MAX} are allowed"
    )
    check(len(found.models) <= MODELS_MAX, f"{len(found.models)} models, at most {MODELS_MAX}")
    check(len(found.machine) <= MACHINE_BYTES_MAX, f"machine hash of {len(found.machine)} bytes")
    check(len(found.nonce) <= NONCE_BYTES_MAX, f"nonce of {len(found.nonce)} bytes, at most {NONCE_BYTES_MAX}")
    offers = tuple(_offer(offer) for offer in found.epochs)
    check(len({offer.epoch for offer in offers}) == len(offers), "Hello names an epoch twice")
    models = sorted(
        (text_of(name, "model"), text_of(version, "model version")) for name, version in found.models.items()
    )
    return Hello(
        machine=found.machine,
        agent_version=text_of(found.agent_version, "agent_version"),
        config_version=text_of(found.config_version, "config_version"),
        generation_seen=found.generation_seen,
        epochs=offers,
        series_sets=set_ids_of(found.series_sets),
        models=tuple(models),
        protocol=found.protocol,
        nonce=found.nonce,
        ca_bundle=found.ca_bundle,
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
    offered = ranges_of(found.offered)
    check(0 < found.epoch <= SEQ_MAX, f"epoch id {found.epoch} is not 1 to {SEQ_MAX}")
    check(found.predecessor <= SEQ_MAX, f"predecessor {found.predecessor} is over {SEQ_MAX}")
    in_order = offered.end <= found.next_seq <= SEQ_MAX
    check(in_order, f"epoch {found.epoch:016x}: offers up to {offered.end}, next_seq {found.next_seq}")
    predecessor_next_seq: int | None = None
    if found.HasField("predecessor_next_seq"):
        predecessor_next_seq = found.predecessor_next_seq
        check(predecessor_next_seq <= SEQ_MAX, f"predecessor_next_seq {predecessor_next_seq} is over {SEQ_MAX}")
    given_up = ranges_of(found.given_up)
    return EpochOffer(found.epoch, found.next_seq, offered, found.predecessor, predecessor_next_seq, given_up)


def series_set_pb(series_set: SeriesSet) -> pb.SeriesSet:
    """See `SeriesSet`."""
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


def series_set_of(found: pb.SeriesSet) -> SeriesSet:
    """See `SeriesSet`."""
    check(len(found.series) <= SERIES_PER_SET_MAX, f"{len(found.series)} series in a set")
    try:
        return SeriesSet(tuple(_series_def(series) for series in found.series), StampUnit(found.stamp_unit))
    except ValueError as error:
        raise ProtocolViolation(f"series set: {error}") from error


def _series_def(found: pb.SeriesDef) -> SeriesDef:
    bounds = {name: getattr(found, name) if found.HasField(name) else None for name in ("low", "high", "rate_max")}
    return SeriesDef(
        sensor=found.sensor,
        channel=found.channel,
        unit=text_of(found.unit, "unit"),
        value_type=ValueType(found.value_type),
        num=found.num,
        den=found.den,
        off=found.off,
        device_class=text_of(found.device_class, "device_class"),
        calibration=found.calibration,
        **bounds,
    )


def report_pb(report: Report) -> pb.Report:
    """See `Report`."""
    return pb.Report(
        id=report.id,
        at_us=report.at_us,
        family=report.family,
        release=report.release,
        stage=report.stage,
        reason=report.reason,
        text=report.text,
    )


def reports_of(found: Sequence[pb.Report]) -> tuple[Report, ...]:
    """Steps of updates."""
    check(len(found) <= REPORTS_PER_FRAME_MAX, f"{len(found)} reports in one frame, at most {REPORTS_PER_FRAME_MAX}")
    return tuple(_report(report) for report in found)


def _report(found: pb.Report) -> Report:
    report_ids_of([found.id])
    words = {name: text_of(getattr(found, name), name) for name in ("family", "release", "stage", "reason", "text")}
    return Report(found.id, found.at_us, **words)


def report_ids_of(found: Sequence[int]) -> tuple[int, ...]:
    """Ids in an ack."""
    check(len(found) <= REPORTS_PER_FRAME_MAX, f"{len(found)} reports in one ack, at most {REPORTS_PER_FRAME_MAX}")
    check(all(0 < one <= ID_MAX for one in found), f"a report's id is not 1 to {ID_MAX}")
    return tuple(found)
