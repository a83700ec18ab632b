"""What the steps share: two versions of the package, a machine, a sensor and a cloud; and what may be lost so far."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.system.package.machine import NEWCOMER, Machine, make_base
from tests.system.package.plant import QUICK, Plant, build

OLD, NEW = "0.1.0", "0.1.1"
PER_KILL = 1  # cycles in flight when a process is killed
PER_POWER_CUT = 25  # a commit interval of 1 s at 10 cycles a second, and a late commit on a busy machine


class Bench:
    """The steps of the modules here are its life, in order; each finds what the one before left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with ThreadPoolExecutor() as pool:
            builds = [pool.submit(build, folder, "edge-agent/amd64", version) for version in (OLD, NEW)]
            self.base = make_base(folder)
            self.old, self.new = (each.result() for each in builds)
        (folder / "machine").mkdir()
        with ExitStack() as stack:
            self.plant = Plant(folder / "plant")
            stack.callback(self.plant.close)
            self.machine = Machine(self.base, folder / "machine", "tgdeb", [f"{self.plant.hardware}:/run/simhw"])
            stack.callback(self.machine.close)
            self._furnish()
            self._ends = stack.pop_all()
        self.lost_max = 0

    def _furnish(self) -> None:
        self.plant.attach(self.machine)
        self.plant.connect(self.machine)
        shutil.copy(self.old, self.machine.root / "home" / NEWCOMER)
        for package in (self.old, self.new):
            shutil.copy(package, self.machine.root / "root")

    def status(self) -> dict[str, Any]:
        """`edge-agent status --json`; empty while no agent answers."""
        done = self.machine.run("edge-agent status --json", check=False)
        return json.loads(done.stdout) if done.stdout else {}

    def is_healthy(self, sensors: int = 1) -> bool:
        """Whether the agent says so and its sensors answer."""
        told = self.status()
        return told.get("health") == "healthy" and [each["state"] for each in told["sensors"]] == ["ok"] * sensors

    def is_connected(self) -> bool:
        """Whether the agent has a connection to the cloud."""
        return bool(self.status().get("sync", {}).get("connected"))

    def main_pid(self) -> str:
        """Of the service; 0 while it does not run."""
        return self.machine.run("systemctl show --property MainPID --value edge-agent").stdout.strip()

    def quicken(self) -> None:
        """Ten cycles a second and a commit each second from now on, so that the steps need not wait."""
        self.machine.write("/etc/edge-agent/edge-agent.toml", QUICK)
        self.machine.run("systemctl restart edge-agent")
        self.machine.wait(self.is_healthy, "a healthy agent")

    def restarted_after(self, before: str) -> None:
        """systemd has started another process of the service."""
        self.machine.wait(lambda: self.main_pid() not in ("0", before), "a new process")

    def cycle_passes(self) -> None:
        """The sensor gives two more cycles."""
        before = len(self.plant.given())
        self.machine.wait(lambda: len(self.plant.given()) >= before + 2, "a further cycle of the sensor")

    def settle(self) -> None:
        """What was given up to now is in the cloud, once, but for what kills and cuts may have cost."""
        given = self.plant.given()
        self.cycle_passes()
        lost = self.plant.settle(given, self.machine, self.lost_max)
        print(f"{len(given)} cycles given, {len(given) - lost} stored, once each; {self.lost_max} may be lost")

    def close(self) -> None:
        """Take everything away."""
        self._ends.close()
