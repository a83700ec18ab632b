"""The check on `benchmarks.flash`: the agent itself in real time, on a card of its own. Needs root, and 90 minutes.

    python -m benchmarks.flash_agent [--json FILE] [--seconds N] [--warm-up N] [--case "5 s"]

`benchmarks.flash` sets the clock by hand and imitates what the kernel does by its own. Here nothing is imitated.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.columns import COLUMNS, Column, NoData
from benchmarks.flash import CALIBRATION_ROWS, CASES, RECORDED_ROWS, WARM_UP_S, Source, ext4, recorded, written_bytes
from benchmarks.footprint import cloud, process, taken_of
from benchmarks.report import OURS, Report
from edge_agent.asking import ask
from edge_agent.errors import NotRunning

SECONDS = 1800
READY_S_MAX = 120.0
METHOD = """\
Real time, nothing imitated: `edge-agent run` reads the rows of `benchmarks.flash` from a file, one a second,
with value-novelty on all {columns} series ({calibration} rows to learn) and a rule that stays silent, and sends
each commit over mutual TLS to a `cloud-sync serve` that acknowledges it. state_dir is on a loop device with
ext4 (blocks of 4 KiB, noatime), the journal in RAM. bytes_per_reading is the growth of the device's written
sectors (/sys/block/loopN/stat) over {seconds} s after a warm-up of {warm_up} s, from one sync of the file
system to another, over the readings taken meanwhile. commits are those of that time: one per interval, and one
for each alarm that begins."""


@dataclass(frozen=True)
class Box:
    """One agent with its card, its cloud's keys in `folder`, and the journal there: in RAM."""

    case: str
    folder: Path
    mount: Path
    device: str

    def configure(self, address: str, columns: Sequence[Column]) -> Path:
        """Write agent.toml."""
        cells = ", ".join(
            f'{{ name = "c{at}", unit = "Cel", resolution = {1 / column.series.den:.6f} }}'
            for at, column in enumerate(columns)
        )
        file = self.folder / "agent.toml"
        text = _CONFIG.format(box=self, address=address, cells=cells, rows=CALIBRATION_ROWS, commit=CASES[self.case])
        file.write_text(text, encoding="ascii")
        return file

    def look(self) -> tuple[int, int, int]:
        """Up to now: bytes given to the device, readings taken, commits."""
        status = self.status()
        return written_bytes(self.mount, self.device), taken_of(status), status["buffer"]["commits"]

    def status(self) -> dict[str, Any]:
        """The agent's. Raises NotRunning."""
        document: dict[str, Any] = ask(self.folder / "run", {"op": "status"})
        return document

    def wait(self) -> None:
        """Until the agent answers."""
        end = time.monotonic() + READY_S_MAX
        while True:
            try:
                self.status()
            except NotRunning:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
            else:
                return


_CONFIG = """\
[agent]
name = "flash"
interval = "1s"
state_dir = "{box.mount}/state"
runtime_dir = "{box.folder}/run"
[cloud]
url = "https://{address}"
ca = "{box.folder}/keys/ca.pem"
cert = "{box.folder}/keys/cert.pem"
key = "{box.folder}/keys/key.pem"
batch = "0s"
[buffer]
commit_interval = "{commit}s"
[[sensor]]
id = "recorded"
driver = "csv-replay"
path = "{box.folder}/rows.csv"
loop = true
columns = [{cells}]
[sensor.channel.c0]
alarm = {{ high = 1e12 }}
[[model]]
id = "novelty"
name = "value-novelty"
inputs = ["recorded"]
calibration = {rows}
"""


def write_rows(file: Path, columns: Sequence[Column]) -> None:
    """All rows, forwards and backwards, as text at their resolutions."""
    source = Source(columns)
    places = [len(str(column.series.den)) - 1 for column in columns]
    with file.open("w", encoding="ascii") as out:
        print(*(f"c{at}" for at in range(len(columns))), sep=",", file=out)
        for second in range(2 * RECORDED_ROWS):
            cells = zip(source.raw(second), columns, places)
            print(*(f"{raw / column.series.den:.{count}f}" for raw, column, count in cells), sep=",", file=out)


def main(arguments: list[str] | None = None) -> int:
    """Measure all cases at the same time, print, and write JSON where told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flash_agent", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long is measured")
    parser.add_argument("--warm-up", type=int, default=WARM_UP_S, help="seconds before it")
    parser.add_argument("--case", choices=CASES, action="append", help="only this commit interval (default: all)")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("flash_agent mounts loop devices, which needs root. Try: sudo", file=sys.stderr)
        return 1
    try:
        columns = recorded()
    except NoData as error:
        print(error, file=sys.stderr)
        return 1
    told = {"seconds": options.seconds, "warm_up": options.warm_up}
    method = METHOD.format(columns=COLUMNS, calibration=CALIBRATION_ROWS, **told)
    report = Report("flash_agent", method, ("numpy", "pcodec", "onnxruntime", "grpcio"))
    with ExitStack() as stack:
        ram = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", prefix="flash-")))
        boxes = []
        for case in options.case or CASES:
            folder = ram / case.replace(" ", "")
            folder.mkdir()
            box = Box(case, folder, *stack.enter_context(ext4()))
            write_rows(folder / "rows.csv", columns)
            config = box.configure(stack.enter_context(cloud(folder)), columns)
            stack.enter_context(process("edge_agent", "run", "-c", str(config)))
            boxes.append(box)
        for box in boxes:
            box.wait()
        time.sleep(options.warm_up)
        before = [box.look() for box in boxes]
        time.sleep(options.seconds)
        for box, then in zip(boxes, before):
            written, taken, commits = (now - at_first for now, at_first in zip(box.look(), then))
            state = box.status()["models"][0]["state"]
            if state != "running":
                raise SystemExit(f"{box.case}: the model is {state}, not running: its state was not what is measured")
            report.add(OURS, box.case, "bytes_per_reading", written / taken, "B")
            report.add(OURS, box.case, "readings", taken, "readings")
            report.add(OURS, box.case, "commits", commits, "count")
    report.finish(options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
