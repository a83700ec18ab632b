"""CPU time of the agent at work: `python -m benchmarks.cpu [--json FILE] [--seconds N]`.

The real agent over mutual TLS to a real cloud-sync, both as processes of their own, 50 channels at 1, 10 and 100 Hz,
without a model and with two; beside it two floors: empty threads at the same pace, and the agent at rest.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.footprint import (
    COLUMNS,
    INTERVAL,
    ROWS,
    SENSORS,
    add_models,
    cloud,
    cpu_s_of,
    process,
    taken_of,
    wait_for_agent,
    write_config,
)
from benchmarks.report import OURS, Report
from edge_agent.config.values import parse_duration

SECONDS = 15.0
WINDOWS = 3
SETTLE_S = 3.0  # the first handshake and the first commits are over
READY_S_MAX = 90.0
PERIOD_ROWS = 20
CALIBRATION_ROWS = 40  # two periods; 40 s at 1 Hz
INTERVALS = {"50/s": "1s", "500/s": "100ms", "5000/s": "10ms"}
IDLE = "3600s"
IDLE_AGENT = "the same agent idle"
FLOOR = "empty threads at the same pace"
COMMIT_S = 5
EMPTY = f"""
import sqlite3, sys, threading
stop, period = threading.Event(), float(sys.argv[1])
def tick():
    while not stop.wait(period):
        pass
for _ in range({SENSORS}):
    threading.Thread(target=tick, daemon=True).start()
database = sqlite3.connect(sys.argv[2], isolation_level=None)
database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE IF NOT EXISTS t (n)")
while not stop.wait({COMMIT_S}):
    database.execute("INSERT INTO t VALUES (1)")
"""
METHOD = (
    f"{SENSORS} replayed files of {COLUMNS} columns each are read every 1 s, 100 ms or 10 ms by `edge-agent run`, "
    "committed every 5 s and synced as committed over mutual TLS to `cloud-sync serve`, all on one machine. "
    "us_per_reading is user and system time of all threads of the agent's process over the readings taken meanwhile: "
    "driver, commits, TLS, acks and what the agent does besides, nothing subtracted. It is the median of "
    f"{WINDOWS} windows of `--seconds` / {WINDOWS} one after another in one start. Signals are sines of 2 degrees and "
    f"{PERIOD_ROWS} rows in steps of 0.01, phases apart, without a jump where the file begins again, so that no storm "
    "of alarms is measured; alarms_active is what was raised at the end. 2 models: `value-novelty` under two ids, each "
    f"on all channels, a run per model and tick, measured once both are past a calibration of {CALIBRATION_ROWS} rows. "
    "readings_per_s is what was taken. Two floors, measured in the same run because CPU time depends on the machine "
    f"and on who else is at work on it: a python with {SENSORS} threads that wake at the sensors' pace and do nothing, "
    f"and one that commits a row to SQLite every {COMMIT_S} s; and the CPU time per second of the same agent whose "
    "sensors are read once per hour, over the nominal rate."
)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long each case is measured")
    arguments = parser.parse_args()
    report = Report("cpu", METHOD, ("grpcio", "numpy", "pcodec", "protobuf", "msgspec"))
    with tempfile.TemporaryDirectory(prefix="cpu-") as folder, cloud(Path(folder)) as address:
        config = write_config(Path(folder), address)
        write_sines(Path(folder))
        plain = config.read_text(encoding="ascii")
        idle_us_per_s = measure(config, plain, IDLE, arguments.seconds).cpu_us_per_s
        for rate, interval in INTERVALS.items():
            report.add(IDLE_AGENT, rate, "us_per_reading", idle_us_per_s / int(rate.removesuffix("/s")), "us")
            floor_us = floor_us_per_s(Path(folder), interval, arguments.seconds) / int(rate.removesuffix("/s"))
            report.add(FLOOR, rate, "us_per_reading", floor_us, "us")
            add(report, rate, measure(config, plain, interval, arguments.seconds))
        config.write_text(plain, encoding="ascii")
        add_models(config, CALIBRATION_ROWS)
        watched = config.read_text(encoding="ascii")
        for rate, interval in INTERVALS.items():
            add(report, f"{rate}, 2 models", measure(config, watched, interval, arguments.seconds))
    report.finish(arguments.json)
    return 0


@dataclass(frozen=True, slots=True)
class Look:
    """The agent at work; medians."""

    cpu_us_per_reading: float
    cpu_us_per_s: float
    readings_per_s: float
    alarms_active: int


def add(report: Report, case: str, look: Look) -> None:
    """Our rows of one case."""
    report.add(OURS, case, "us_per_reading", look.cpu_us_per_reading, "us")
    report.add(OURS, case, "readings_per_s", look.readings_per_s, "1/s")
    report.add(OURS, case, "alarms_active", look.alarms_active, "count")


def measure(config: Path, text: str, interval: str, seconds: float) -> Look:
    """One start of the agent with this configuration at this interval."""
    from edge_agent.asking import ask

    runtime = config.parent / "run"
    config.write_text(text.replace(f'interval = "{INTERVAL}"', f'interval = "{interval}"'), encoding="ascii")
    with process("edge_agent", "run", "-c", str(config)) as agent:
        wait_for_agent(runtime)
        time.sleep(SETTLE_S)
        document = ask(runtime, {"op": "status"})
        deadline_s = time.monotonic() + READY_S_MAX
        while not is_running(document):
            if time.monotonic() > deadline_s:
                raise SystemExit(f"models do not run: {document['models']}")
            time.sleep(1)
            document = ask(runtime, {"op": "status"})
        spent_s, taken, lasted_s = [], [], []
        for _ in range(WINDOWS):
            began_s, cpu_s, before = time.monotonic(), cpu_s_of(agent.pid), taken_of(document)
            time.sleep(seconds / WINDOWS)
            spent_s.append(cpu_s_of(agent.pid) - cpu_s)
            document = ask(runtime, {"op": "status"})
            taken.append(taken_of(document) - before)
            lasted_s.append(time.monotonic() - began_s)
    if document["health"] != "healthy":
        raise SystemExit(f"the agent does not work as it should: {document['reasons']}")
    return Look(
        statistics.median(1e6 * cpu / max(1, count) for cpu, count in zip(spent_s, taken, strict=True)),
        statistics.median(1e6 * cpu / lasted for cpu, lasted in zip(spent_s, lasted_s, strict=True)),
        statistics.median(count / lasted for count, lasted in zip(taken, lasted_s, strict=True)),
        len(document["alarms"]),
    )


def floor_us_per_s(folder: Path, interval: str, seconds: float) -> float:
    """CPU time per second of what no agent can do without: see METHOD."""
    period_s = parse_duration(interval)
    with subprocess.Popen([sys.executable, "-c", EMPTY, str(period_s), str(folder / "floor.db")]) as child:
        try:
            time.sleep(SETTLE_S)
            began_s, cpu_s = time.monotonic(), cpu_s_of(child.pid)
            time.sleep(seconds)
            return 1e6 * (cpu_s_of(child.pid) - cpu_s) / (time.monotonic() - began_s)
        finally:
            child.kill()


def is_running(document: dict[str, Any]) -> bool:
    """Whether all models are past their calibration."""
    return all(model["state"] == "running" for model in document["models"])


def write_sines(folder: Path) -> None:
    """The sensors' files anew, as METHOD says."""
    for sensor in range(SENSORS):
        with (folder / f"s{sensor}.csv").open("w", encoding="ascii") as file:
            file.write(",".join(f"c{column}" for column in range(COLUMNS)) + "\n")
            for row in range(ROWS):
                turns = [row / PERIOD_ROWS + (sensor * COLUMNS + column) / 50 for column in range(COLUMNS)]
                file.write(",".join(f"{20 + 2 * math.sin(math.tau * turn):.2f}" for turn in turns) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
