"""One series set under watch: ticks to values, verdicts and rules to score codes and alarms, and its saved state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect import saving
from edge_agent.detect.errors import StateRefused
from edge_agent.detect.lane import Lane
from edge_agent.detect.rules import Rule, RuleSet
from edge_agent.detect.runner import Row, is_all
from edge_agent.detect.state import SavedState, StateChange, StateLog
from edge_agent.detect.verdict import F64, Event, Verdict
from edge_agent.detect.waiting import Waiting
from wire.alarm import NEVER, Alarm, Phase, alarm_id
from wire.reading import CellState, Tick
from wire.scores import encode_scores
from wire.segment import SCORE_NONE
from wire.series import SeriesSet

PREFIX = "detect"
RULES = "rules"


@dataclass(frozen=True, slots=True)
class Found:
    """What a tick gave: a code per cell (`wire.scores`), None when no cell was scored; and alarms in order."""

    codes: bytes | None = None
    alarms: tuple[Alarm, ...] = ()


NOTHING = Found()


@dataclass(slots=True)
class Watch:
    """What looks at one series set. Each lane has its own columns of it."""

    series_set: SeriesSet
    lanes: Sequence[tuple[Lane, Sequence[int]]] = ()
    rules: Sequence[Rule] = field(default_factory=tuple)


@dataclass(slots=True)
class Seen:
    """A tick under way."""

    watched: Watched
    stamp_us: int
    values: F64
    alarms: list[Alarm]
    asked: dict[Lane, Row]
    verdicts: dict[Lane, Verdict] = field(default_factory=dict)


class Watched:
    """See the module. For one thread at a time."""

    def __init__(self, boot: int, watch: Watch) -> None:
        """`boot`: as of `Detector`."""
        self.boot = boot
        self.set = watch.series_set
        self.key = f"{PREFIX}/{self.set.id:016x}"
        self.rules = RuleSet(boot, watch.rules)
        self.lanes: list[tuple[Lane, NDArray[np.intp], StateLog]] = []
        for lane, columns in watch.lanes:
            log = StateLog(f"{self.key}/{lane.runner.label}", saving.identity(lane), boot, saving.group_names(lane))
            self.lanes.append((lane, np.array(columns, np.intp), log))
        self.waiting = Waiting()
        self._rule_log = StateLog(f"{self.key}/{RULES}", self.rules.identity, boot, self.rules.names)
        definitions = self.set.series
        scored = {column for _, columns in watch.lanes for column in columns}
        # codes of a row in which all is quiet, where every column is scored
        self._quiet = bytes(len(definitions)) if len(scored) == len(definitions) else None
        self._num = np.array([float(one.num) for one in definitions])
        self._off = np.array([float(one.off) for one in definitions])
        self._den = np.array([float(one.den) for one in definitions])
        self._is_scaled = bool((self._num != 1).any() or self._off.any())
        self._is_divided = bool((self._den != 1).any())

    def begin(self, tick: Tick) -> Seen:
        """Rules; what is asked of the lanes stands in the row."""
        values = self._values(tick)
        stamp_us = tick.stamp * self.set.stamp_unit.us
        alarms = self.rules.step(stamp_us, values)
        asked = {lane: (lane, stamp_us, values[at]) for lane, at, _ in self.lanes}
        return Seen(self, stamp_us, values, alarms, asked)

    def end(self, row: Seen) -> Found:
        """When all of the row's lanes have a verdict."""
        if not self.lanes:
            return Found(None, tuple(row.alarms)) if row.alarms else NOTHING
        for lane, columns, _ in self.lanes:
            events = row.verdicts[lane].events
            row.alarms += [self._alarm(lane, columns, event, row.stamp_us) for event in events]
        missing = np.isnan(row.values)
        if self._quiet and all(verdict.quiet for verdict in row.verdicts.values()) and not np.count_nonzero(missing):
            return Found(self._quiet, tuple(row.alarms))
        scores = np.full(len(row.values), np.nan)
        for lane, columns, _ in self.lanes:
            scores[columns] = np.fmax(scores[columns], row.verdicts[lane].scores)
        scores[missing] = np.nan
        return Found(_codes(scores), tuple(row.alarms))

    def _values(self, tick: Tick) -> F64:
        values = np.array(tick.raw, np.float64)
        if self._is_scaled:
            values = values * self._num + self._off
        if self._is_divided:
            values /= self._den
        if tick.states is not None:
            values[np.frombuffer(tick.states, np.uint8) != CellState.VALUE] = np.nan
        return values

    def _alarm(self, lane: Lane, columns: NDArray[np.intp], event: Event, stamp_us: int) -> Alarm:
        series, runner = self.set.series[int(columns[event.column])], lane.runner
        rule, ids = runner.rule, runner.memory.alarm[lane.at]
        if event.phase is Phase.RAISED:
            ids[event.row] = alarm_id(self.boot, saving.group_names(lane)[event.row], rule, event.onset_us)
        return Alarm(
            id=int(ids[event.row]),
            series=series.name,
            rule=rule,
            phase=event.phase,
            onset_us=event.onset_us,
            stamp_us=stamp_us,
            score=event.score,
            threshold=runner.threshold,
            value=event.value,
            expected=event.expected,
            low=event.low,
            high=event.high,
            unit=series.unit,
            severity=runner.severity,
        )

    def changes(self) -> list[StateChange]:
        """What changed since the last call, assuming that it was stored; nothing of lanes that wait."""
        self.waiting.drop_calibrated()
        found = [log.changes(saving.state_of(lane)) for lane, _, log in self.lanes if lane not in self.waiting]
        if self.rules.rules:
            found.append(self._rule_log.changes(self.rules.state()))
        return [change for change in found if change is not None]

    def again(self) -> None:
        """It was not stored: the next changes are whole images."""
        for _, _, log in self.lanes:
            log.again()
        self._rule_log.again()

    def restore(self, key: str, saved: SavedState, now_us: int, offsets_us: Mapping[int, int]) -> int:
        """How many rows of `saved` found their place, or wait for a clock. Raises StateRefused."""
        kind = key.rpartition("/")[2]
        if kind == RULES:
            last_us = int(saved.arrays.get("value_us", np.zeros(0, np.int64)).max(initial=NEVER))
            shift_us = self._shift_us(saved.boot, last_us, now_us, offsets_us)
            if shift_us is None:
                shift_us = now_us - last_us if last_us != NEVER else 0
            return self.rules.restore(saved, shift_us)
        used = 0
        for lane, _, _ in self.lanes:
            if lane.runner.label == kind and saved.identity == saving.identity(lane):
                if self.boot not in offsets_us and saved.boot in offsets_us and saved.boot != self.boot:
                    used += self.waiting.keep(lane, saved)
                    continue
                shift_us = self._shift_us(saved.boot, saving.last_us(saved), now_us, offsets_us)
                if shift_us is None:
                    raise StateRefused("it is from before a reboot, and no trusted clock says how long ago that was")
                used += saving.restore(lane, saved, shift_us)
        return used

    def settle(self, now_us: int, offsets_us: Mapping[int, int]) -> list[str]:
        """See `Detector`."""
        return self.waiting.settle(
            lambda saved: self._shift_us(saved.boot, saving.last_us(saved), now_us, offsets_us), now_us
        )

    def _shift_us(self, boot: int, last_us: int, now_us: int, offsets_us: Mapping[int, int]) -> int | None:
        """What to add to stamps of that boot, the last of which is `last_us`; None when it is not known."""
        if boot == self.boot:
            return 0
        if boot not in offsets_us or self.boot not in offsets_us:
            return None
        shift_us = offsets_us[boot] - offsets_us[self.boot]
        return shift_us if last_us + shift_us <= now_us else None  # later than now: one of the clocks is wrong


def _codes(scores: F64) -> bytes | None:
    unscored = np.isnan(scores)
    if is_all(unscored):
        return None
    if np.fmax.reduce(scores) > 0:
        return encode_scores(scores).tobytes()
    return np.where(unscored, np.uint8(SCORE_NONE), np.uint8(0)).tobytes()
