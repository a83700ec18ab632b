from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GatewayFrame(_message.Message):
    __slots__ = ("hello", "message", "tombstones", "series_sets", "alarms", "reports")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    SERIES_SETS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    message: Message
    tombstones: Tombstones
    series_sets: SeriesSets
    alarms: Alarms
    reports: Reports
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., tombstones: _Optional[_Union[Tombstones, _Mapping]] = ..., series_sets: _Optional[_Union[SeriesSets, _Mapping]] = ..., alarms: _Optional[_Union[Alarms, _Mapping]] = ..., reports: _Optional[_Union[Reports, _Mapping]] = ...) -> None: ...

class CloudFrame(_message.Message):
    __slots__ = ("welcome", "ack", "overlap", "need_series", "refused", "assignment")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    NEED_SERIES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    overlap: Overlap
    need_series: NeedSeries
    refused: Refused
    assignment: Assignment
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., overlap: _Optional[_Union[Overlap, _Mapping]] = ..., need_series: _Optional[_Union[NeedSeries, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "machine", "agent_version", "config_version", "models", "generation_seen", "epochs", "series_sets", "nonce", "ca_bundle")
    class ModelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONFIG_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_SEEN_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    SERIES_SETS_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    machine: bytes
    agent_version: str
    config_version: str
    models: _containers.ScalarMap[str, str]
    generation_seen: int
    epochs: _containers.RepeatedCompositeFieldContainer[EpochOffer]
    series_sets: _containers.RepeatedScalarFieldContainer[int]
    nonce: bytes
    ca_bundle: int
    def __init__(self, protocol: _Optional[int] = ..., machine: _Optional[bytes] = ..., agent_version: _Optional[str] = ..., config_version: _Optional[str] = ..., models: _Optional[_Mapping[str, str]] = ..., generation_seen: _Optional[int] = ..., epochs: _Optional[_Iterable[_Union[EpochOffer, _Mapping]]] = ..., series_sets: _Optional[_Iterable[int]] = ..., nonce: _Optional[bytes] = ..., ca_bundle: _Optional[int] = ...) -> None: ...

class EpochOffer(_message.Message):
    __slots__ = ("epoch", "next_seq", "offered", "predecessor", "predecessor_next_seq", "given_up")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    PREDECESSOR_FIELD_NUMBER: _ClassVar[int]
    PREDECESSOR_NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    GIVEN_UP_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    next_seq: int
    offered: _containers.RepeatedScalarFieldContainer[int]
    predecessor: int
    predecessor_next_seq: int
    given_up: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epoch: _Optional[int] = ..., next_seq: _Optional[int] = ..., offered: _Optional[_Iterable[int]] = ..., predecessor: _Optional[int] = ..., predecessor_next_seq: _Optional[int] = ..., given_up: _Optional[_Iterable[int]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("id", "epoch_index", "next_seq", "segment")
    ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQ_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    epoch_index: int
    next_seq: int
    segment: bytes
    def __init__(self, id: _Optional[int] = ..., epoch_index: _Optional[int] = ..., next_seq: _Optional[int] = ..., segment: _Optional[bytes] = ...) -> None: ...

class Tombstones(_message.Message):
    __slots__ = ("tombstones",)
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    tombstones: _containers.RepeatedCompositeFieldContainer[Tombstone]
    def __init__(self, tombstones: _Optional[_Iterable[_Union[Tombstone, _Mapping]]] = ...) -> None: ...

class Tombstone(_message.Message):
    __slots__ = ("epoch_index", "first", "end", "reason", "count", "span_first_us", "span_last_us")
    EPOCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIRST_US_FIELD_NUMBER: _ClassVar[int]
    SPAN_LAST_US_FIELD_NUMBER: _ClassVar[int]
    epoch_index: int
    first: int
    end: int
    reason: int
    count: int
    span_first_us: int
    span_last_us: int
    def __init__(self, epoch_index: _Optional[int] = ..., first: _Optional[int] = ..., end: _Optional[int] = ..., reason: _Optional[int] = ..., count: _Optional[int] = ..., span_first_us: _Optional[int] = ..., span_last_us: _Optional[int] = ...) -> None: ...

class Alarms(_message.Message):
    __slots__ = ("alarms",)
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    alarms: _containers.RepeatedCompositeFieldContainer[Alarm]
    def __init__(self, alarms: _Optional[_Iterable[_Union[Alarm, _Mapping]]] = ...) -> None: ...

class Alarm(_message.Message):
    __slots__ = ("epoch_index", "id", "series", "rule", "phase", "onset_us", "stamp_us", "score", "threshold", "value", "expected", "low", "high", "unit", "severity")
    EPOCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ONSET_US_FIELD_NUMBER: _ClassVar[int]
    STAMP_US_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    epoch_index: int
    id: int
    series: str
    rule: str
    phase: int
    onset_us: int
    stamp_us: int
    score: float
    threshold: float
    value: float
    expected: float
    low: float
    high: float
    unit: str
    severity: int
    def __init__(self, epoch_index: _Optional[int] = ..., id: _Optional[int] = ..., series: _Optional[str] = ..., rule: _Optional[str] = ..., phase: _Optional[int] = ..., onset_us: _Optional[int] = ..., stamp_us: _Optional[int] = ..., score: _Optional[float] = ..., threshold: _Optional[float] = ..., value: _Optional[float] = ..., expected: _Optional[float] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., unit: _Optional[str] = ..., severity: _Optional[int] = ...) -> None: ...

class AlarmKey(_message.Message):
    __slots__ = ("id", "phase", "stamp_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STAMP_US_FIELD_NUMBER: _ClassVar[int]
    id: int
    phase: int
    stamp_us: int
    def __init__(self, id: _Optional[int] = ..., phase: _Optional[int] = ..., stamp_us: _Optional[int] = ...) -> None: ...

class SeriesSets(_message.Message):
    __slots__ = ("sets",)
    SETS_FIELD_NUMBER: _ClassVar[int]
    sets: _containers.RepeatedCompositeFieldContainer[SeriesSet]
    def __init__(self, sets: _Optional[_Iterable[_Union[SeriesSet, _Mapping]]] = ...) -> None: ...

class SeriesSet(_message.Message):
    __slots__ = ("stamp_unit", "series")
    STAMP_UNIT_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    stamp_unit: int
    series: _containers.RepeatedCompositeFieldContainer[SeriesDef]
    def __init__(self, stamp_unit: _Optional[int] = ..., series: _Optional[_Iterable[_Union[SeriesDef, _Mapping]]] = ...) -> None: ...

class SeriesDef(_message.Message):
    __slots__ = ("sensor", "channel", "unit", "value_type", "num", "den", "off", "device_class", "low", "high", "rate_max", "calibration")
    SENSOR_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    VALUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    NUM_FIELD_NUMBER: _ClassVar[int]
    DEN_FIELD_NUMBER: _ClassVar[int]
    OFF_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    RATE_MAX_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    sensor: str
    channel: str
    unit: str
    value_type: int
    num: int
    den: int
    off: int
    device_class: str
    low: float
    high: float
    rate_max: float
    calibration: int
    def __init__(self, sensor: _Optional[str] = ..., channel: _Optional[str] = ..., unit: _Optional[str] = ..., value_type: _Optional[int] = ..., num: _Optional[int] = ..., den: _Optional[int] = ..., off: _Optional[int] = ..., device_class: _Optional[str] = ..., low: _Optional[float] = ..., high: _Optional[float] = ..., rate_max: _Optional[float] = ..., calibration: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("generation", "coverage", "server_time_us", "credit_bytes", "need_series", "takes_reports", "ca_bundle", "renew")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_US_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    NEED_SERIES_FIELD_NUMBER: _ClassVar[int]
    TAKES_REPORTS_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    generation: int
    coverage: _containers.RepeatedCompositeFieldContainer[Coverage]
    server_time_us: int
    credit_bytes: int
    need_series: _containers.RepeatedScalarFieldContainer[int]
    takes_reports: bool
    ca_bundle: bytes
    renew: bool
    def __init__(self, generation: _Optional[int] = ..., coverage: _Optional[_Iterable[_Union[Coverage, _Mapping]]] = ..., server_time_us: _Optional[int] = ..., credit_bytes: _Optional[int] = ..., need_series: _Optional[_Iterable[int]] = ..., takes_reports: _Optional[bool] = ..., ca_bundle: _Optional[bytes] = ..., renew: _Optional[bool] = ...) -> None: ...

class Coverage(_message.Message):
    __slots__ = ("stored", "tombstoned")
    STORED_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONED_FIELD_NUMBER: _ClassVar[int]
    stored: _containers.RepeatedScalarFieldContainer[int]
    tombstoned: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, stored: _Optional[_Iterable[int]] = ..., tombstoned: _Optional[_Iterable[int]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("generation", "stored", "tombstones", "credit_bytes", "message_ids", "alarms", "reports", "held_ms")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    ALARMS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    HELD_MS_FIELD_NUMBER: _ClassVar[int]
    generation: int
    stored: _containers.RepeatedCompositeFieldContainer[AckedRanges]
    tombstones: _containers.RepeatedCompositeFieldContainer[Tombstone]
    credit_bytes: int
    message_ids: _containers.RepeatedScalarFieldContainer[int]
    alarms: _containers.RepeatedCompositeFieldContainer[AlarmKey]
    reports: _containers.RepeatedScalarFieldContainer[int]
    held_ms: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, generation: _Optional[int] = ..., stored: _Optional[_Iterable[_Union[AckedRanges, _Mapping]]] = ..., tombstones: _Optional[_Iterable[_Union[Tombstone, _Mapping]]] = ..., credit_bytes: _Optional[int] = ..., message_ids: _Optional[_Iterable[int]] = ..., alarms: _Optional[_Iterable[_Union[AlarmKey, _Mapping]]] = ..., reports: _Optional[_Iterable[int]] = ..., held_ms: _Optional[_Iterable[int]] = ...) -> None: ...

class AckedRanges(_message.Message):
    __slots__ = ("epoch_index", "ranges")
    EPOCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    epoch_index: int
    ranges: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epoch_index: _Optional[int] = ..., ranges: _Optional[_Iterable[int]] = ...) -> None: ...

class Overlap(_message.Message):
    __slots__ = ("message_id", "coverage")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    message_id: int
    coverage: Coverage
    def __init__(self, message_id: _Optional[int] = ..., coverage: _Optional[_Union[Coverage, _Mapping]] = ...) -> None: ...

class NeedSeries(_message.Message):
    __slots__ = ("message_id", "ids")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    message_id: int
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, message_id: _Optional[int] = ..., ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("message_id", "code", "detail")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    message_id: int
    code: str
    detail: str
    def __init__(self, message_id: _Optional[int] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    def __init__(self, document: _Optional[bytes] = ...) -> None: ...

class Reports(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[Report]
    def __init__(self, reports: _Optional[_Iterable[_Union[Report, _Mapping]]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("id", "at_us", "family", "release", "stage", "reason", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: int
    at_us: int
    family: str
    release: str
    stage: str
    reason: str
    text: str
    def __init__(self, id: _Optional[int] = ..., at_us: _Optional[int] = ..., family: _Optional[str] = ..., release: _Optional[str] = ..., stage: _Optional[str] = ..., reason: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...
