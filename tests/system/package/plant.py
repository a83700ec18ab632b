"""All round the machine that the package is installed on: packages, a simulated sensor, a cloud and a bad network."""

from __future__ import annotations

import asyncio
import json
import re
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
from tests.system.package.machine import GUEST_NAME, HOST, HOST_NAME, PRELOAD, Machine

ROOT = Path(__file__).resolve().parents[3]
BUILD = [sys.executable, str(ROOT / "packaging/deb/build.py")]
SENSOR = "bme280-1-76"  # as `edge-agent detect` calls it
DELAY_S = 0.05  # each way
LOSS_PERCENT = 3  # of packets, each way

DROP_IN = f"""\
[Service]
Environment=LD_PRELOAD={PRELOAD} UMOCKDEV_DIR=/run/simhw
ReadWritePaths=/run/simhw
WatchdogSec=5
RestartSec=1
"""

# The simulated bus, for commands that are typed; the service has it by the drop-in.
WITH_HARDWARE = f"""\
#!/bin/sh
LD_PRELOAD={PRELOAD} UMOCKDEV_DIR=/run/simhw exec /usr/bin/edge-agent "$@"
"""

# What a Raspberry Pi OS has and a Debian lacks; the simulated bus is there already.
RASPI_CONFIG = """\
#!/bin/sh
[ "$*" = "nonint do_i2c 0" ] && touch /run/i2c-is-on
"""

QUICK = """\
[agent]
interval = "100ms"

[cloud]
batch = "1s"
backoff_min = "100ms"
backoff_max = "1s"

[buffer]
commit_interval = "1s"
max_size = "64 MB"
"""


def build(out: Path, target: str, version: str) -> Path:
    """One package, quickly packed."""
    subprocess.run([*BUILD, "--out", str(out), "--only", target, "--version", version, "--level", "1"], check=True)
    name, _, arch = target.partition("/")
    return out / f"{name}_{version}_{arch}.deb"


class Network:
    """A TCP proxy on the host's end of the cable, at the target's own port, on a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._proxy = Proxy("127.0.0.1", target_port, DELAY_S)
        asyncio.run_coroutine_threadsafe(self._proxy.start(target_port, HOST), self._loop).result(10)

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
    drop = f"numgen random mod 100 < {LOSS_PERCENT} counter drop"
    rules = f"""
    table inet weather {{
        chain in {{ type filter hook input priority 0; iifname "eth0" {drop}; }}
        chain out {{ type filter hook output priority 0; oifname "eth0" {drop}; }}
    }}"""
    subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=rules, text=True, check=True)


def lost_packets(namespace: str) -> int:
    """How many have been dropped so far."""
    command = ["ip", "netns", "exec", namespace, "nft", "list", "table", "inet", "weather"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return sum(int(count) for count in re.findall(r"counter packets (\d+)", done.stdout))


class Plant:
    """Sensor, cloud and network of one machine. `close` ends them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._given = folder / "given-out"
        self._bench = self._start_sensor(folder)
        self.hardware = Path((folder / "hardware").read_text().strip())
        self._open_hardware()
        self.cloud = LabCloud(folder / "cloud")
        self.cloud.initialise(HOST_NAME)
        self.cloud.start()
        self.network: Network | None = None
        self.enrolment: Network | None = None

    def connect(self, machine: Machine) -> None:
        """Lead the machine's cable to the cloud, through a bad network."""
        lose_packets(machine.name)
        self.network = Network(self.cloud.grpc_port)
        self.enrolment = Network(self.cloud.enrol_port)

    def attach(self, machine: Machine) -> None:
        """Let the machine's service and commands see the simulated bus."""
        machine.write("/etc/systemd/system/edge-agent.service.d/simulated.conf", DROP_IN)
        machine.write("/usr/local/bin/edge-agent", WITH_HARDWARE, 0o755)
        machine.write("/usr/local/bin/raspi-config", RASPI_CONFIG, 0o755)

    def token(self, gateway: str = "") -> str:
        """With which one gateway can join, over the bad network; or one device in the place of `gateway`."""
        return self.cloud.token(1, HOST_NAME, gateway)

    def given(self) -> list[Cycle]:
        """Every cycle that the simulated part has handed out."""
        lines = self._given.read_text().splitlines() if self._given.exists() else []
        return [tuple(json.loads(line)["raw"]) for line in lines]

    def stored(self) -> Counter[Cycle]:
        """Every cycle that the cloud returns, and how often."""
        return Counter(self.cloud.cycles(GUEST_NAME, SENSOR, BME280_CHANNELS))

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
