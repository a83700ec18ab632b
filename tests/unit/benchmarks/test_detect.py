"""The promise of the detector: NAB, one setting, causal (docs of the bar: models/value-novelty/1/CARD.md)."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import detect, nab
from edge_agent.detect.contract import load_model
from edge_agent.detect.library import find_model
from edge_agent.detect.session import Session

FOLDER = nab.data_directory() / "nab"
needs_data = pytest.mark.skipif(not (FOLDER / "labels").is_dir(), reason=f"{FOLDER} is not there: set TIDEGATE_DATA")


@needs_data
def test_scores_are_those_of_the_prefix() -> None:
    session = Session(load_model(find_model("value-novelty")))
    one = next(series for series in nab.load(FOLDER) if "art_daily_jumpsup" in series.name)
    part = nab.Series(one.name, one.seconds[:3500], one.values[:3500], ())
    # the shorter file has a shorter probation, so it is given the longer one's: the rest must not know the end
    whole = detect.score_series(session, one, one.probation)
    assert np.array_equal(detect.score_series(session, part, one.probation), whole[:3500])
    assert whole.max() > 1


@needs_data
@pytest.mark.nightly
def test_nab() -> None:
    report = detect.measure(load_model(find_model("value-novelty")), FOLDER)
    assert report.value("optimised", "nab_standard") >= 72
    assert report.value("optimised", "nab_low_fp") >= 64
    assert report.value("fixed threshold", "nab_standard") >= report.value("optimised", "nab_standard") - 1
    assert report.value("other half", "nab_standard") >= 70
