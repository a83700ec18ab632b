"""A short run of each fuzz target; `make nightly` runs them for minutes."""

from __future__ import annotations

import time

from tests.fuzz import segment


def test_segment_decoder() -> None:
    seed = time.time_ns() % 1_000_000_007
    print(f"seed {seed}")
    tried, valid = segment.run(3.0, seed)
    assert tried > 50
    assert 0 < valid < tried
