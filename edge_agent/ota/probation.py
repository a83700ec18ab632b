"""The first minutes of a new release in the running agent: it stays when it works, and goes back by itself when not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from edge_agent.errors import AgentError
from edge_agent.ota.records import Stage
from edge_agent.ota.slots import PROBATION_S, Slots
from wire.clock import NS_PER_S, Clock

log = logging.getLogger(__name__)


class Probation:
    """Looks after the slots of one agent. Errors are logged once and never raised: what runs goes on."""

    def __init__(self, slots: Slots, clock: Clock) -> None:
        self._slots = slots
        self._clock = clock
        self._good_since_ns: dict[str, int] = {}
        self._told = ""

    def begin(self) -> None:
        """At the agent's start, before models are loaded."""
        self._guarded(self._begin)

    @property
    def has_releases(self) -> bool:
        """Whether there is anything to look after: one small folder is read."""
        try:
            return bool(self._slots.families())
        except (AgentError, OSError):
            return True  # `look` meets it too, and tells

    def look(self, models: Sequence[tuple[str, str]]) -> bool:
        """Judge what is on probation by what runs: each model's family, and why it stopped ("" while it works).

        True when a release went back and models must be loaded again.
        """
        problems: dict[str, str] = {}
        for family, problem in models:
            problems[family] = problems.get(family) or problem
        return self._guarded(lambda: self._look(problems))

    def _begin(self) -> bool:
        if self._slots.families():
            with self._slots.changing():
                for line in self._slots.begin():
                    log.error("model went back: %s", line)
        return False

    def _look(self, problems: Mapping[str, str]) -> bool:
        now_ns, back = self._clock.boottime_ns(), False
        for family in self._slots.families():
            record = self._slots.record(family)
            if record.stage is not Stage.PROBATION or record.active is None or family not in problems:
                self._good_since_ns.pop(family, None)
                continue
            since_ns = self._good_since_ns.setdefault(family, now_ns)
            with self._slots.changing():
                if problem := problems[family]:
                    target = self._slots.roll_back(family, "stopped", problem)
                    to = target.name if target else "the factory model"
                    log.error("%s went back to %s: %s", record.active.name, to, problem)
                    back = True
                elif now_ns - since_ns >= PROBATION_S * NS_PER_S:
                    self._slots.commit(family)
                    log.info("%s has worked for %g s and stays", record.active.name, PROBATION_S)
        return back

    def _guarded(self, work: Callable[[], bool]) -> bool:
        try:
            done = work()
            self._told = ""
            return done
        except (AgentError, OSError) as error:
            if str(error) != self._told:
                log.warning("slots of models cannot be looked after: %s", error)
            self._told = str(error)
            return False
