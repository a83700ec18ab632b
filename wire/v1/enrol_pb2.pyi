from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("token_id", "secret", "gateway", "request", "machine", "agent_version")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    token_id: str
    secret: str
    gateway: str
    request: bytes
    machine: bytes
    agent_version: str
    def __init__(self, token_id: _Optional[str] = ..., secret: _Optional[str] = ..., gateway: _Optional[str] = ..., request: _Optional[bytes] = ..., machine: _Optional[bytes] = ..., agent_version: _Optional[str] = ...) -> None: ...

class JoinAnswer(_message.Message):
    __slots__ = ("pending", "issued", "gateway", "sync_port", "labels", "config")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PENDING_FIELD_NUMBER: _ClassVar[int]
    ISSUED_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SYNC_PORT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    pending: bool
    issued: IssuedCertificate
    gateway: str
    sync_port: int
    labels: _containers.ScalarMap[str, str]
    config: str
    def __init__(self, pending: _Optional[bool] = ..., issued: _Optional[_Union[IssuedCertificate, _Mapping]] = ..., gateway: _Optional[str] = ..., sync_port: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., config: _Optional[str] = ...) -> None: ...

class IssuedCertificate(_message.Message):
    __slots__ = ("certificate", "ca_bundle", "server_time_us")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CA_BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_US_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    ca_bundle: bytes
    server_time_us: int
    def __init__(self, certificate: _Optional[bytes] = ..., ca_bundle: _Optional[bytes] = ..., server_time_us: _Optional[int] = ...) -> None: ...

class RecoverRequest(_message.Message):
    __slots__ = ("certificate", "request", "signature")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    request: bytes
    signature: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., request: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: bytes
    def __init__(self, request: _Optional[bytes] = ...) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaveAnswer(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
