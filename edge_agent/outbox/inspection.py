"""The journal's records on their way through the detector: each once, in journal order, before its commit."""

from __future__ import annotations

from collections.abc import Callable

from edge_agent.outbox.desk import ACTIVE, OFFSET, PREFIX, Desk, Detecting
from edge_agent.outbox.intake import Intake
from edge_agent.outbox.journal import Mark
from edge_agent.outbox.outbox import Outbox
from wire.alarm import Alarm
from wire.clock import NS_PER_S, NS_PER_US, Clock

CHECK_S = 1.0  # between two looks for channels that stopped coming


class Inspection:
    """Under the writer's lock; `desk` may be read by any thread, and is None while there is no detector."""

    def __init__(self, intake: Intake, clock: Clock) -> None:
        self.desk: Desk | None = None
        self._intake = intake
        self._clock = clock
        self._stepped: Mark | None = None  # how far the journal went through the detector
        self._checked_ns = 0

    def begin(self, outbox: Outbox, detector: Detecting, tell: Callable[[Alarm], None]) -> None:
        """See `Recorder.detect`. Raises AgentError: the outbox cannot be read, and there is no detector."""
        before, self.desk = self.desk, None
        self._stepped = None
        states = outbox.states(PREFIX) | outbox.states(ACTIVE) | outbox.states(OFFSET)
        self.desk = Desk(detector, states, self._intake.anchor(), self._clock.boottime_ns() // NS_PER_US, tell)
        if before is not None:
            self.desk.inherit(before)

    def look(self) -> None:
        """What was taken since the last look; an alarm that begins hurries the commit."""
        desk = self.desk
        if desk is None:
            return
        self.step(self._intake.mark)
        now_ns = self._clock.boottime_ns()
        if now_ns - self._checked_ns >= CHECK_S * NS_PER_S:
            self._checked_ns = now_ns
            desk.check(now_ns // NS_PER_US)
        if desk.raised:
            self._intake.hurry()

    def step(self, mark: Mark) -> None:
        """Everything up to `mark`."""
        if self.desk is not None:
            self.desk.step(self._intake.journal.read(mark, self._stepped))
            self._stepped = mark
