"""Anomaly scores as one byte: a logarithmic code, and its inverse.

code 0 = quiet (below SCORE_MIN), 255 = not scored (`wire.segment.SCORE_NONE`), else
score = SCORE_MIN * 2 ** ((code - 1) / 8): steps of 9 %, from 1/64 to 4.6e7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wire.segment import SCORE_NONE

SCORE_MIN = 1 / 64
STEPS_PER_OCTAVE = 8
CODE_MAX = SCORE_NONE - 1


def encode_scores(scores: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Codes of scores; the nearest step, so that a code's score is within 4.5 % of what was meant. NaN: not scored."""
    numbers = np.asarray(scores, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.rint(STEPS_PER_OCTAVE * np.log2(numbers / SCORE_MIN)) + 1
    codes = np.clip(np.nan_to_num(steps, nan=0.0, posinf=CODE_MAX, neginf=0.0), 0, CODE_MAX)
    return np.where(np.isnan(numbers), SCORE_NONE, codes).astype(np.uint8)


def decode_scores(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Scores of codes; 0.0 where quiet, NaN where not scored."""
    numbers = codes.astype(np.float64)
    scores = SCORE_MIN * np.exp2((numbers - 1) / STEPS_PER_OCTAVE)
    scores[codes == 0] = 0.0
    scores[codes == SCORE_NONE] = np.nan
    return scores
