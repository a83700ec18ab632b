"""A real cloud-sync as a process, and what its HTTP API says."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simulator.lab.count import Cycle
from simulator.lab.processes import Process, command, run, wait_until

START_TIMEOUT_S = 60.0
HTTP_TIMEOUT_S = 10.0


class LabCloud:
    """One cloud folder and the service on it. Ports are chosen by the system; HTTP's stays after a restart."""

    def __init__(self, folder: Path, program: str = "cloud-sync", environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.http_port = 0
        self.grpc_port = 0
        self.enrol_port = 0
        self.log = folder.parent / "cloud.log"
        self._program = program
        self._environment = environment
        self._process: Process | None = None
        self._token = ""

    @property
    def url(self) -> str:
        """The web page."""
        return f"http://127.0.0.1:{self.http_port}/"

    def initialise(self, *hosts: str) -> None:
        """Make the folder with its CA; gateways reach it under these names too."""
        names = [word for host in hosts for word in ("--host", host)]
        run("cloud-sync", "init", "--data", str(self.folder), *names)

    def login_link(self) -> str:
        """A page that logs one browser in as admin, once."""
        return run("cloud-sync", "admin-link", "--data", str(self.folder)).strip()

    def token(self, uses: int, host: str = "127.0.0.1", gateway: str = "") -> str:
        """A token with which so many gateways can join, at this name; or one device in the place of `gateway`."""
        address = f"{host}:{self.enrol_port}"
        options = ["--data", str(self.folder), "--uses", str(uses), "--address", address]
        options += ["--gateway", gateway] if gateway else []
        return run("cloud-sync", "token", "create", *options).strip()

    def start(self) -> None:
        """Start the service and wait until it is ready. Raises LabFailed."""
        process = self.launch()
        wait_until(lambda: "cloud-sync ready" in self.log.read_text(), START_TIMEOUT_S, process, "cloud-sync start")
        ready = next(line for line in self.log.read_text().splitlines() if line.startswith("cloud-sync ready"))
        words = dict(word.split("=", 1) for word in ready.split() if "=" in word)
        self.grpc_port = int(words["grpc"].rpartition(":")[2])
        self.enrol_port = int(words["enrol"].rpartition(":")[2])
        self.http_port = int(words["http"].rpartition(":")[2])

    def launch(self) -> Process:
        """Start the service and do not wait for it."""
        self.log.write_bytes(b"")
        arguments = ["serve", "--data", str(self.folder), "--grpc", "127.0.0.1:0"]
        arguments += ["--http", f"127.0.0.1:{self.http_port}", "--log-level", "warning"]
        self._process = Process("cloud-sync", command(self._program, *arguments), self.log, self._environment)
        return self._process

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()

    def signal(self, number: int) -> None:
        """SIGSTOP, SIGCONT."""
        assert self._process is not None
        self._process.signal(number)

    def stop(self) -> None:
        """SIGTERM."""
        if self._process is not None:
            self._process.stop()

    def get(self, path: str, **parameters: Any) -> Any:
        """One JSON answer. Raises OSError while the service is away."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        return json.loads(self.fetch(f"{path}?{query}"))

    def fetch(self, path: str) -> bytes:
        """One answer, as a program that has a token. Raises OSError while the service is away."""
        if not self._token:
            command = ("api-token", "create", "lab", "--ttl", "1d", "--data", str(self.folder))
            self._token = run("cloud-sync", *command).strip()
        request = urllib.request.Request(
            self.url.rstrip("/") + path, headers={"Authorization": f"Bearer {self._token}"}
        )
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
            return bytes(answer.read())

    def stored(self) -> dict[str, int]:
        """Stored cells by gateway."""
        return {gateway["id"]: gateway["stored"] for gateway in self.get("/v1/gateways")["gateways"]}

    def alarms(self) -> list[dict[str, Any]]:
        """Every alarm of every gateway, as `/v1/alarms` tells them."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self.get("/v1/alarms", page_token=token)
            found += page["alarms"]
            token = page["next_page_token"]
            if not token:
                return found

    def cycles(self, gateway: str, sensor: str, channels: Mapping[str, float]) -> list[Cycle]:
        """Every cycle of a sensor that the query API returns, in order of time; `channels` gives each one's den.

        A cycle is the rows of all channels at one instant, as raw values; two rows of each make two cycles. Where a
        channel lacks a row, the cycle stands with what it has, and fits no cycle of the sensor.
        """
        names = [f"{sensor}/{channel}" for channel in channels]
        columns: dict[str, list[tuple[int, float]]] = {name: [] for name in names}
        token = ""
        while True:
            page = self.get("/v1/query", gateway=gateway, series=names, start="-1d", time_unit="us", page_token=token)
            for series in page["series"]:
                rows = zip(series["times"], series["values"])
                columns[series["name"]] += [(at, value) for at, value in rows if value is not None]
            token = page["next_page_token"]
            if not token:
                break
        instants: dict[int, list[list[int | float]]] = {}
        for index, (name, den) in enumerate(zip(names, channels.values())):
            for at, value in columns[name]:
                cells = instants.setdefault(at, [[] for _ in names])
                cells[index].append(round(value * den) if den else value)
        cycles = []
        for _, cells in sorted(instants.items()):
            for copy in range(max(len(values) for values in cells)):
                cycles.append(tuple(values[copy] for values in cells if copy < len(values)))
        return cycles

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Look every 0.1 s, through a service that is away for a while; False when the time is over."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                if condition():
                    return True
            time.sleep(0.1)
        return False
