"""What the gateway's machine says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Reason(Enum):
    """Why the machine wants the stream closed. Data is kept in every case."""

    STALL = "stall"  # bytes outstanding and no answer
    PROTOCOL = "protocol"  # the cloud sent what the protocol does not allow here
    NEW_EPOCH = "new epoch"  # Seq numbers were used twice; a new epoch was begun
    GENERATION = "generation"  # an ack of another generation than Welcome's
    HELD = "held"  # nothing may leave now, and nothing is awaited


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A wish to close the stream; `detail` is for people."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """What `status` shows. Bytes are of messages, counted since the process began; times are the caller's `now`."""

    connected: bool  # Welcome has come
    in_flight: int
    in_flight_bytes: int
    messages_sent: int
    bytes_sent: int
    replies: int
    last_ack_at: float | None
    last_error: str
    reconnect_at: float | None
    rate_bytes_per_s: float
    generation: int
    credit_bytes: int  # what the cloud lets stand unacknowledged
    silent_since: float | None  # of an answer that is awaited
    merging_until: float | None  # live atoms wait to be merged until then
