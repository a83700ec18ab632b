"""Processes of the lab: their output goes to a log file, and none of them outlives who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from simulator.tied_child import tied

ENTRY_POINTS = {
    "edge-agent": "edge_agent.__main__",
    "cloud-sync": "cloud_sync.cli",
    "edge-ota": "cloud_sync.ota_cli",
    "edge-sim": "simulator.cli",
    "agent-on-card": "simulator.lab.agent_on_card",
    "cloud-in-weather": "simulator.lab.cloud_in_weather",
}
LOG_LINES_SHOWN = 15


class LabFailed(Exception):
    """A part of the lab did not do what it must; the message holds the end of its log."""


def command(name: str, *arguments: str) -> list[str]:
    """One of our commands, under the Python that runs now, whether or not its script is on the PATH."""
    return [sys.executable, "-c", f"from {ENTRY_POINTS[name]} import main; main()", *arguments]


class Process:
    """One process. It gets SIGKILL when its starter ends, however that ends."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                tied(arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # a terminal's Ctrl-C is for the starter, which ends them in order
            )

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to it, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout_s: float = 15.0) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def failed(self, what: str) -> LabFailed:
        """An error that shows the end of the log."""
        state = "runs" if self.exit_code is None else f"ended with exit code {self.exit_code}"
        return LabFailed("\n".join([f"{what}. {self.name} {state}; its log ends:", *log_end(self.log)]))


def log_end(log: Path) -> list[str]:
    """The last lines, indented."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return [f"  {line}" for line in lines[-LOG_LINES_SHOWN:]]


def run(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Run one of our commands to its end. Raises LabFailed with what it said."""
    done = subprocess.run(
        command(name, *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode:
        raise LabFailed(f"{name} {' '.join(arguments)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def wait_until(condition: Callable[[], bool], timeout_s: float, process: Process, what: str) -> None:
    """Look every 50 ms. Raises LabFailed when the process ends first or the time is over."""
    end = time.monotonic() + timeout_s
    while not condition():
        if process.exit_code is not None:
            raise process.failed(f"{what} failed")
        if time.monotonic() > end:
            raise process.failed(f"{what}: waited {timeout_s:.0f} s in vain")
        time.sleep(0.05)
