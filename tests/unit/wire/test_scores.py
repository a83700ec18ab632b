"""Scores as a byte: close, monotone, and with a place for quiet and for not scored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.scores import CODE_MAX, SCORE_MIN, decode_scores, encode_scores
from wire.segment import SCORE_NONE


@given(st.floats(SCORE_MIN, 4e7))
def test_a_score_comes_back_within_five_percent(score: float) -> None:
    assert decode_scores(encode_scores(np.array([score])))[0] == pytest.approx(score, rel=0.045)


def test_every_code_is_its_own() -> None:
    codes = np.arange(256).astype(np.uint8)
    assert encode_scores(decode_scores(codes)).tolist() == codes.tolist()


@pytest.mark.filterwarnings("error")
def test_edges() -> None:
    scores = np.array([0.0, -1.0, 1e-9, np.inf, 1e300, np.nan])
    assert encode_scores(scores).tolist() == [0, 0, 0, CODE_MAX, CODE_MAX, SCORE_NONE]
    assert np.isnan(decode_scores(np.array([SCORE_NONE], np.uint8))[0])
    assert encode_scores(np.zeros((2, 0))).shape == (2, 0)
