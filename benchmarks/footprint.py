"""Memory of the agent at work: `python -m benchmarks.footprint [--json FILE] [--seconds N]`.

The real agent, 50 channels at 10 Hz, over mutual TLS to a real cloud-sync, both as processes of their own; beside it
the floor: an interpreter that has imported the libraries the agent uses at work, and does nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import OURS, Report

SENSORS = 5
COLUMNS = 10
INTERVAL = "100ms"
ROWS = 3000
WARM_UP_S = 20.0
READY_S_MAX = 30.0
LIBRARIES = "asyncio, json, sqlite3, ssl, tomllib, click, msgspec, numpy, pcodec, grpc, google.protobuf"
CASE = "no model"
PYTHON = "python -c pass"
STATUS = "edge-agent status, cold start"
STARTS = 9
MODELS = "2 models"
CALIBRATION_ROWS = 100  # so that both give scores when the look is taken
METHOD = (
    f"{SENSORS} replayed files of {COLUMNS} columns each are read every {INTERVAL} by `edge-agent run`, committed "
    "every 5 s and synced as committed over mutual TLS to `cloud-sync serve`, all on one machine. rss_mb is VmRSS of "
    "the agent's process (MB = 10^6 bytes), the highest of ten looks in the last second. It is that of the second "
    "start, with the whole journal ring of 4 MiB resident, as it is after some minutes; rss_first_start_mb is that of "
    "the start that makes the outbox (sqlite-utils is imported then), its ring not yet written once round. The floor "
    f"is VmRSS of a python that imported {LIBRARIES}. readings_per_s is what the agent took meanwhile; "
    "cpu_us_per_reading is user and system time of all threads in the last half of the run over what was taken in it. "
    "2 models: `value-novelty` under two ids, each with a session of its own on all channels, a run per model and "
    f"tick. cpu_ms is user and system time of `edge-agent status`, the median of {STARTS}, while that agent runs; its "
    "floor is an interpreter that does nothing."
)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--seconds", type=float, default=WARM_UP_S, help="how long the agent works before the look")
    arguments = parser.parse_args()
    report = Report("footprint", METHOD, ("grpcio", "numpy", "pcodec", "protobuf", "msgspec"))
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder, cloud(Path(folder)) as address:
        config = write_config(Path(folder), address)
        first = measure(config, arguments.seconds)
        plain = measure(config, arguments.seconds)
        add_models(config)
        measure(config, arguments.seconds)
        watched = measure(config, arguments.seconds)
        with process("edge_agent", "run", "-c", str(config)):
            wait_for_agent(config.parent / "run")
            status_ms = cold_start_ms(sys.executable, "-m", "edge_agent", "status", "-c", str(config))
            bare_ms = cold_start_ms(sys.executable, "-c", "pass")
    report.add("python with the same libraries", CASE, "rss_mb", floor_bytes() / 1e6, "MB")
    report.add(OURS, CASE, "rss_first_start_mb", first.rss_bytes / 1e6, "MB")
    for case, look in ((CASE, plain), (MODELS, watched)):
        report.add(OURS, case, "rss_mb", look.rss_bytes / 1e6, "MB")
        report.add(OURS, case, "readings_per_s", look.readings_per_s, "1/s")
        report.add(OURS, case, "cpu_us_per_reading", look.cpu_us_per_reading, "us")
        report.add(OURS, case, "threads", look.threads, "count")
    report.add(PYTHON, STATUS, "cpu_ms", bare_ms, "ms")
    report.add(OURS, STATUS, "cpu_ms", status_ms, "ms")
    report.finish(arguments.json)
    return 0


def cold_start_ms(*command: str) -> float:
    """User and system time of a command from its start to its end, the median of some."""
    spent = []
    for _ in range(STARTS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return 1e3 * statistics.median(spent)


@dataclass(frozen=True, slots=True)
class Look:
    """The agent at work."""

    rss_bytes: int
    readings_per_s: float
    cpu_us_per_reading: float
    threads: int


def measure(config: Path, seconds: float) -> Look:
    """One start of the agent."""
    from edge_agent.asking import ask

    runtime = config.parent / "run"
    with process("edge_agent", "run", "-c", str(config)) as agent:
        wait_for_agent(runtime)
        time.sleep(seconds / 2)
        before, cpu_before_s = taken_of(ask(runtime, {"op": "status"})), cpu_s_of(agent.pid)
        time.sleep(seconds / 2)
        looks = []
        for _ in range(10):
            looks.append(rss_of(agent.pid))
            time.sleep(0.1)
        document, cpu_s = ask(runtime, {"op": "status"}), cpu_s_of(agent.pid) - cpu_before_s
        threads = len(os.listdir(f"/proc/{agent.pid}/task"))
    if document["health"] != "healthy" or not document["sync"]["messages_sent"]:
        raise SystemExit(f"the agent does not work as it should: {document['reasons'] or document['sync']}")
    if any(model["state"] != "running" for model in document["models"]):
        raise SystemExit(f"models do not run: {document['models']}")
    taken = taken_of(document)
    return Look(max(looks), taken / document["agent"]["uptime_s"], 1e6 * cpu_s / (taken - before), threads)


def wait_for_agent(runtime: Path) -> None:
    """Until it answers; on a busy machine its start takes a while."""
    from edge_agent.asking import ask
    from edge_agent.errors import NotRunning

    deadline_s = time.monotonic() + READY_S_MAX
    while True:
        try:
            ask(runtime, {"op": "status"})
        except NotRunning:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)
        else:
            return


def taken_of(document: dict[str, Any]) -> int:
    """Readings since the start."""
    return sum(channel["values"] for sensor in document["sensors"] for channel in sensor["channels"])


def cpu_s_of(pid: int) -> float:
    """CPU time of all threads that live, to the nanosecond; the ticks of proc(5)'s stat are too coarse for a window."""
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks.iterdir()) / 1e9


def floor_bytes() -> int:
    """RSS of an interpreter with the libraries and nothing else."""
    code = f"import {LIBRARIES}; print('VmRSS', open('/proc/self/status').read().split('VmRSS:')[1].split()[0])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(out.stdout.split()[1]) * 1024


def rss_of(pid: int) -> int:
    """VmRSS in bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def write_config(folder: Path, address: str) -> Path:
    """The agent's configuration and its sensors' files: random walks of a hundredth."""
    random.seed(50)
    tables = []
    for sensor in range(SENSORS):
        names = [f"c{column}" for column in range(COLUMNS)]
        walk = [2000] * COLUMNS
        with (folder / f"s{sensor}.csv").open("w", encoding="ascii") as file:
            file.write(",".join(names) + "\n")
            for _ in range(ROWS):
                walk = [value + random.randint(-3, 3) for value in walk]
                file.write(",".join(f"{value / 100:.2f}" for value in walk) + "\n")
        columns = ", ".join(f'{{ name = "{name}", unit = "Cel", resolution = 0.01 }}' for name in names)
        tables.append(
            f'[[sensor]]\nid = "s{sensor}"\ndriver = "csv-replay"\npath = "{folder}/s{sensor}.csv"\nloop = true\n'
            f"columns = [{columns}]\n"
        )
    config = folder / "agent.toml"
    config.write_text(
        f'[agent]\nname = "footprint"\ninterval = "{INTERVAL}"\nstate_dir = "state"\nruntime_dir = "run"\n'
        f'[cloud]\nurl = "https://{address}"\nca = "keys/ca.pem"\ncert = "keys/cert.pem"\nkey = "keys/key.pem"\n'
        f'batch = "0s"\n' + "".join(tables),
        encoding="ascii",
    )
    return config


def add_models(config: Path, calibration_rows: int = CALIBRATION_ROWS) -> None:
    """Two models on every channel."""
    inputs = ", ".join(f'"s{sensor}"' for sensor in range(SENSORS))
    tables = "".join(
        f'[[model]]\nid = "{name}"\nname = "value-novelty"\ninputs = [{inputs}]\ncalibration = {calibration_rows}\n'
        for name in ("one", "two")
    )
    config.write_text(config.read_text(encoding="ascii") + tables, encoding="ascii")


@contextmanager
def cloud(folder: Path, host: str = "127.0.0.1", within: tuple[str, ...] = ()) -> Iterator[str]:
    """A cloud-sync of its own; the address for gateways. `within`: a command that runs it elsewhere."""
    data = str(folder / "cloud")
    command = [sys.executable, "-c", "from cloud_sync.cli import main; main()"]
    subprocess.run([*command, "init", "--data", data, "--host", host], check=True, stdout=subprocess.DEVNULL)
    issue = [*command, "cert", "issue", "footprint", "--data", data, "--out", str(folder / "keys")]
    subprocess.run(issue, check=True, stdout=subprocess.DEVNULL)
    serve = [
        *within,
        *command,
        "serve",
        "--data",
        data,
        "--grpc",
        f"{host}:0",
        "--http",
        "127.0.0.1:0",
        "--log-level",
        "error",
    ]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield address_of(server.stdout.readline())
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(READY_S_MAX)


def address_of(line: str) -> str:
    """HOST:PORT for gateways out of the line that cloud-sync prints when it is ready."""
    for word in line.split():
        if word.startswith("grpc="):
            return word.removeprefix("grpc=")
    raise SystemExit(f"cloud-sync said {line!r} and no address for gateways")


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m …`, ended by SIGTERM; its exit code must be 0."""
    with subprocess.Popen([sys.executable, "-m", *arguments], stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            _, said = child.communicate(timeout=READY_S_MAX)
    if child.returncode:
        raise SystemExit(f"{arguments} ended with {child.returncode}: {said.decode()}")


if __name__ == "__main__":
    raise SystemExit(main())
