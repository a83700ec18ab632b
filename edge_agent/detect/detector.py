"""The thread-free core: ticks in, score codes and alarms out, state to and from bytes.

    detector = Detector(boot, [Watch(series_set, runners, rules), ...])
    found = detector.step(tick)        # found.codes goes into the atom, found.alarms out at once
    change = detector.changes()        # into the same transaction as the ticks
    detector.restore(slots, now_us)    # at the start, before the journal is replayed through `step`

A model that fails costs a score and is counted in `problems`; no tick is ever refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect import saving
from edge_agent.detect.contract import Fit
from edge_agent.detect.errors import StateRefused
from edge_agent.detect.rules import Rule, RuleSet
from edge_agent.detect.runner import Event, Question, Runner, Verdict, is_all
from edge_agent.detect.session import Session
from edge_agent.detect.state import SavedState, StateChange, StateLog, read_state
from wire.alarm import NEVER, Alarm, Phase, alarm_id
from wire.reading import CellState, Tick
from wire.scores import encode_scores
from wire.segment import SCORE_NONE
from wire.series import SeriesDef, SeriesSet, ValueType

F64 = NDArray[np.float64]
PREFIX = "detect"
RULES = "rules"


@dataclass(frozen=True, slots=True)
class Found:
    """What a tick gave: a code per cell (`wire.scores`), None when no cell was scored; and alarms in order."""

    codes: bytes | None = None
    alarms: tuple[Alarm, ...] = ()


NOTHING = Found()


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model on one series set, for status. `state`: calibrating, running or stopped; `score` per channel, None
    where the last run gave none."""

    label: str
    model: str
    state: str
    problem: str
    rows: int  # of the calibration, learnt by the channel that is furthest behind
    rows_needed: int
    threshold: float
    failures: int
    scores: dict[str, float | None]


@dataclass(slots=True)
class Watch:
    """What looks at one series set. Each runner has its own columns of it."""

    series_set: SeriesSet
    runners: Sequence[tuple[Runner, Sequence[int]]] = ()
    rules: Sequence[Rule] = field(default_factory=tuple)


class Detector:
    """See the module. For one thread at a time."""

    def __init__(self, boot: int, watches: Iterable[Watch]) -> None:
        """`boot` is the boot that stamps count from, as 64 bits (the epoch serves)."""
        self.boot = boot
        self._stale: frozenset[str] = frozenset()  # slots of an earlier run, to be deleted
        self._stale_told = False
        self._watched = {watch.series_set.id: _Watched(boot, watch) for watch in watches}

    def step(self, tick: Tick) -> Found:
        """One tick, in the order in which they were journalled."""
        return next(self.steps((tick,)))

    def steps(self, ticks: Iterable[Tick]) -> Iterator[Found]:
        """As `step` for each, in order. Sets that come one after another ask a model together, in one run."""
        rows: dict[int, _Row | None] = {}
        for tick in ticks:
            if tick.set_id in rows:  # its state must know the answer to the tick before
                yield from _found(rows.values())
                rows = {}
            watched = self._watched.get(tick.set_id)
            rows[tick.set_id] = None if watched is None else watched.begin(tick)
        yield from _found(rows.values())

    def check(self, now_us: int) -> tuple[Alarm, ...]:
        """Stale alarms of channels that stopped coming; ask it about once a second."""
        return tuple(alarm for watched in self._watched.values() for alarm in watched.rules.check(now_us))

    @property
    def problems(self) -> dict[str, str]:
        """Model and set → why it gives no score now; for the log (once) and for status."""
        return {
            f"{runner.rule} on {watched.key}": runner.problem
            for watched in self._watched.values()
            for runner, _, _ in watched.runners
            if runner.problem
        }

    @property
    def checks(self) -> bool:
        """Whether `check` can find anything."""
        return any(watched.rules.has_stale for watched in self._watched.values())

    def alarms(self) -> set[int]:
        """Ids of the alarms that are raised now."""
        found: set[int] = set()
        for watched in self._watched.values():
            found |= watched.rules.alarms()
            for runner, _, _ in watched.runners:
                found.update(runner.alarm[runner.onset_us != NEVER].tolist())
        return found

    def reports(self) -> list[ModelReport]:
        """For status; from any thread."""
        return [_report(runner) for watched in self._watched.values() for runner, _, _ in watched.runners]

    def changes(self) -> StateChange | None:
        """What to store in the transaction of the ticks that were stepped; None when nothing changed."""
        put: dict[str, bytes] = {}
        delete: list[str] = []
        for watched in self._watched.values():
            for change in watched.changes():
                put |= change.put
                delete += change.delete
        if self._stale_told:  # and it was not rolled back
            self._stale = frozenset()
        delete += self._stale - put.keys()
        self._stale_told = True
        return StateChange(put, tuple(delete)) if put or delete else None

    def rolled_back(self) -> None:
        """The transaction with the last `changes` failed: the next ones are whole images."""
        self._stale_told = False
        for watched in self._watched.values():
            watched.again()

    def restore(
        self, slots: Mapping[str, bytes], now_us: int, offsets_us: Mapping[int, int] = MappingProxyType({})
    ) -> list[str]:
        """Take up saved state: slots by name, as `changes` put them; a channel finds its own by name and unit, so
        that another sensor in the set costs it nothing. Returns what was not used, and why.

        After a reboot saved stamps count from another boot. `offsets_us` says, for boots whose wall time could be
        trusted, wall clock minus boot clock; where it does not know both boots, how old the state is is not known, and
        a model begins anew. Alarms of rules go on all the same, as if no time had passed.
        """
        self._stale, self._stale_told = frozenset(slots), False
        logs: dict[str, dict[str, bytes]] = {}
        for name, blob in slots.items():
            logs.setdefault(name.rpartition("/")[0], {})[name] = blob
        refused = []
        for key, blobs in logs.items():
            try:
                saved = read_state(blobs)
                used = [watched.restore(key, saved, now_us, offsets_us) for watched in self._watched.values()]
                if not any(used):
                    refused.append(f"{key}: nothing here is of {saved.identity} on these channels")
            except StateRefused as error:
                refused.append(f"{key}: {error}")
        return refused


class _Watched:
    """One series set with its runners, rules and their state logs."""

    def __init__(self, boot: int, watch: Watch) -> None:
        self.boot = boot
        self.set = watch.series_set
        self.key = f"{PREFIX}/{self.set.id:016x}"
        self.rules = RuleSet(boot, watch.rules)
        self.runners: list[tuple[Runner, NDArray[np.intp], StateLog]] = []
        for runner, columns in watch.runners:
            log = StateLog(f"{self.key}/{runner.label}", saving.identity(runner), boot, saving.group_names(runner))
            self.runners.append((runner, np.array(columns, np.intp), log))
        self._rule_log = StateLog(f"{self.key}/{RULES}", self.rules.identity, boot, self.rules.names)
        definitions = self.set.series
        self._num = np.array([float(one.num) for one in definitions])
        self._off = np.array([float(one.off) for one in definitions])
        self._den = np.array([float(one.den) for one in definitions])
        self._plain = bool((self._num == 1).all() and not self._off.any() and (self._den == 1).all())

    def begin(self, tick: Tick) -> _Row:
        """Rules and, but for their models' runs, runners."""
        values = self._values(tick)
        stamp_us = tick.stamp * self.set.stamp_unit.us
        alarms = self.rules.step(stamp_us, values)
        verdicts = [runner.ask(stamp_us, values[columns]) for runner, columns, _ in self.runners]
        return _Row(self, stamp_us, values, alarms, verdicts)

    def end(self, row: _Row) -> Found:
        """When all of the row's questions are answered."""
        if not self.runners:
            return Found(None, tuple(row.alarms)) if row.alarms else NOTHING
        scores = np.full(len(row.values), np.nan)
        for (runner, columns, _), verdict in zip(self.runners, row.verdicts):
            assert isinstance(verdict, Verdict)
            scores[columns] = np.fmax(scores[columns], verdict.scores)
            row.alarms += [self._alarm(runner, columns, event, row.stamp_us) for event in verdict.events]
        scores[np.isnan(row.values)] = np.nan
        return Found(_codes(scores), tuple(row.alarms))

    def _values(self, tick: Tick) -> F64:
        values = np.array(tick.raw, np.float64)
        if not self._plain:
            values = (values * self._num + self._off) / self._den
        if tick.states is not None:
            values[np.frombuffer(tick.states, np.uint8) != CellState.VALUE] = np.nan
        return values

    def _alarm(self, runner: Runner, columns: NDArray[np.intp], event: Event, stamp_us: int) -> Alarm:
        series = self.set.series[int(columns[event.column])]
        rule = runner.rule
        if event.phase is Phase.RAISED:
            runner.alarm[event.row] = alarm_id(self.boot, saving.group_names(runner)[event.row], rule, event.onset_us)
        return Alarm(
            id=int(runner.alarm[event.row]),
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
        found = [log.changes(saving.state_of(runner)) for runner, _, log in self.runners]
        if self.rules.rules:
            found.append(self._rule_log.changes(self.rules.state()))
        return [change for change in found if change is not None]

    def again(self) -> None:
        for _, _, log in self.runners:
            log.again()
        self._rule_log.again()

    def restore(self, key: str, saved: SavedState, now_us: int, offsets_us: Mapping[int, int]) -> int:
        """How many rows of `saved` found their place. Raises StateRefused."""
        kind = key.rpartition("/")[2]
        if kind == RULES:
            last_us = int(saved.arrays.get("value_us", np.zeros(0, np.int64)).max(initial=NEVER))
            shift_us = self._shift_us(saved.boot, last_us, now_us, offsets_us)
            if shift_us is None:
                shift_us = now_us - last_us if last_us != NEVER else 0
            return self.rules.restore(saved, shift_us)
        used = 0
        for runner, _, _ in self.runners:
            if runner.label == kind and saved.identity == saving.identity(runner):
                shift_us = self._shift_us(saved.boot, saving.last_us(saved), now_us, offsets_us)
                if shift_us is None:
                    raise StateRefused("it is from before a reboot, and no trusted clock says how long ago that was")
                used += saving.restore(runner, saved, shift_us)
        return used

    def _shift_us(self, boot: int, last_us: int, now_us: int, offsets_us: Mapping[int, int]) -> int | None:
        """What to add to stamps of that boot, the last of which is `last_us`; None when it is not known."""
        if boot == self.boot:
            return 0
        if boot not in offsets_us or self.boot not in offsets_us:
            return None
        shift_us = offsets_us[boot] - offsets_us[self.boot]
        return shift_us if last_us + shift_us <= now_us else None  # later than now: one of the clocks is wrong


@dataclass(slots=True)
class _Row:
    """A tick under way; questions among `verdicts` are replaced by what came of them."""

    watched: _Watched
    stamp_us: int
    values: F64
    alarms: list[Alarm]
    verdicts: list[Verdict | Question]


def _found(rows: Collection[_Row | None]) -> Iterator[Found]:
    """Ask the models, one run for each, and say what each row gave."""
    asked: dict[Session, list[tuple[_Row, int, Question]]] = {}
    for row in rows:
        for place, verdict in enumerate(row.verdicts if row is not None else ()):
            if row is not None and isinstance(verdict, Question):
                asked.setdefault(row.watched.runners[place][0].session, []).append((row, place, verdict))
    for session, questions in asked.items():
        answers = session.answers([question.feeds for _, _, question in questions])
        for (row, place, question), answer in zip(questions, answers):
            row.verdicts[place] = row.watched.runners[place][0].judge(question, answer)
    return (NOTHING if row is None else row.watched.end(row) for row in rows)


def _report(runner: Runner) -> ModelReport:
    rows, needed = runner.rows_learnt
    scores = zip(runner.channels, runner.last_scores.tolist())
    return ModelReport(
        label=runner.label,
        model=runner.manifest.title,
        state="stopped" if runner.stopped else "calibrating" if rows < needed else "running",
        problem=runner.problem,
        rows=rows,
        rows_needed=needed,
        threshold=runner.threshold,
        failures=runner.failures,
        scores={channel.name: None if np.isnan(score) else score for channel, score in scores},
    )


def _codes(scores: F64) -> bytes | None:
    unscored = np.isnan(scores)
    if is_all(unscored):
        return None
    if np.fmax.reduce(scores) > 0:
        return encode_scores(scores).tobytes()
    return np.where(unscored, np.uint8(SCORE_NONE), np.uint8(0)).tobytes()


def channels_of(definitions: Sequence[SeriesDef]) -> list[Fit]:
    """What a model asks about series: unit, device class, and the step between two raw counts."""
    return [
        Fit(one.name, one.unit, one.device_class, abs(one.num) / one.den if one.value_type is ValueType.INT else 0.0)
        for one in definitions
    ]
