"""How much may be on its way, when silence means a dead link, and how long to wait before the next try."""

from __future__ import annotations

import random
from dataclasses import dataclass

from wire.sync.frames import MESSAGES_IN_FLIGHT_MAX

WINDOW_BYTES_START = 16 * 1024  # before the first ack tells the rate
WINDOW_BYTES_MIN = 4 * 1024  # 2 s of a GPRS link at 2 kB/s: what an alarm may have to wait behind
# What is merged at most, on any link: 80,000 readings, hardly denser with more; making it holds the caller some 60 ms.
MERGE_BYTES_MAX = 64 * 1024
MESSAGE_BYTES_MIN = 1024  # about 1000 readings: larger ones are hardly denser
QUEUE_S = 1.0  # bulk that stands before the slowest hop: what an alarm waits on a link that is filled
RATE_GAIN_UP = 0.5
RATE_GAIN_DOWN = 0.25
HELD_GAIN_UP, HELD_GAIN_DOWN = 0.1, 0.5  # to the short commits: after a long one the link would be filled too much
HELD_S_MAX = 60.0
OVERHEAD, OVERHEAD_BYTES = 1.06, 120  # socket bytes of a message and its ack: headers per segment, TLS, HTTP/2
STALL_FACTOR = 4.0  # times the time that the outstanding bytes should need
STALL_RATE_MIN = 2000.0  # bytes per second, GPRS: what is assumed while the rate is unknown or lower
PATIENCE_MAX = 16.0  # so that a link of 100 B/s still gets one message through


@dataclass(slots=True)
class Sent:
    """One unanswered message: what its ack will tell about the link."""

    size: int
    bulk: bool
    at: float
    acked_before: int  # bytes acknowledged on this stream when it left
    limited: bool = True  # the window, not lack of data, held more back until its ack


class Flow:
    """Bytes on one stream. Bulk is held to QUEUE_S of the measured rate beyond the link's own delay; alarms are not.

    The rate is kept over reconnects; everything else starts anew with `open`.
    """

    def __init__(self, stall_s: float, rate_max: float = 0.0) -> None:
        """`rate_max`: bytes per second that are not to be passed; 0: no cap."""
        self.ready_at = 0.0  # when the cap lets bulk go again
        self.rate = 0.0  # bytes per second that acks came back for; 0: unknown
        self.unacked_bytes = 0  # all that an answer is awaited for
        self.credit_bytes = 0
        self._stall_s = stall_s
        self._rate_max = rate_max
        self._message_bytes = 0
        self._bulk_bytes = 0
        self._messages = 0
        self._acked_bytes = 0
        self._delay_s: float | None = None
        self._held_s = 0.0
        self._patience = 1.0
        self.progress_at = 0.0  # when silence began: the last answer, or the first byte that awaits one

    def open(self) -> None:
        """A new stream: nothing is on its way."""
        self.unacked_bytes = self._message_bytes = self._bulk_bytes = self._messages = self._acked_bytes = 0
        self._delay_s = None

    def grant(self, credit_bytes: int) -> None:
        """What the cloud lets stand unacknowledged; 0 leaves it as it is."""
        self.credit_bytes = credit_bytes or self.credit_bytes

    def expect(self, size: int, now: float) -> None:
        """Something other than a message left, and an answer is awaited: Hello, tombstones."""
        if not self.unacked_bytes:
            self.progress_at = now
        self.unacked_bytes += size

    def answered(self, size: int, now: float) -> None:
        """The answer to `expect` came."""
        self.unacked_bytes -= size
        self.progress_at = now

    def delay(self, seconds: float) -> None:
        """One round trip took this long; the shortest of a stream is the link's own delay."""
        self._delay_s = seconds if self._delay_s is None else min(self._delay_s, seconds)

    @property
    def window_bytes(self) -> float:
        """Bulk that may be unacknowledged."""
        if not self.rate:
            return WINDOW_BYTES_START
        # With one second alone, a link of one second's delay would shrink its own rate, and so would a cloud whose
        # commits take as long. What is there already hides no alarm.
        return max(WINDOW_BYTES_MIN, self.rate * (QUEUE_S + (self._delay_s or 0.0) + self._held_s))

    @property
    def message_bytes(self) -> int:
        """Size to merge to: a quarter of the window. With halves, a link of 1.5 s delay was filled to 37 %."""
        share = self.window_bytes / 4
        if self._rate_max:
            share = min(share, self._rate_max * QUEUE_S / 4)
        return int(min(MERGE_BYTES_MAX, max(MESSAGE_BYTES_MIN, share)))

    def admits(self, size: int, *, bulk: bool) -> bool:
        """May a message of this size leave now? One alone always may."""
        if not self._messages:
            return True
        if self._messages >= MESSAGES_IN_FLIGHT_MAX or self._message_bytes + size > self.credit_bytes:
            return False
        return not bulk or not self._bulk_bytes or self._bulk_bytes + size <= self.window_bytes

    def sent(self, size: int, now: float, *, bulk: bool) -> Sent:
        """A message leaves."""
        self.expect(size, now)
        if self._rate_max:  # alarms do not wait for the cap, but what follows them does
            self.ready_at = max(self.ready_at, now) + (size * OVERHEAD + OVERHEAD_BYTES) / self._rate_max
        self._messages += 1
        self._message_bytes += size
        self._bulk_bytes += size if bulk else 0
        return Sent(size, bulk, now, self._acked_bytes)

    def settled(self, sent: Sent, now: float, held_s: float = 0.0) -> None:
        """A message was answered, whatever the answer. `held_s`: how long the cloud says it had it before."""
        self.answered(sent.size, now)
        self._messages -= 1
        self._message_bytes -= sent.size
        self._bulk_bytes -= sent.size if sent.bulk else 0
        self._acked_bytes += sent.size
        self._patience = 1.0
        elapsed = max(now - sent.at, 1e-6)
        held_s = min(held_s, elapsed, HELD_S_MAX)
        self.delay(elapsed - held_s)
        self._held_s += (held_s - self._held_s) * (HELD_GAIN_UP if held_s > self._held_s else HELD_GAIN_DOWN)
        rate = (self._acked_bytes - sent.acked_before) / elapsed
        if rate > self.rate:
            self.rate += (rate - self.rate) * (RATE_GAIN_UP if self.rate else 1.0)
        elif sent.limited:
            self.rate += (rate - self.rate) * RATE_GAIN_DOWN

    @property
    def stall_at(self) -> float | None:
        """When silence will mean a dead link; None while nothing is awaited."""
        if not self.unacked_bytes:
            return None
        needed_s = self.unacked_bytes / max(self.rate, STALL_RATE_MIN)
        return self.progress_at + self._patience * max(self._stall_s, STALL_FACTOR * needed_s)

    def stalled(self) -> None:
        """Nothing came through: forget the rate, so that the next stream tries small messages, and wait longer."""
        self.rate = 0.0
        self._patience = min(PATIENCE_MAX, 2 * self._patience)


class Backoff:
    """Capped exponential back-off with full jitter: uniform between 0 and the step, so that a fleet spreads out."""

    def __init__(self, base_s: float, max_s: float, rng: random.Random) -> None:
        self._base_s = base_s
        self._max_s = max_s
        self._rng = rng
        self._failures = 0

    def reset(self) -> None:
        """It works again."""
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        step = min(self._max_s, self._base_s * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self._rng.uniform(0.0, step)
