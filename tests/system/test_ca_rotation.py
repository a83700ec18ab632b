"""The CA is replaced under running gateways, with real processes: nobody who comes by is shut out, and who was away all
the time comes back as docs/operating/enrolment.md says."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cloud_sync.data_folder import DataFolder
from edge_agent.asking import RequestRefused, ask
from edge_agent.errors import NotRunning
from simulator.lab.processes import LabFailed, Process, command, run
from wire.clock import SystemClock

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

WAIT_S = 60.0
CONFIG = """\
[agent]
state_dir = "{folder}/state"
runtime_dir = "{folder}/run"
interval = "100ms"

[cloud]
url = "https://127.0.0.1:{port}"
batch = "0s"
backoff_max = "1s"

[buffer]
commit_interval = "500ms"

[[sensor]]
id = "room"
driver = "csv-replay"
path = "{rows}"
loop = true
columns = [{{ name = "value", unit = "/" }}]
"""


class Cloud:
    """`cloud-sync serve` on fixed ports, restarted as an operator does."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "cloud"
        self._log = folder / "cloud.log"
        self.grpc, self._enrol, self._http = free_ports(3)
        self._process: Process | None = None
        run("cloud-sync", "init", "--data", str(self.data))

    def start(self) -> None:
        options = ["--data", str(self.data), "--grpc", f"127.0.0.1:{self.grpc}", "--enrol", f"127.0.0.1:{self._enrol}"]
        options += ["--http", f"127.0.0.1:{self._http}"]
        self._log.write_bytes(b"")
        self._process = Process("cloud-sync", command("cloud-sync", "serve", *options), self._log)
        until(lambda: "cloud-sync ready" in self._log.read_text(), "the cloud is ready")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def step(self, name: str, *options: str) -> str:
        """One step of the replacement, and the restart that it asks for."""
        said = run("cloud-sync", "ca", name, "--data", str(self.data), *options)
        self.stop()
        self.start()
        return said

    def behind(self) -> list[str]:
        shown = json.loads(run("cloud-sync", "ca", "show", "--data", str(self.data), "--json"))
        found: list[str] = shown["behind"]
        return found

    def token(self, *options: str) -> str:
        address = ["--address", f"127.0.0.1:{self._enrol}"]
        return run("cloud-sync", "token", "create", "--data", str(self.data), *address, *options).strip()

    def stored(self, gateway: str) -> int:
        with closing(DataFolder(self.data).open_catalog(SystemClock())) as catalog:
            account = catalog.accounts(gateway).get(gateway)
        return 0 if account is None else account.stored


class Gateway:
    """An agent that replays a recording."""

    def __init__(self, name: str, folder: Path, port: int) -> None:
        self.name = name
        self._folder = folder / name
        self._folder.mkdir()
        rows = self._folder / "rows.csv"
        rows.write_text("time,value\n" + "".join(f"{number},{number}\n" for number in range(1000)))
        self._config = self._folder / "edge-agent.toml"
        self._config.write_text(CONFIG.format(folder=self._folder, rows=rows, port=port))
        self.log = self._folder / "agent.log"
        self._process: Process | None = None

    @property
    def trusted(self) -> int:
        """How many CAs."""
        return (self._folder / "state/identity/ca.pem").read_text().count("BEGIN CERTIFICATE")

    def command(self, name: str, *options: str) -> str:
        return run("edge-agent", name, *options, "-c", str(self._config))

    def join(self, token: str) -> None:
        self.command("join", token, "--name", self.name)

    def start(self) -> None:
        self._process = Process(self.name, command("edge-agent", "run", "-c", str(self._config)), self.log)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
            self._process = None

    def is_connected(self) -> bool:
        try:
            return bool(ask(self._folder / "run", {"op": "status"})["sync"]["connected"])
        except (NotRunning, RequestRefused):
            return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def until(condition: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.1)


def delivers(cloud: Cloud, gateway: Gateway) -> None:
    """Wait for more of it in the cloud."""
    before = cloud.stored(gateway.name)
    until(lambda: cloud.stored(gateway.name) > before, f"{gateway.name} delivers")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Cloud, Gateway, Gateway, Gateway]]:
    cloud = Cloud(tmp_path)
    cloud.start()
    gateways = [Gateway(name, tmp_path, cloud.grpc) for name in ("gw-here", "gw-late", "gw-away")]
    token = cloud.token("--uses", "3")
    for gateway in gateways:
        gateway.join(token)
    yield cloud, gateways[0], gateways[1], gateways[2]
    for gateway in gateways:
        gateway.stop()
    cloud.stop()


def test_a_ca_is_replaced(site: tuple[Cloud, Gateway, Gateway, Gateway]) -> None:
    cloud, here, late, away = site
    here.start()
    away.start()
    delivers(cloud, here)
    delivers(cloud, away)
    away.stop()
    old_token = cloud.token()

    cloud.step("introduce")
    until(lambda: here.trusted == 2, "gw-here has heard of the new CA")
    assert cloud.behind() == ["gw-away", "gw-here", "gw-late"]
    cloud.step("switch")
    delivers(cloud, here)
    here.command("renew")  # by itself it does so within 15 minutes
    late.start()  # slept through both steps, and comes by before the last
    delivers(cloud, late)
    until(lambda: late.trusted == 2, "gw-late has heard of the new CA")
    late.command("renew")
    assert cloud.behind() == ["gw-away"]

    refused = subprocess.run(
        [*command("cloud-sync", "ca", "retire", "--data", str(cloud.data))], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 78, refused
    assert "no certificate of the new CA yet: gw-away." in refused.stderr
    assert "they need a token (cloud-sync token create --gateway ID): gw-away" in cloud.step("retire", "--force")
    for gateway in (here, late):
        until(lambda gateway=gateway: gateway.trusted == 1, f"{gateway.name} trusts the old CA no more")  # type: ignore[misc]
        delivers(cloud, gateway)

    stored = cloud.stored("gw-away")
    away.start()
    until(lambda: "the cloud's certificate is refused" in away.log.read_text(), "gw-away says why")
    assert not away.is_connected()
    away.stop()
    away.command("leave", "--force")
    with pytest.raises(LabFailed, match=r"is not the cloud of this token.*Nothing was sent"):
        away.join(old_token)
    away.join(cloud.token("--gateway", "gw-away"))
    away.start()
    until(lambda: cloud.stored("gw-away") > stored, "gw-away delivers what it had kept")
    audit = run("cloud-sync", "audit", "--data", str(cloud.data))
    assert [word for word in audit.split() if word.startswith("ca.")] == ["ca.retire", "ca.switch", "ca.introduce"]
