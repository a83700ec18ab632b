"""The scorer is NAB's: detectors that anyone can re-run get the published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import nab

FOLDER = nab.data_directory() / "nab"
needs_data = pytest.mark.skipif(not (FOLDER / "labels").is_dir(), reason=f"{FOLDER} is not there: set TIDEGATE_DATA")


@pytest.fixture(scope="module")
def corpus() -> list[nab.Series]:
    return nab.load(FOLDER)


@pytest.fixture(scope="module")
def profiles() -> dict[str, nab.Profile]:
    return nab.load_profiles(FOLDER)


@needs_data
def test_corpus(corpus: list[nab.Series]) -> None:
    assert (len(corpus), sum(len(one.values) for one in corpus)) == (58, 365_558)
    assert sum(len(one.windows) for one in corpus) == 116


def points(corpus: list[nab.Series], profiles: dict[str, nab.Profile], scores: dict[str, nab.F64]) -> list[float]:
    events = nab.Events(corpus, scores)
    return [round(events.best(profile).score, 2) for profile in profiles.values()]


@needs_data
def test_published_rows(corpus: list[nab.Series], profiles: dict[str, nab.Profile]) -> None:
    silent = {one.name: np.zeros(len(one.values)) for one in corpus}
    assert points(corpus, profiles, silent) == [0.0, 0.0, 0.0]
    gaussian = {one.name: nab.windowed_gaussian(one.values) for one in corpus}
    assert points(corpus, profiles, gaussian) == [39.65, 20.87, 47.41]  # results/final_results.json at ea702d7


@needs_data
def test_label_blind(corpus: list[nab.Series], profiles: dict[str, nab.Profile]) -> None:
    """An alarm every 600 rows, as NAB's own scorer counts it: 60 windows, 468 rows."""
    blind = {one.name: (np.arange(len(one.values)) % 600 == 0).astype(np.float64) for one in corpus}
    assert points(corpus, profiles, blind) == [25.86, 4.31, 34.48]
    result = nab.Events(corpus, blind).best(profiles["nab_standard"])
    assert (result.hits, result.false_rows) == (60, 468)


@needs_data
def test_perfect(corpus: list[nab.Series], profiles: dict[str, nab.Profile]) -> None:
    perfect = {}
    for one in corpus:
        scores = np.zeros(len(one.values))
        scores[[first for first, _ in one.windows]] = 1.0
        perfect[one.name] = scores
    assert points(corpus, profiles, perfect) == [100.0, 100.0, 100.0]


PROFILE = nab.Profile(1.0, 1.0, 0.11)


def series(rows: int = 1000, *windows: tuple[int, int]) -> nab.Series:
    return nab.Series("one", np.arange(rows) * 300.0, np.zeros(rows), windows)


def score(one: nab.Series, *rows: int) -> float:
    scores = np.zeros(len(one.values))
    scores[list(rows)] = 1.0
    return nab.Events([one], {"one": scores}).at(PROFILE, 0.5).score


def test_earlier_in_a_window_is_worth_more_and_once() -> None:
    one = series(1000, (400, 499))
    assert score(one, 400) == pytest.approx(100.0)
    assert score(one, 400) > score(one, 450) > score(one, 499) > 50
    assert score(one, 450, 499) == score(one, 450)


def test_false_alarms_cost_less_just_after_a_window() -> None:
    one = series(1000, (400, 499))
    assert score(one, 399) == pytest.approx(-5.5)
    assert 0 > score(one, 505) > score(one, 540) > score(one, 800) == pytest.approx(-5.5)


def test_the_probation_is_not_scored() -> None:
    assert score(series(1000, (400, 499)), *range(150)) == 0
    assert [nab.probation_rows(rows) for rows in (1000, 1127, 5000, 22695)] == [150, 169, 750, 750]


def test_data_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    assert nab.data_directory() == tmp_path
