"""Detection beside the journal: every record goes through the detector once, in journal order, before its commit.

What is found waits here until the commit that stores the record: scores by lsn, changes of alarms, and the detector's
own state. A detector that fails is left alone; readings never wait for it.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Protocol

from edge_agent.outbox.record import Entry
from edge_agent.outbox.slots import slot_size
from wire.alarm import Alarm, Phase, Severity
from wire.clock import Anchor
from wire.reading import Tick

log = logging.getLogger(__name__)

PREFIX = "detect/"  # of the detector's state
ACTIVE = "alarms/active"  # the state's name for what is raised now
ACTIVE_BYTES_MAX = 16 << 20  # unpacked: more alarms than an agent can have
OFFSET = "clock/offset"  # the state's name for the boot that PREFIX counts from, and its wall time


class Finding(Protocol):
    """What one tick gave."""

    @property
    def codes(self) -> bytes | None: ...
    @property
    def alarms(self) -> tuple[Alarm, ...]: ...


class Change(Protocol):
    """Slots to write and to delete."""

    @property
    def put(self) -> dict[str, bytes]: ...
    @property
    def delete(self) -> tuple[str, ...]: ...


class Detecting(Protocol):
    """What is asked of a detector; `edge_agent.detect.detector.Detector` says what each call means."""

    @property
    def boot(self) -> int: ...
    @property
    def checks(self) -> bool: ...
    @property
    def waits(self) -> bool: ...
    @property
    def problems(self) -> dict[str, str]: ...
    def steps(self, ticks: Iterable[Tick]) -> Iterator[Finding]: ...
    def check(self, now_us: int) -> tuple[Alarm, ...]: ...
    def alarms(self) -> set[int]: ...
    def changes(self) -> Change | None: ...
    def rolled_back(self) -> None: ...
    def restore(self, slots: Mapping[str, bytes], now_us: int, offsets_us: Mapping[int, int]) -> list[str]: ...
    def settle(self, now_us: int, offsets_us: Mapping[int, int]) -> list[str]: ...


class Desk:
    """See the module. For one thread at a time; `active` and `problem` may be read by any."""

    def __init__(
        self,
        detector: Detecting,
        states: Mapping[str, bytes],
        anchor: Anchor,
        now_us: int,
        tell: Callable[[Alarm], None],
    ) -> None:
        """`states`: what the last commit kept of PREFIX, ACTIVE and OFFSET. `tell` is called with each change as it is
        found, before it is durable: after a kill the same one may be told again, with the same id."""
        self.problem = ""  # why the detector was left alone
        self.active: dict[int, Alarm] = {}
        self.raised = False  # an alarm began since the last `done`
        self.alarms: list[Alarm] = []  # not committed
        self.checks = detector.checks
        self._codes: dict[int, bytes] = {}
        self._detector = detector
        self._tell = tell
        self._active_changed = False
        self._active_bytes = 0  # of its slot, which keeps its size
        self._problems: dict[str, str] = {}
        slots = {name: blob for name, blob in states.items() if name.startswith(PREFIX)}
        self.active = {alarm.id: alarm for alarm in _active_of(states.get(ACTIVE, b"[]"))}
        self._offset = b""  # as it was written last
        self._offsets_us = _offsets_of(states.get(OFFSET, b"{}"))  # of earlier boots
        with self._guard():
            for reason in detector.restore(slots, now_us, self._offsets_us | _offset(detector.boot, anchor)):
                log.warning("detection begins anew: %s", reason)
            if detector.waits:
                log.info("models calibrate, and go on where they were before the reboot once the clock is set")

    def inherit(self, before: Desk) -> None:
        """What the desk before this one found and could not commit. Found again it is the same row; an alarm that is
        not raised any more ends with the next `check`."""
        self.alarms = before.alarms
        self.active = before.active
        self.raised, self._active_changed = before.raised, before._active_changed

    def step(self, entries: Iterable[Entry]) -> None:
        """Records in order, each once."""
        if self.problem:
            return
        under_way: deque[int] = deque()  # the detector may look at some records before it says what each gave

        def ticks() -> Iterator[Tick]:
            for entry in entries:
                under_way.append(entry.lsn)
                yield entry.tick

        with self._guard():
            for found in self._detector.steps(ticks()):
                lsn = under_way.popleft()
                if found.codes is not None:
                    self._codes[lsn] = found.codes
                for alarm in found.alarms:
                    self._add(alarm)

    def check(self, now_us: int) -> None:
        """Once a second: channels that stopped coming, and alarms that ended without a word (a model that began anew,
        a rule that is configured no more)."""
        if self.problem:
            return
        with self._guard():
            for alarm in self._detector.check(now_us):
                self._add(alarm)
            raised = self._detector.alarms()
            for alarm in [alarm for id_, alarm in self.active.items() if id_ not in raised]:
                self._add(replace(alarm, phase=Phase.CLEARED, stamp_us=now_us, score=0.0, value=None, expected=None))
            self._log_problems(self._detector.problems)

    def codes(self, lsn: int) -> bytes | None:
        """Scores of a record, a code per cell."""
        return self._codes.get(lsn)

    def changes(self, anchor: Anchor) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """State to write and to delete with the records that were stepped. Then `done` or `failed`.

        `anchor`: the one in force.
        """
        put: dict[str, bytes] = {}
        delete: tuple[str, ...] = ()
        known = _offset(self._detector.boot, anchor)
        if not self.problem:
            with self._guard():
                if known and self._detector.waits:
                    self._settle(anchor.boottime_us, self._offsets_us | known)
                change = self._detector.changes()
                if change is not None:
                    put, delete = dict(change.put), change.delete
                if self._detector.waits:
                    known = self._offsets_us | known
        offset = json.dumps(known).encode()
        if put and offset != self._offset:
            put[OFFSET] = self._offset = offset
        if self._active_changed:
            packed = zlib.compress(json.dumps([_row(alarm) for alarm in self.active.values()]).encode())
            self._active_bytes = max(self._active_bytes, slot_size(len(packed)))
            put[ACTIVE] = packed.ljust(self._active_bytes, b"\0")
        return put, delete

    def done(self) -> None:
        """Everything that was stepped is committed."""
        self.alarms.clear()
        self._codes.clear()
        self.raised = self._active_changed = False

    def failed(self) -> None:
        """Nothing of the last `changes` was written."""
        self._offset = b""
        if not self.problem:
            with self._guard():
                self._detector.rolled_back()

    def _settle(self, now_us: int, offsets_us: Mapping[int, int]) -> None:
        refused = self._detector.settle(now_us, offsets_us)
        for reason in refused:
            log.warning("detection begins anew: %s", reason)
        if not refused:
            log.info("the clock is set: models go on where they were before the reboot")

    def _add(self, alarm: Alarm) -> None:
        self.alarms.append(alarm)
        self._active_changed = True
        if alarm.phase is Phase.CLEARED:
            self.active = {id_: each for id_, each in self.active.items() if id_ != alarm.id}
        else:
            self.active = {**self.active, alarm.id: alarm}
            self.raised |= alarm.phase is Phase.RAISED
        self._tell(alarm)

    def _log_problems(self, problems: dict[str, str]) -> None:
        for name in self._problems.keys() - problems.keys():
            log.info("%s gives scores again", name)
        for name in problems.keys() - self._problems.keys():
            log.warning("no score: %s", problems[name])
        self._problems = problems

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a mistake in detection must not cost a reading
            self.problem = f"{type(error).__name__}: {error}"
            log.exception("detection ends until the next start; readings go on without scores")


_FIELDS = tuple(each.name for each in fields(Alarm))


def _row(alarm: Alarm) -> dict[str, object]:
    return {name: getattr(alarm, name) for name in _FIELDS}


def _offset(boot: int, anchor: Anchor) -> dict[int, int]:
    return {boot: anchor.offset_us} if anchor.synchronised else {}


def _offsets_of(blob: bytes) -> dict[int, int]:
    try:
        return {int(boot): int(offset_us) for boot, offset_us in json.loads(blob).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        log.warning("the wall time of the boot before is not known: %s", error)
        return {}


def _active_of(blob: bytes) -> list[Alarm]:
    try:
        text = blob
        if not blob.startswith(b"["):  # until 0.1 it was not packed
            text = zlib.decompressobj().decompress(blob, ACTIVE_BYTES_MAX)
        return [
            Alarm(**{**row, "phase": Phase(row["phase"]), "severity": Severity(row["severity"])})
            for row in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError, RecursionError, zlib.error) as error:
        log.warning("which alarms were raised is not known: %s", error)
        return []
