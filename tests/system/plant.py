"""All round the machine that the package is installed on: packages, a simulated sensor, a cloud and a bad network."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from simulator.lab.cloud import LabCloud
from simulator.lab.count import Cycle
from simulator.lab.gateway import BME280_CHANNELS
from simulator.lab.processes import Process, command
from simulator.network import Mode, Proxy
from tests.system.machine import HOST, PRELOAD, Machine

ROOT = Path(__file__).resolve().parents[2]
BUILD = [sys.executable, str(ROOT / "packaging/deb/build.py")]
GATEWAY = "gw-deb"
SENSOR = "climate"
DELAY_S = 0.05  # each way
LOSS_PERCENT = 3  # of packets, each way

DROP_IN = f"""\
[Service]
Environment=LD_PRELOAD={PRELOAD} UMOCKDEV_DIR=/run/simhw
ReadWritePaths=/run/simhw
WatchdogSec=5
RestartSec=1
"""

CONFIG = f"""\
[agent]
name = "{GATEWAY}"
interval = "100ms"

[cloud]
url = "https://{HOST}:PORT"
batch = "1s"
backoff_min = "100ms"
backoff_max = "1s"

[buffer]
commit_interval = "1s"
"""

SENSORS = f"""\
[bus.i2c-1]
kind = "i2c"

[[sensor]]
id = "{SENSOR}"
driver = "bme280"
bus = "i2c-1"
"""


def build(out: Path, target: str, version: str) -> Path:
    """One package, quickly packed."""
    subprocess.run([*BUILD, "--out", str(out), "--only", target, "--version", version, "--level", "1"], check=True)
    name, _, arch = target.partition("/")
    return out / f"{name}_{version}_{arch}.deb"


class Network:
    """A TCP proxy on the host's end of the cable, on a thread of its own; and packets that are lost."""

    def __init__(self, target_port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._proxy = Proxy("127.0.0.1", target_port, DELAY_S)
        asyncio.run_coroutine_threadsafe(self._proxy.start(host=HOST), self._loop).result(10)

    @property
    def port(self) -> int:
        """Where gateways connect."""
        return self._proxy.port

    def set(self, mode: Mode) -> None:
        """Break or mend it."""
        self._loop.call_soon_threadsafe(self._proxy.set, mode)

    def close(self) -> None:
        """No more connections."""
        asyncio.run_coroutine_threadsafe(self._proxy.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def lose_packets(namespace: str) -> None:
    """A share of the packets of both directions is dropped, at random."""
    drop = f"numgen random mod 100 < {LOSS_PERCENT} drop"
    rules = f"""
    table inet weather {{
        chain in {{ type filter hook input priority 0; iifname "eth0" {drop}; }}
        chain out {{ type filter hook output priority 0; oifname "eth0" {drop}; }}
    }}"""
    subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=rules, text=True, check=True)


class Plant:
    """Sensor, cloud and network of one machine. `close` ends them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._given = folder / "given-out"
        self._bench = self._start_sensor(folder)
        self.hardware = Path((folder / "hardware").read_text().strip())
        self._open_hardware()
        self.cloud = LabCloud(folder / "cloud")
        self.cloud.initialise()
        self.cloud.start()
        self.network: Network | None = None
        self.enrolment: Network | None = None

    def connect(self, machine: Machine) -> None:
        """Lead the machine's cable to the cloud, through a bad network."""
        lose_packets(machine.name)
        self.network = Network(self.cloud.grpc_port)
        self.enrolment = Network(self.cloud.enrol_port)

    def token(self) -> str:
        """With which one gateway can join, over the bad network."""
        assert self.enrolment is not None
        return self.cloud.token(1).rpartition("@")[0] + f"@{HOST}:{self.enrolment.port}"

    def configure(self, machine: Machine) -> None:
        """A sensor, and where the cloud is; the agent does not read them before its next start."""
        assert self.network is not None
        machine.write("/etc/systemd/system/edge-agent.service.d/simulated.conf", DROP_IN)
        machine.write("/etc/edge-agent/edge-agent.toml", CONFIG.replace("PORT", str(self.network.port)))
        machine.write("/etc/edge-agent/conf.d/climate.toml", SENSORS)
        machine.run("systemctl daemon-reload && systemctl restart edge-agent")

    def given(self) -> list[Cycle]:
        """Every cycle that the simulated part has handed out."""
        lines = self._given.read_text().splitlines() if self._given.exists() else []
        return [tuple(json.loads(line)["raw"]) for line in lines]

    def stored(self) -> Counter[Cycle]:
        """Every cycle that the cloud returns, and how often."""
        return Counter(self.cloud.cycles(GATEWAY, SENSOR, BME280_CHANNELS))

    def settle(self, given: Sequence[Cycle], machine: Machine, lost_max: int) -> int:
        """Wait until the cloud has what was given, but for what may be lost; how many cycles it lacks.

        Raises AssertionError when more are missing for too long, and at once for what is doubled or was never given.
        """
        missing: set[Cycle] = set()

        def complete() -> bool:
            nonlocal missing
            stored = self.stored()
            assert max(stored.values(), default=1) == 1, "a cycle is stored twice"
            assert stored.keys() <= set(self.given()), "the cloud has what the sensor never gave"
            missing = set(given) - stored.keys()
            return len(missing) <= lost_max

        machine.wait(complete, f"{len(given)} cycles in the cloud")
        return len(missing)

    def close(self) -> None:
        """End everything."""
        for network in (self.network, self.enrolment):
            if network is not None:
                network.close()
        self.cloud.stop()
        self._bench.stop()

    def _start_sensor(self, folder: Path) -> Process:
        hold = f"echo $UMOCKDEV_DIR > {folder}/hardware; unset LD_PRELOAD; exec sleep infinity"
        options = ["--transport", "umockdev", "--i2c", "1=bme280@0x76", "--log", str(self._given)]
        bench = Process("bench", command("edge-sim", "bus", *options, "--", "sh", "-c", hold), folder / "bench.log")
        end_s = time.monotonic() + 30
        while not (folder / "hardware").exists() or not (folder / "hardware").read_text().strip():
            if bench.exit_code is not None or time.monotonic() > end_s:
                raise bench.failed("edge-sim bus did not start")
            time.sleep(0.05)
        return bench

    def _open_hardware(self) -> None:
        """The node is everybody's: which group owns it differs between host and machine."""
        self.hardware.chmod(0o755)
        for path in self.hardware.rglob("*"):
            if path.is_socket():
                path.chmod(0o666)
        (self.hardware / "dev/i2c-1").chmod(0o666)
