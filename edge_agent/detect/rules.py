"""Plain rules on one channel: too high, too low, too fast, too old. Evaluated here, so they work offline.

All rules of a series set are one row of arrays; nothing here reads a clock or holds a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.errors import StateRefused
from edge_agent.detect.state import Arrays, SavedState
from wire.alarm import NEVER, Alarm, Phase, Severity, alarm_id
from wire.clock import US_PER_S

F64 = NDArray[np.float64]


class RuleKind(IntEnum):
    """What a rule looks at."""

    HIGH = 1  # value over the bound, in the channel's unit
    LOW = 2  # value under the bound
    RATE = 3  # change per second over the bound
    STALE = 4  # no value for more than so many seconds


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It alarms when the bound is passed for `for_s`, and ends `hysteresis` (same unit) inside of it."""

    column: int
    series: str
    unit: str
    kind: RuleKind
    bound: float
    hysteresis: float = 0.0
    for_s: float = 0.0
    severity: Severity = Severity.WARNING

    @property
    def name(self) -> str:
        """What alarms and saved state call it."""
        return f"{self.kind.name.lower()} {self.bound:g}"


class RuleSet:
    """The rules of one series set."""

    def __init__(self, boot: int, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._boot = boot
        self._columns = np.array([rule.column for rule in rules], np.intp)
        self._kinds = np.array([rule.kind for rule in rules], np.int64)
        self._bounds = np.array([rule.bound for rule in rules], np.float64)
        self._hysteresis = np.array([rule.hysteresis for rule in rules], np.float64)
        self._for_us = np.array([rule.for_s * US_PER_S for rule in rules], np.int64)
        count = len(self.rules)
        self.value = np.full(count, np.nan)
        self.value_us = np.full(count, NEVER, np.int64)  # of `value`; where none came yet, when the rule began to wait
        self.since_us = np.full(count, NEVER, np.int64)  # the bound is passed since
        self.onset_us = np.full(count, NEVER, np.int64)  # of the alarm, while there is one
        self.alarm = np.zeros(count, np.int64)

    @property
    def identity(self) -> str:
        """What saved state must agree in."""
        return "rules 1"

    @property
    def names(self) -> tuple[str, ...]:
        """One per rule, for saved state."""
        return tuple(f"{rule.series} [{rule.unit}] {rule.name}" for rule in self.rules)

    def step(self, stamp_us: int, values: F64) -> list[Alarm]:
        """One row of the set's values, NaN where there is none."""
        if not self.rules:
            return []
        now = values[self._columns]
        here = np.isfinite(now)
        self.value_us[self.value_us == NEVER] = stamp_us
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = np.abs(now - self.value) / ((stamp_us - self.value_us) / US_PER_S)
        rate[~np.isfinite(rate)] = 0.0
        kinds = self._kinds
        excess = np.select(
            [kinds == RuleKind.HIGH, kinds == RuleKind.LOW, kinds == RuleKind.RATE],
            [now - self._bounds, self._bounds - now, rate - self._bounds],
            default=-np.inf,  # a stale rule ends with any value
        )
        self.value[here] = now[here]
        self.value_us[here] = stamp_us
        return self._judge(stamp_us, excess, here)

    def check(self, now_us: int) -> list[Alarm]:
        """Time went on: which channels are stale by now?"""
        if not self.rules:
            return []
        self.value_us[self.value_us == NEVER] = now_us
        excess = (now_us - self.value_us) / US_PER_S - self._bounds
        over = (self._kinds == RuleKind.STALE) & (excess > 0)
        fresh = over & (self.since_us == NEVER)
        # when it became so, not when somebody looked: a look after a restart finds the same onset, and so the same id
        self.since_us[fresh] = self.value_us[fresh] + (self._bounds[fresh] * US_PER_S).astype(np.int64)
        return self._judge(now_us, excess, over)

    def alarms(self) -> set[int]:
        """Ids of what is raised now."""
        return set(self.alarm[self.onset_us != NEVER].tolist())

    @property
    def has_stale(self) -> bool:
        """Whether `check` can find anything."""
        return bool((self._kinds == RuleKind.STALE).any())

    def _judge(self, stamp_us: int, excess: F64, looked: NDArray[np.bool_]) -> list[Alarm]:
        over = looked & (excess > 0)
        inside = looked & (excess <= -self._hysteresis)
        self.since_us[over & (self.since_us == NEVER)] = stamp_us
        self.since_us[looked & ~over] = NEVER
        raised = over & (self.onset_us == NEVER) & (stamp_us - self.since_us >= self._for_us)
        ended = inside & (self.onset_us != NEVER)
        alarms = []
        for place in np.flatnonzero(raised | ended).tolist():
            rule = self.rules[place]
            if raised[place]:
                self.onset_us[place] = self.since_us[place]
                self.alarm[place] = alarm_id(self._boot, rule.series, rule.name, int(self.since_us[place]))
            phase = Phase.RAISED if raised[place] else Phase.CLEARED
            alarms.append(self._alarm(place, phase, stamp_us, float(excess[place])))
        self.onset_us[ended] = NEVER
        return alarms

    def _alarm(self, place: int, phase: Phase, stamp_us: int, excess: float) -> Alarm:
        rule = self.rules[place]
        stale = rule.kind is RuleKind.STALE
        return Alarm(
            id=int(self.alarm[place]),
            series=rule.series,
            rule=rule.name,
            phase=phase,
            onset_us=int(self.onset_us[place]),
            stamp_us=stamp_us,
            score=excess if np.isfinite(excess) else 0.0,
            threshold=rule.bound,
            value=None if stale and phase is Phase.RAISED else float(self.value[place]),
            expected=None,
            low=rule.bound if rule.kind is RuleKind.LOW else None,
            high=rule.bound if rule.kind is RuleKind.HIGH else None,
            unit=rule.unit,
            severity=rule.severity,
        )

    def state(self) -> Arrays:
        """Everything that must survive. A bound that is not passed needs no last value, and so no write per commit; of
        one that is, the last stamp says how far a new boot must move its onset."""
        needed = np.isin(self._kinds, (RuleKind.RATE, RuleKind.STALE))
        told = needed | (self.since_us != NEVER) | (self.onset_us != NEVER)
        kept = {"value": np.where(told, self.value, np.nan), "value_us": np.where(told, self.value_us, NEVER)}
        return self._arrays() | kept

    def _arrays(self) -> Arrays:
        return {
            "value": self.value,
            "value_us": self.value_us,
            "since_us": self.since_us,
            "onset_us": self.onset_us,
            "alarm": self.alarm,
        }

    def restore(self, saved: SavedState, shift_us: int) -> int:
        """Put back what was saved for rules that still stand. Raises StateRefused."""
        if saved.identity != self.identity:
            raise StateRefused(f"it is of {saved.identity}; {self.identity} are kept now")
        count = len(saved.names)
        for name, array in self._arrays().items():
            found = saved.arrays.get(name)
            if found is None or found.shape != (count,) or found.dtype != array.dtype:
                raise StateRefused(f"{name} of the rules cannot be used")
        rows = [(new, saved.names.index(name)) for new, name in enumerate(self.names) if name in saved.names]
        for new, old in rows:
            for name, array in self._arrays().items():
                value = saved.arrays[name][old]
                array[new] = value + shift_us if name.endswith("_us") and value != NEVER else value
        return len(rows)
