"""The fault lab with real processes: a few trials of ours, and other agents left in peace."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulator.lab.peers.run import prepare, run_peer
from simulator.lab.trials import Order, bench_for, run_trials
from simulator.mqtt_broker import mosquitto

pytestmark = pytest.mark.system


@pytest.mark.timeout(400)
def test_three_real_trials_hold() -> None:
    """Of the seeds 1 to 3: kills of both sides, power cut, cut at an answer, full and failing card, slow store."""
    order = Order(trials=3, seed=1, workers=3, real=True)
    with bench_for(order) as bench:
        results = list(run_trials(order, bench))
    assert len(results) == order.trials
    for result in results:
        print(result.seed, *result.story, sep="\n")
        assert result.broken == ()
        assert result.holds
        assert result.taken > 0


@pytest.mark.skipif(mosquitto() is None, reason="mosquitto is not installed. Try: apt-get install mosquitto")
def test_mosquitto_without_faults_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """What the lab counts against it is not the lab's own doing."""
    result = run_peer("mosquitto", 1, tmp_path / "trial", tmp_path, has_card=False, calm=True)
    assert result.taken > 0
    assert (result.lost, result.doubled, result.broken) == (0, 0, ())


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_thingsboard_without_faults_loses_and_doubles_nothing(tmp_path: Path) -> None:
    prepare("thingsboard", tmp_path)
    result = run_peer("thingsboard", 1, tmp_path / "trial", tmp_path, has_card=False, calm=True)
    assert result.taken > 0
    assert (result.lost, result.doubled, result.broken) == (0, 0, ())
