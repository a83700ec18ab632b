"""The demonstration's plan and its lines; the whole runs in tests/system."""

from pathlib import Path
from typing import Any

import pytest

from simulator.demo import plans
from simulator.demo_command import Options, run_demo
from simulator.lab.anomaly import Anomaly
from simulator.lab.count import Count, Result
from simulator.lab.gateway import LabGateway
from simulator.screen import GatewayLine, Screen


def test_the_agents_take_the_configurations_as_they_are(tmp_path: Path) -> None:
    from edge_agent.config.load import load

    sensors = []
    for plan in plans(tmp_path, "unix"):
        gateway = LabGateway(plan, tmp_path / plan.name, seed=1)
        gateway.configure(cloud_port=8443)
        config = load(gateway.folder / "edge-agent.toml")
        sensors += [(config.agent.name, sensor.id, sensor.bus) for sensor in config.sensors]
        assert all(
            bus.device == f"unix:{gateway.folder}/{name}"
            for name, bus in config.buses.items()
            if name.startswith("i2c-")
        )
    assert sensors == [
        ("greenhouse", "climate", "i2c-1"),
        ("cellar", "north", "i2c-1"),
        ("cellar", "south", "i2c-1"),
        ("cellar", "attic", "i2c-3"),
        ("workshop", "machine", ""),
        ("pump-house", "pump", "rs485"),
        ("pump-house", "gps", "gnss"),
        ("boiler-room", "boiler", ""),
    ]


REASONS = {"nan": "golden", "slow": "latency"}


def test_the_summary_says_both_counts_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.say("readings arrive", 1.25)
        screen.show([GatewayLine("cellar", "3 x BME280", 10, 4, True, 6)])
        screen.summary(
            Result(Count(taken=3000, stored=3000, in_flight=3), 1.234, 12, 42, 0.84, 0, True, True, REASONS),
            "http://127.0.0.1:1/",
        )
        screen.summary(Result(Count(taken=3, stored=2, lost=1, foreign=7), 1.0, 3, 1, None, 2), "")
    shown = capsys.readouterr().out
    good, bad = shown.split("The counts hold.")
    assert "  1.2 s  readings arrive" in good
    for text in (
        "3000  taken",
        "3000  stored",
        "0  lost",
        "0  doubled",
        "3  in flight",
        "1.23  socket bytes",
        "0.8 s  from the bearing",
        "0  false",
        "yes  a better model runs",
        "yes  bad models do not run (nan: golden, slow: latency)",
    ):
        assert text in good
    assert "http://127.0.0.1:1/" in bad
    assert "7  stored, but given out by no sensor" in bad
    assert "–  from the bearing" in bad
    assert "2  false alarms" in bad
    assert "NO  a better model runs" in bad
    assert (
        "THE COUNTS DO NOT HOLD. THE ALARMS ARE NOT AS THEY MUST BE. THE UPDATES ARE NOT AS THEY MUST BE."
        in " ".join(bad.split())
    )


def test_the_json_has_its_stable_keys() -> None:
    document = Result(Count(10, 9, 1, 2, 0, 3), 2.5, 12, 41.26, 0.838, 1, True, False, REASONS).document()
    assert document == {
        "taken": 10,
        "stored": 9,
        "lost": 1,
        "doubled": 2,
        "in_flight": 3,
        "wire_bytes_per_reading": 2.5,
        "seconds": 41.3,
        "anomaly_delay_s": 0.84,
        "false_alarms": 1,
        "ota_good_active": True,
        "ota_bad_refused": False,
        "ota_reasons": REASONS,
    }


@pytest.mark.parametrize(
    ("count", "delay_s", "false_alarms", "updates", "holds"),
    [
        (Count(3, 3), 0.8, 0, (True, True), True),
        (Count(3, 2, lost=1), 0.8, 0, (True, True), False),
        (Count(3, 3), None, 0, (True, True), False),
        (Count(3, 3), 0.8, 1, (True, True), False),
        (Count(3, 3), 0.8, 0, (False, True), False),
        (Count(3, 3), 0.8, 0, (True, False), False),
    ],
)
def test_all_must_hold(
    count: Count, delay_s: float | None, false_alarms: int, updates: tuple[bool, bool], holds: bool
) -> None:
    assert Result(count, 1.0, 3, 1.0, delay_s, false_alarms, *updates).holds is holds


def alarm(number: str, onset_ms: int, series: str = "pump/vibration") -> dict[str, Any]:
    text = {"gateway": "pump-house", "series": series, "cause": "6.6 mm/s, expected 1.7 to 2.0"}
    return {"id": number, "onset_ms": onset_ms, "score": 97.0, "threshold": 20.0, **text}


def test_an_alarm_before_the_fault_is_false_and_one_of_another_series_is_not_the_fault() -> None:
    anomaly = Anomaly("pump-house", "pump/vibration")
    known, late, other = alarm("a", 9_990), alarm("b", 5_000), alarm("c", 10_500, "pump/speed")
    anomaly.begin([known], 10_000)
    assert not anomaly.look([known, late, other], 0.5)
    assert anomaly.look([known, late, other, alarm("d", 9_990)], 0.7)
    assert anomaly.delay_s == 0.7
    assert anomaly.text == "score 97 of 20: 6.6 mm/s, expected 1.7 to 2.0"
    assert anomaly.false_alarms([known, late, other, alarm("d", 9_990)]) == 2


def test_a_summary_that_could_not_be_written_is_said_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "none" / "out.json"
    assert run_demo(Options(stay=False, json_file=target, seed=1, transport="unix", keep=None)) == 1
    assert capsys.readouterr().err == f"edge-sim: --json {target}: its folder is missing or cannot be written\n"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for kept, why in ((tmp_path, "is there already"), (tmp_path / "file" / "x", "cannot be made: Not a directory")):
        assert run_demo(Options(stay=False, json_file=None, seed=1, transport="unix", keep=kept)) == 1
        assert capsys.readouterr().err == f"edge-sim: {kept} {why}. Try: another --keep DIR, which is made anew\n"
