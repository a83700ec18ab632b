"""Detection in the running agent: loaded by the writer's thread once the sensors run, shown by status.

The detector's own modules and the runtime are imported only here, and only when the configuration asks for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge_agent.config.model import Config
from edge_agent.errors import AgentError
from edge_agent.outbox.recorder import Recorder
from wire.alarm import Alarm
from wire.clock import US_PER_S
from wire.series import SeriesSet

if TYPE_CHECKING:
    from edge_agent.detect.detector import Detector
    from edge_agent.ota.probation import Probation

log = logging.getLogger(__name__)

FAILURES_MAX = 10  # runs without a score, that a release on probation may have


def is_wanted(config: Config) -> bool:
    """Whether anything is to be looked for."""
    return bool(config.models) or any(channel.alarm for sensor in config.sensors for channel in sensor.channels)


class Detection:
    """See the module. `load` is for the writer's thread, the rest for any."""

    def __init__(
        self,
        config: Config,
        sets: Sequence[tuple[SeriesSet, float | None]],
        recorder: Recorder,
        boot: int,
        tell: Callable[[Alarm], None],
        probation: Probation | None = None,
    ) -> None:
        """`sets` with the seconds between their ticks, None for those that come as they like. `tell`: see
        `Recorder.detect`. `probation` looks after models that were installed over the air."""
        self._config = config
        self._sets = sets
        self._recorder = recorder
        self._boot = boot
        self._tell = tell
        self._probation = probation
        self._begun = False
        self._detector: Detector | None = None
        self._refused: dict[str, str] = {}

    def load(self) -> None:
        """Load models and put the detector into the line; takes about a second. A mistake in it costs scores only.

        Called again, it takes over what was installed meanwhile; the models' state goes on where the model is the same.

        Raises:
            AgentError: the outbox cannot be read, as in `Recorder.detect`.
        """
        if self._probation is not None and not self._begun:
            self._probation.begin()
        self._begun = True
        try:
            from edge_agent.detect.assembly import Grid, assemble

            made = assemble(self._config, [Grid(*each) for each in self._sets], self._boot)
        except Exception as error:
            self._fail(error)
            return
        for name, reason in made.refused.items():
            log.error("model %s is not run: %s", name, reason)
        try:
            self._recorder.detect(made.detector, self._tell)
        except AgentError:
            raise
        except Exception as error:
            self._fail(error)
            return
        self._refused = made.refused
        self._detector = made.detector

    @property
    def has_releases(self) -> bool:
        """Whether releases are installed that `look` judges; without any, nobody pays for a thread."""
        return self._probation is not None and self._probation.has_releases

    def look(self) -> bool:
        """Judge releases on probation; True when one went back and `load` is due again."""
        if self._probation is None:
            return False
        states = [model for model in self.models() if model["state"] != "loading"]
        return self._probation.look([(str(one["model"]).partition("/")[0], _trouble(one)) for one in states])

    def models(self) -> list[dict[str, Any]]:
        """One document per model and series set. `state`: loading, calibrating, running or stopped."""
        problem, _ = self._recorder.detection
        found = [_model(name, self._name(name), "stopped", reason) for name, reason in self._refused.items()]
        if self._detector is None:
            left = [plan for plan in self._config.models if plan.id not in self._refused]
            return found + [_model(plan.id, plan.name, "loading", "") for plan in left]
        for report in self._detector.reports():
            state, reason = ("stopped", problem) if problem else (report.state, report.problem)
            document = _model(report.label, report.model, state, reason)
            document["channels"] = len(report.scores)
            document["calibrated_rows"], document["calibration_rows"] = report.rows, report.rows_needed
            document["threshold"], document["failures"] = report.threshold, report.failures
            found.append(document)
        return found

    def scores(self) -> dict[str, float | None]:
        """By series name, the loudest of its models' last scores; None while none gave one."""
        found: dict[str, float | None] = {}
        for report in self._detector.reports() if self._detector is not None else ():
            for name, score in report.scores.items():
                before = found.get(name)
                found[name] = score if before is None or (score is not None and score > before) else before
        return found

    def alarms(self, now_us: int) -> list[dict[str, Any]]:
        """What is raised now, newest first."""
        _, active = self._recorder.detection
        active.sort(key=lambda alarm: alarm.onset_us, reverse=True)
        return [alarm_document(alarm, now_us) for alarm in active]

    def _fail(self, error: Exception) -> None:
        """A mistake in detection must not cost a reading."""
        log.error("no detection until the next start", exc_info=error)
        self._refused = {plan.id: f"{type(error).__name__}: {error}" for plan in self._config.models}
        self._detector = None

    def _name(self, label: str) -> str:
        return next(plan.name for plan in self._config.models if plan.id == label)


def _trouble(model: dict[str, Any]) -> str:
    """Why a model should not stay, while it is on probation; empty when it works."""
    if model["state"] == "stopped":
        return str(model["reason"])
    if model["failures"] < FAILURES_MAX:
        return ""
    return f"{model['failures']} runs gave no score{': ' if model['reason'] else ''}{model['reason']}"


def _model(label: str, name: str, state: str, reason: str) -> dict[str, Any]:
    return {
        "id": label,
        "model": name,
        "state": state,
        "reason": reason,
        "channels": 0,
        "calibrated_rows": 0,
        "calibration_rows": 0,
        "threshold": None,
        "failures": 0,
    }


def alarm_document(alarm: Alarm, now_us: int) -> dict[str, Any]:
    """One alarm for status."""
    return {
        "id": f"{alarm.id:016x}",
        "series": alarm.series,
        "rule": alarm.rule,
        "severity": alarm.severity.name.lower(),
        "age_s": round((now_us - alarm.onset_us) / US_PER_S, 3),
        "score": alarm.score,
        "threshold": alarm.threshold,
        "value": alarm.value,
        "unit": alarm.unit,
        "cause": alarm.cause,
    }
