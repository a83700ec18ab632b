"""`edge-sim lab` as people run it: what it says, writes and returns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simulator.cli import main
from simulator.lab.board import scoreboard
from simulator.lab.outcome import Plant, TrialResult, score
from simulator.lab.trials import Agent, Order

KEYS = {"trials", "taken", "stored", "tombstoned", "lost", "doubled", "failed_seeds"}


def test_a_sound_run_counts_and_returns_0(tmp_path: Path) -> None:
    out = tmp_path / "lab.json"
    done = CliRunner().invoke(main, ["lab", "--trials", "2", "--seed", "3", "--workers", "1", "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "Nothing lost, nothing doubled." in done.output
    found = json.loads(out.read_text())
    assert found.keys() >= KEYS
    assert (found["trials"], found["lost"], found["doubled"], found["failed_seeds"]) == (2, 0, 0, [])
    assert found["taken"] <= found["stored"] + found["tombstoned"] + found["power_cut"]
    again = CliRunner().invoke(main, ["lab", "--trials", "2", "--seed", "3", "--workers", "2", "--json", str(out)])
    assert again.exit_code == 0
    assert {**json.loads(out.read_text()), "seconds": 0} == {**found, "seconds": 0}


def test_a_planted_mistake_fails_the_run_and_tells_how_to_replay() -> None:
    arguments = ["lab", "--trials", "3", "--seed", "1", "--workers", "1", "--plant", "delete-on-send"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert "IT DOES NOT HOLD" in done.output
    assert "seed 1 fails" in done.output
    assert "edge-sim lab --seed 1 --trials 1 --plant delete-on-send" in done.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "/nowhere/lab.json"], "its folder is missing"),
        (["--real", "--plant", "delete-on-send"], "--plant works in virtual time"),
        (["--agent", "mosquitto", "--plant", "delete-on-send"], "--plant works in virtual time"),
        (["--trials", "0"], "0 is not in the range x>=1"),
        (["--agent", "telegraf"], "'telegraf' is not one of"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["lab", *arguments])
    assert done.exit_code != 0
    assert said in done.output


@pytest.mark.parametrize(
    ("order", "command"),
    [
        (Order(9, 1, 2), "edge-sim lab --seed 5 --trials 1"),
        (Order(9, 1, 2, real=True), "edge-sim lab --seed 5 --trials 1 --real"),
        (Order(9, 1, 2, Agent.MOSQUITTO), "edge-sim lab --seed 5 --trials 1 --agent mosquitto"),
        (Order(9, 1, 2, plant=Plant.DELETE_ON_SEND), "edge-sim lab --seed 5 --trials 1 --plant delete-on-send"),
    ],
)
def test_the_command_that_replays(order: Order, command: str) -> None:
    assert order.replay(5) == command


def test_the_board_sums_and_judges() -> None:
    sound = TrialResult(1, ("cut", "stall"), 10, 9, 1, 0, 0, 0)
    lossy = TrialResult(2, ("cut",), 10, 8, 0, 0, 2, 0, ("2 values are lost",))
    wrong = TrialResult(3, (), 10, 10, 0, 0, 0, 0, ("out of order",))
    found = score("tidegate", "virtual time", [wrong, sound, lossy])
    assert (found.trials, found.taken, found.stored, found.lost, found.doubled) == (3, 30, 27, 2, 0)
    assert found.failed_seeds == (2, 3)
    assert found.faults == {"cut": 2, "stall": 1}
    assert not found.holds
    assert score("tidegate", "virtual time", [sound]).holds
    assert not score("tidegate", "virtual time", []).holds
    assert scoreboard([found]).row_count == 1
