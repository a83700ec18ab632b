"""The Numenta Anomaly Benchmark: its corpus, and its scoring rules written anew from their description.

Rules (Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", 2015, and NAB's wiki, corpus v1.1):
every labelled window is worth at most 1, more the earlier the first detection in it; a window without detection costs
the profile's false-negative weight; every detected row outside costs up to the false-positive weight, less just
after a window. Rows of the probation (15 %, at most 750) are ignored. One threshold serves the whole corpus. The sum is
scaled so that a silent detector gets 0 and a perfect one 100.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

PROBATION = 0.15
PROBATION_ROWS_MAX = 750  # 15 % of 5,000 rows
SLOPE = 5.0  # of the sigmoid, in window widths
FAR = 3.0  # window widths past a window from where on a false alarm costs its full weight
PROFILES = {
    "nab_standard": "standard",
    "nab_low_fp": "reward_low_FP_rate",
    "nab_low_fn": "reward_low_FN_rate",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """What a detection inside a window earns, what a missed window and a false alarm cost."""

    true_positive: float
    false_negative: float
    false_positive: float


@dataclass(frozen=True, eq=False)
class Series:
    """One file. `windows` are first and last row of each labelled window."""

    name: str
    seconds: F64  # since 1970, naive stamps read as UTC
    values: F64
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Rows at the start that are not scored: what a detector may learn from."""
        return probation_rows(len(self.values))


@dataclass(frozen=True, slots=True)
class Result:
    """Score of a corpus under one profile: 0 silent, 100 perfect."""

    score: float
    threshold: float
    hits: int  # windows with at least one detection
    false_rows: int


def probation_rows(rows: int) -> int:
    """NAB's probation: 15 % of the rows, at most 750."""
    return min(int(PROBATION * rows), PROBATION_ROWS_MAX)


def data_directory() -> Path:
    """Where the shared data lies: $TIDEGATE_DATA, else beside the repository."""
    return Path(os.environ.get("TIDEGATE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def load(directory: Path) -> list[Series]:
    """The corpus under `directory` (the folder with `data` and `labels`), in the order of its label file."""
    labels = json.loads((directory / "labels/combined_windows.json").read_text(encoding="utf-8"))
    return [_series(directory, name, windows) for name, windows in sorted(labels.items())]


def load_profiles(directory: Path) -> dict[str, Profile]:
    """Metric name → weights."""
    found = json.loads((directory / "labels/profiles.json").read_text(encoding="utf-8"))
    costs = {metric: found[key]["CostMatrix"] for metric, key in PROFILES.items()}
    return {metric: Profile(c["tpWeight"], c["fnWeight"], c["fpWeight"]) for metric, c in costs.items()}


def _series(directory: Path, name: str, windows: Sequence[Sequence[str]]) -> Series:
    with gzip.open(directory / "data" / f"{name}.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    seconds = np.array([_seconds(row[0]) for row in rows])
    first_row: dict[float, int] = {}
    for index, second in enumerate(seconds.tolist()):
        first_row.setdefault(second, index)  # one file repeats an hour; NAB takes the first row of a stamp
    bounds = tuple((first_row[_seconds(first)], first_row[_seconds(last)]) for first, last in windows)
    return Series(name, seconds, np.array([float(row[1]) for row in rows]), bounds)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def _sigmoid(widths: F64) -> F64:
    """1 at a window's start (-1 width), 0 at its end, -1 far behind."""
    curve: F64 = 2.0 / (1.0 + np.exp(SLOPE * widths)) - 1.0
    return np.where(widths > FAR, -1.0, curve)


class Events:
    """Rows of a corpus that can be detected: what each is worth, ready to be scored under any threshold."""

    def __init__(self, series: Sequence[Series], scores: Mapping[str, F64]) -> None:
        """`scores`: one number per row and file, higher = more anomalous; NaN is not allowed."""
        parts = [_events(one, scores[one.name], place) for place, one in enumerate(series)]
        self.windows = sum(len(one.windows) for one in series)
        self.scores = np.concatenate([part[0] for part in parts])
        self.worth = np.concatenate([part[1] for part in parts])
        self.window = np.concatenate([part[2] for part in parts])  # -1: outside every window
        self._known: dict[Profile, F64] = {}
        order = np.argsort(-self.scores, kind="stable")
        self.scores, self.worth, self.window = self.scores[order], self.worth[order], self.window[order]

    def best(self, profile: Profile) -> Result:
        """Under the threshold that suits this corpus best, as NAB's board does; ties go to the higher threshold."""
        totals = self._totals(profile)
        last_of_ties = np.append(np.flatnonzero(np.diff(self.scores)), len(self.scores) - 1) + 1
        places = np.concatenate([[0], last_of_ties])
        place = int(places[np.argmax(totals[places])])
        threshold = float(self.scores[place - 1]) if place else float("inf")
        return self._result(profile, place, totals[place], threshold)

    def at(self, profile: Profile, threshold: float) -> Result:
        """Under a given threshold: rows with a score of at least it are detections."""
        place = int(np.searchsorted(-self.scores, -threshold, side="right"))
        return self._result(profile, place, float(self._totals(profile)[place]), threshold)

    def _result(self, profile: Profile, place: int, gained: float, threshold: float) -> Result:
        perfect = self.windows * (profile.true_positive + profile.false_negative)
        detected = self.window[:place]
        return Result(
            100.0 * float(gained) / perfect if perfect else 0.0,
            threshold,
            len(np.unique(detected[detected >= 0])),
            int(np.count_nonzero(detected < 0)),
        )

    def _totals(self, profile: Profile) -> F64:
        """What the first n rows gained, for every n."""
        if profile not in self._known:
            self._known[profile] = np.concatenate([[0.0], np.cumsum(self._gains(profile))])
        return self._known[profile]

    def _gains(self, profile: Profile) -> F64:
        """What each row adds when the threshold falls to its score, over a silent detector's total."""
        gains = np.where(self.window < 0, self.worth * profile.false_positive, 0.0)
        inside = np.flatnonzero(self.window >= 0)
        grouped = inside[np.argsort(self.window[inside], kind="stable")]  # score order kept within a window
        for rows in np.split(grouped, np.flatnonzero(np.diff(self.window[grouped])) + 1):
            if len(rows):
                reached = np.maximum.accumulate(self.worth[rows] * profile.true_positive)
                gains[rows] = np.diff(reached, prepend=-profile.false_negative)
        return gains


def _events(series: Series, scores: F64, place: int) -> tuple[F64, F64, NDArray[np.int64]]:
    rows = len(series.values)
    if scores.shape != (rows,) or np.isnan(scores).any():
        raise ValueError(f"{series.name}: {scores.shape} scores for {rows} rows, or NaN among them")
    worth = np.full(rows, -1.0)
    window = np.full(rows, -1, np.int64)
    for number, (first, last) in enumerate(series.windows):
        width = last - first + 1
        after = np.arange(last + 1, rows)
        worth[after] = _sigmoid((after - last) / (width - 1.0))
        inside = np.arange(first, last + 1)
        worth[inside] = _sigmoid((inside - last - 1) / width) / _sigmoid(np.array([-1.0]))
        window[inside] = (place << 16) + number
    kept = slice(series.probation, None)
    return scores[kept], worth[kept], window[kept]


def windowed_gaussian(values: F64, window: int = 6400, step: int = 100) -> F64:
    """NAB's plain reference detector: how improbable a value is under the normal law of the rows before it.

    Used to check the scorer against the published row (39.6, 20.9, 47.4): the first `window` rows fill a window that
    grows by one, later it moves on by `step` rows at a time.
    """
    scores = np.zeros(len(values))
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    count = np.arange(1, min(len(values), window) + 1)
    mean = np.cumsum(values[: len(count)]) / count
    spread = np.sqrt([values[:n].var() for n in count])
    means = np.concatenate([mean[:-1], np.full(max(0, len(values) - window), mean[-1])])
    spreads = np.concatenate([spread[:-1], np.full(max(0, len(values) - window), spread[-1])])
    for end in range(window + step, len(values), step):
        held = values[end - window : end]
        means[end - 1 : end - 1 + step], spreads[end - 1 : end - 1 + step] = held.mean(), held.std()
    means, spreads = means[: len(values) - 1], np.where(spreads == 0.0, 1e-6, spreads)[: len(values) - 1]
    scores[1:] = 1.0 - 0.5 * erfc(np.abs(values[1:] - means) / spreads / 1.4142)
    return np.round(scores, 12)  # the digits that the published run kept; they make ties at 1
