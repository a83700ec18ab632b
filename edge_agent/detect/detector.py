"""The thread-free core: ticks in, score codes and alarms out, state to and from bytes.

    detector = Detector(boot, [Watch(series_set, lanes, rules), ...])
    found = detector.step(tick)        # found.codes goes into the atom, found.alarms out at once
    change = detector.changes()        # into the same transaction as the ticks
    detector.restore(slots, now_us)    # at the start, before the journal is replayed through `step`

A model that fails costs a score and is counted in `problems`; no tick is ever refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType

import numpy as np

from edge_agent.detect.contract import Fit
from edge_agent.detect.errors import StateRefused
from edge_agent.detect.lane import Lane
from edge_agent.detect.runner import Runner
from edge_agent.detect.state import StateChange, read_state
from edge_agent.detect.watched import NOTHING, Found, Seen, Watch, Watched
from wire.alarm import NEVER, Alarm
from wire.reading import Tick
from wire.series import SeriesDef, ValueType

TOGETHER_MAX = 256  # ticks that go through one model before the next: what is held of them at once


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


class Detector:
    """See the module. For one thread at a time."""

    def __init__(self, boot: int, watches: Iterable[Watch]) -> None:
        """`boot` is the boot that stamps count from, as 64 bits (the epoch serves)."""
        self.boot = boot
        self._stale: frozenset[str] = frozenset()  # slots of an earlier run, to be deleted
        self._stale_told = False
        self._held: frozenset[str] = frozenset()  # slots of an earlier boot that lanes wait for
        self._watched = {watch.series_set.id: Watched(boot, watch) for watch in watches}

    def step(self, tick: Tick) -> Found:
        """One tick, in the order in which they were journalled."""
        return next(self.steps((tick,)))

    def steps(self, ticks: Iterable[Tick]) -> Iterator[Found]:
        """As `step` for each, in order. Sets that come one after another ask a model together, in one run, and a model
        goes through all of some ticks before the next one does: its code and data are still in the caches."""
        ticks = iter(ticks)
        while some := list(islice(ticks, TOGETHER_MAX)):
            rows = [self._watched[tick.set_id].begin(tick) if tick.set_id in self._watched else None for tick in some]
            for runner, turns in _turns(row for row in rows if row is not None).items():
                for turn in turns:
                    verdicts = runner.step([row.asked[lane] for lane, row in turn.items()])
                    for (lane, row), verdict in zip(turn.items(), verdicts):
                        row.verdicts[lane] = verdict
            yield from (NOTHING if seen is None else seen.watched.end(seen) for seen in rows)

    def check(self, now_us: int) -> tuple[Alarm, ...]:
        """Stale alarms of channels that stopped coming; ask it about once a second."""
        return tuple(alarm for watched in self._watched.values() for alarm in watched.rules.check(now_us))

    @property
    def problems(self) -> dict[str, str]:
        """Model and set → why it gives no score now; for the log (once) and for status."""
        return {
            f"{lane.runner.rule} on {watched.key}": lane.problem
            for watched in self._watched.values()
            for lane, _, _ in watched.lanes
            if lane.problem
        }

    @property
    def checks(self) -> bool:
        """Whether `check` can find anything."""
        return any(watched.rules.has_stale for watched in self._watched.values())

    @property
    def waits(self) -> bool:
        """Whether a model knew something before a reboot, and `settle` is to be called once the time is known."""
        return any(len(watched.waiting) for watched in self._watched.values())

    def settle(self, now_us: int, offsets_us: Mapping[int, int]) -> list[str]:
        """The time is known, as in `restore`: models go on where they were before the reboot. Returns what was not
        used, and why."""
        return [reason for watched in self._watched.values() for reason in watched.settle(now_us, offsets_us)]

    def alarms(self) -> set[int]:
        """Ids of the alarms that are raised now."""
        found: set[int] = set()
        for watched in self._watched.values():
            found |= watched.rules.alarms() | watched.waiting.alarms()
            for lane, _, _ in watched.lanes:
                memory = lane.runner.memory
                found.update(memory.alarm[lane.at][memory.onset_us[lane.at] != NEVER].tolist())
        return found

    def reports(self) -> list[ModelReport]:
        """For status; from any thread."""
        return [_report(lane) for watched in self._watched.values() for lane, _, _ in watched.lanes]

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
        self._held -= put.keys()
        if not self.waits:
            self._stale, self._held = self._stale | self._held, frozenset()
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
        trusted, wall clock minus boot clock. Where it does not know this boot, models that knew something wait for
        `settle`; where it does not know the other, how old the state is will never be known, and they begin anew.
        Alarms of rules go on all the same, as if no time had passed.
        """
        logs: dict[str, dict[str, bytes]] = {}
        for name, blob in slots.items():
            logs.setdefault(name.rpartition("/")[0], {})[name] = blob
        refused = []
        held: set[str] = set()
        for key, blobs in logs.items():
            try:
                saved = read_state(blobs)
                used = [watched.restore(key, saved, now_us, offsets_us) for watched in self._watched.values()]
                if any(watched.waiting.holds(saved) for watched in self._watched.values()):
                    held |= blobs.keys()
                if not any(used):
                    refused.append(f"{key}: nothing here is of {saved.identity} on these channels")
            except StateRefused as error:
                refused.append(f"{key}: {error}")
        self._held = frozenset(held)
        self._stale, self._stale_told = frozenset(slots) - held, False
        return refused


def _turns(rows: Iterable[Seen]) -> dict[Runner, list[dict[Lane, Seen]]]:
    """What each runner is asked, one turn after the other: a lane's next row waits for the answer to the one before."""
    found: dict[Runner, list[dict[Lane, Seen]]] = {}
    for row in rows:
        for lane in row.asked:
            turns = found.setdefault(lane.runner, [{}])
            if lane in turns[-1]:
                turns.append({})
            turns[-1][lane] = row
    return found


def _report(lane: Lane) -> ModelReport:
    rows, needed = lane.rows_learnt
    scores = zip(lane.channels, lane.last_scores.tolist())
    return ModelReport(
        label=lane.runner.label,
        model=lane.runner.manifest.title,
        state="stopped" if lane.stopped else "calibrating" if rows < needed else "running",
        problem=lane.problem,
        rows=rows,
        rows_needed=needed,
        threshold=lane.runner.threshold,
        failures=lane.failures,
        scores={channel.name: None if np.isnan(score) else score for channel, score in scores},
    )


def channels_of(definitions: Sequence[SeriesDef]) -> list[Fit]:
    """What a model asks about series: unit, device class, and the step between two raw counts."""
    return [
        Fit(one.name, one.unit, one.device_class, abs(one.num) / one.den if one.value_type is ValueType.INT else 0.0)
        for one in definitions
    ]
