"""How fast a backlog reaches the cloud: on loopback, and over a slow link with delay and loss.

    python -m benchmarks.drain [--json FILE] [--readings N] [--congestion cubic]

A real outbox, drained by the agent's own syncer in a process of its own over mutual TLS into a real `cloud-sync serve`.
Beside it ThingsBoard gateway, its SQLite store drained into an MQTT broker that only acknowledges. The slow link needs
root; ThingsBoard gateway is installed from PyPI into a folder of its own. What cannot be had is left out and told.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import thingsboard
from benchmarks.columns import NoData, data_directory, decimal_columns, fifty, loop_ms
from benchmarks.drain_gateway import prepare
from benchmarks.footprint import cloud
from benchmarks.link import DOWN, Link, NoLink, link
from benchmarks.report import OURS, Report
from benchmarks.thingsboard import NoPeer

BITS_PER_S, DELAY_S, LOSS_UP = 1e6, 0.05, 0.01
LOOPBACK, SLOW = "loopback", "1 Mbit/s"
READINGS = 20_000_000  # 150 s on the slow link: what TCP meets by chance in 40 s moves link_used_percent by 3
WIDE, NARROW = 4000, 20_000  # rows of 50 values and of one, for ThingsBoard gateway
METHOD = (
    "{readings:,} readings (50 real decimal columns at 10 Hz in atoms of 2,500) wait in an outbox. readings_per_s is "
    "over the time from before the connection to the last acknowledgement, the cloud's fsync included; gateway and "
    "cloud share the machine's cores. socket_bytes_per_reading: bytes of IP both ways, as the agent's own meter takes "
    "them from TCP_INFO (TLS, HTTP/2, acknowledgements, what was sent twice); payload_bytes_per_reading: messages "
    "alone. 1 Mbit/s: two network namespaces joined by TUN devices and a loop that paces each way to 1 Mbit/s (64 kB "
    "of queue), adds 50 ms each way and drops 1 % of the gateway's packets; TCP's congestion control is {congestion}. "
    "link_used_percent: bytes of IP that passed the gateway's paced end over what it could pass in that time; "
    "payload_percent: the same for messages alone. ThingsBoard gateway "
    + thingsboard.VERSION
    + ": rows of the same columns in its SQLite store, without TLS, rate limits off, QoS 1 into a stub broker; values "
    "per second from its first message to its last, 50 values a row or one."
)


@dataclass(frozen=True, slots=True)
class Drained:
    """What the gateway told."""

    readings: int
    seconds: float
    cpu_s: float
    messages: int
    payload_bytes: int
    socket_bytes: int


def drained(folder: Path, address: str, within: tuple[str, ...] = ()) -> Drained:
    """Drain the outbox in `folder`."""
    command = [*within, sys.executable, "-m", "benchmarks.drain_gateway", str(folder), address]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the gateway failed: {done.stderr[-2000:]}")
    return Drained(**json.loads(done.stdout))


def add(report: Report, case: str, found: Drained) -> None:
    """The rows that every case has."""
    report.add(OURS, case, "readings_per_s", found.readings / found.seconds, "1/s")
    report.add(OURS, case, "socket_bytes_per_reading", found.socket_bytes / found.readings, "B")
    report.add(OURS, case, "payload_bytes_per_reading", found.payload_bytes / found.readings, "B")
    report.add(OURS, case, "gateway_cpu_us_per_reading", 1e6 * found.cpu_s / found.readings, "us")
    report.add(OURS, case, "readings_per_message", found.readings / found.messages, "count")


def loopback(report: Report, backlog: Path, folder: Path) -> None:
    """Nothing between them but the kernel."""
    shutil.copytree(backlog, folder)
    with cloud(folder) as address:
        add(report, LOOPBACK, drained(folder, address))


def slow(report: Report, backlog: Path, folder: Path, congestion: str) -> None:
    """Over the link. Raises NoLink."""
    shutil.copytree(backlog, folder)
    with (
        link(bits_per_s=BITS_PER_S, delay_s=DELAY_S, loss_up=LOSS_UP, congestion=congestion) as way,
        cloud(folder, DOWN, Link.within("cloud")) as address,
    ):
        before = way.up.passed
        found = drained(folder, address, Link.within("gateway"))
        passed = way.up.passed - before
    add(report, SLOW, found)
    for metric, size in (("link_used_percent", passed), ("payload_percent", found.payload_bytes)):
        report.add(OURS, SLOW, metric, 100 * 8 * size / BITS_PER_S / found.seconds, "%")


def peer(report: Report, folder: Path) -> None:
    """ThingsBoard gateway. Raises NoPeer."""
    data = data_directory()
    columns = fifty(decimal_columns(data), random.Random(1))
    _, wall_ms = loop_ms(data, "0.1")
    names = [f"{column.series.name}_{at}" for at, column in enumerate(columns)]
    values = [column.values.tolist() for column in columns]

    def row(at: int, width: int) -> tuple[int, dict[str, float]]:
        return int(wall_ms[0]) + 100 * at, {names[k]: values[k][at % len(values[k])] for k in range(width)}

    for title, rows, width in (("50 values a row", WIDE, 50), ("a value a row", NARROW, 1)):
        rate, size = thingsboard.drain(folder / title.replace(" ", "-"), [row(at, width) for at in range(rows)])
        system = f"ThingsBoard gateway, {title}"
        report.add(system, LOOPBACK, "readings_per_s", rate, "1/s")
        report.add(system, LOOPBACK, "payload_bytes_per_reading", size, "B")


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--readings", type=int, default=READINGS, help="how many wait (default %(default)s)")
    parser.add_argument("--congestion", default="cubic", help="TCP's congestion control on the link (default cubic)")
    arguments = parser.parse_args()
    method = METHOD.format(readings=arguments.readings, congestion=arguments.congestion)
    left_out = []
    with tempfile.TemporaryDirectory(prefix="drain-") as place:
        folder = Path(place)
        try:
            prepare(folder / "backlog", arguments.readings)
        except NoData as error:
            raise SystemExit(str(error)) from error
        report = Report("drain", method, ("grpcio", "numpy", "pcodec", "protobuf"))
        loopback(report, folder / "backlog", folder / "loopback")
        try:
            slow(report, folder / "backlog", folder / "slow", arguments.congestion)
        except NoLink as error:
            left_out.append(f"{SLOW}: {error}")
        try:
            peer(report, folder)
        except NoPeer as error:
            left_out.append(f"ThingsBoard gateway: {error}")
    if left_out:
        report.method += " Left out: " + "; ".join(left_out) + "."
    report.finish(arguments.json)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
