"""A real edge-agent as a process, with simulated sensors, behind a network that can be broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edge_agent.asking import RequestRefused, ask
from edge_agent.errors import NotRunning, StateUnusable
from edge_agent.outbox.journal import Journal
from edge_agent.outbox.opening import JOURNAL
from simulator import control
from simulator.lab.count import Count, Cycle, count
from simulator.lab.processes import LabFailed, Process, command, run, wait_until
from simulator.parts import Part
from wire.reading import Tick

START_TIMEOUT_S = 60.0
BME280_CHANNELS = {"temperature": 100, "pressure": 256, "humidity": 1024}  # den of each: value * den is raw
REPLAY_CHANNELS = {"row": 1, "value": 0}  # den 0: a float, kept as it is


class LabSensors(Protocol):
    """Sensors that are served by this process, and know what they gave out."""

    channels: Mapping[str, Mapping[str, float]]  # by sensor; den of each channel

    @property
    def kinds(self) -> str:
        """For the screen."""
        ...

    def configuration(self) -> str:
        """Tables of edge-agent.toml."""
        ...

    def open(self) -> None:
        """Before the agent starts."""
        ...

    def begin(self) -> None:
        """Give out values: the agent listens now."""
        ...

    def given_out(self) -> dict[str, list[Cycle]]:
        """Every cycle, by sensor."""
        ...

    def counted(self, sensor: str, given: Sequence[Cycle], journalled: Collection[Cycle]) -> list[Cycle]:
        """Of what it gave out, the cycles that the agent had to take."""
        ...

    def close(self) -> None:
        """The end."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a gateway has: parts on I2C buses by sensor id, or one file to replay, or sensors of another kind."""

    name: str
    parts: Mapping[str, Part] = field(default_factory=dict)
    replay: Path | None = None
    sensors: Callable[[Path, int], LabSensors] | None = None
    interval: str = "20ms"
    commit_interval: str = "1s"
    batch: str = "2s"
    transport: str = "seccomp"


class LabGateway:
    """One gateway: its folder, its process, and what its journal was seen to hold."""

    def __init__(self, plan: Plan, folder: Path, seed: int) -> None:
        self.plan = plan
        self.folder = folder
        self._seed = seed
        self._control = folder / "bench"
        self._given_out = folder / "given-out"
        self.log = folder / "agent.log"
        self._process: Process | None = None
        self._journalled: set[Cycle] = set()
        self._in_flight: set[Cycle] = set()
        folder.mkdir(parents=True)
        self.sensors = plan.sensors(folder, seed) if plan.sensors is not None else None

    @property
    def kinds(self) -> str:
        """For the screen: what is connected."""
        if self.sensors is not None:
            return self.sensors.kinds
        return f"{len(self.plan.parts)} x BME280" if self.plan.parts else "CSV replay"

    @property
    def channels(self) -> Mapping[str, Mapping[str, float]]:
        """By sensor, the den of each channel; 0 for a float that is kept as it is."""
        if self.sensors is not None:
            return self.sensors.channels
        return dict.fromkeys(self.plan.parts, BME280_CHANNELS) or {"machine": REPLAY_CHANNELS}

    def configure(self, cloud_port: int) -> None:
        """Write edge-agent.toml. The cloud is reached through a network that leads to its port."""
        text = _CONFIG.format(plan=self.plan, port=cloud_port)
        for bus in sorted({part.bus for part in self.plan.parts.values()}):
            text += f'[bus.i2c-{bus}]\nkind = "i2c"\ndevice = "{self._device(bus)}"\n\n'
        for sensor, part in self.plan.parts.items():
            text += f'[[sensor]]\nid = "{sensor}"\ndriver = "bme280"\nbus = "i2c-{part.bus}"\n'
            text += f"address = 0x{part.address:02x}\n\n"
        if self.plan.replay is not None:
            text += f'[[sensor]]\nid = "machine"\ndriver = "csv-replay"\npath = "{self.plan.replay}"\nloop = true\n'
            text += 'columns = [{ name = "row", unit = "count", resolution = 1 }, { name = "value", unit = "/" }]\n'
        if self.sensors is not None:
            text += self.sensors.configuration()
        (self.folder / "edge-agent.toml").write_text(text, encoding="utf-8")

    def join(self, token: str) -> None:
        """Become a gateway of the lab's cloud. Raises LabFailed."""
        run("edge-agent", "join", token, "--name", self.plan.name, "-c", str(self.folder / "edge-agent.toml"))

    def start(self) -> None:
        """Start the agent and wait until it answers. Raises LabFailed."""
        if self.sensors is not None:
            self.sensors.open()
        self.launch()
        wait_until(lambda: self.status() is not None, START_TIMEOUT_S, self._running(), "edge-agent start")
        if self.sensors is not None:
            wait_until(self._brokers_are_there, START_TIMEOUT_S, self._running(), "broker of the agent")
            self.sensors.begin()

    def launch(self) -> None:
        """Start the agent, on a bench if it has parts, and do not wait for it. Raises LabFailed."""
        if self._process is not None and self.plan.parts:
            control.ask(self._control, "start")  # the bench has lived on
            return
        self._process = Process(self.plan.name, self._command(), self.log)
        if self.plan.parts:
            wait_until(self._control.exists, START_TIMEOUT_S, self._process, "edge-sim bus start")

    def kill(self) -> None:
        """SIGKILL the agent, then look at what its journal holds and what was in flight: the last cycle at most."""
        assert self._process is not None
        if self.plan.parts:
            control.ask(self._control, "kill")
        else:
            self._process.kill()
        self._look_at_journal()
        for cycles in self.given_out().values():
            self._in_flight.update(cycle for cycle in cycles[-1:] if cycle not in self._journalled)

    def wait_until_watched(self) -> None:
        """Raises LabFailed when a model does not get so far."""
        wait_until(lambda: self.is_watched, START_TIMEOUT_S, self._running(), "calibration of the models")

    def stop(self) -> None:
        """End agent and bench in order."""
        if self._process is not None:
            self._process.stop()
        if self.sensors is not None:
            self.sensors.close()

    def status(self) -> dict[str, Any] | None:
        """What `edge-agent status --json` says; None while nobody answers."""
        try:
            document: dict[str, Any] = ask(self.folder / "run", {"op": "status"})
        except (NotRunning, RequestRefused):
            return None
        return document

    @property
    def is_watched(self) -> bool:
        """Whether every model of the agent has calibrated and runs."""
        status = self.status()
        return status is not None and all(model["state"] == "running" for model in status["models"])

    def given_out(self) -> dict[str, list[Cycle]]:
        """Every cycle that the simulated parts have handed out, by sensor: the simulator's own count."""
        if self.sensors is not None:
            return self.sensors.given_out()
        given: dict[str, list[Cycle]] = {sensor: [] for sensor in self.plan.parts}
        sensors = {part.name: sensor for sensor, part in self.plan.parts.items()}
        if self._given_out.exists():
            for line in self._given_out.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                given[sensors[entry["part"]]].append(tuple(entry["raw"]))
        return given

    def take_stock(self) -> Stock:
        """What was given and journalled up to now; `Stock.count` compares it with a later look at the cloud."""
        given = self.given_out()
        # What was handed out an instant ago reaches the journal within a cycle: look a little later.
        wait_until(self._cycle_passed(), START_TIMEOUT_S, self._running(), "a further cycle")
        self._look_at_journal()
        if self.plan.replay is not None:
            given = {"machine": self._replayed()}
        if self.sensors is not None:
            for sensor, cycles in given.items():
                given[sensor] = self.sensors.counted(sensor, cycles, self._journalled)
        for sensor, cycles in given.items():
            if self._journalled.isdisjoint(cycles):
                raise LabFailed(f"{self.plan.name}: nothing that {sensor} gave out is in the journal")
        return Stock(self, given)

    def file_rows(self) -> list[Cycle]:
        """Every row of the replayed file."""
        assert self.plan.replay is not None
        rows = self.plan.replay.read_text(encoding="utf-8").splitlines()[1:]
        return [(int(row), float(value)) for row, value in (line.split(",") for line in rows)]

    def _replayed(self) -> list[Cycle]:
        """Rows up to the last one journalled: this gateway is never killed, so all of them were taken."""
        last = max((int(cycle[0]) for cycle in self._journalled), default=-1)
        return self.file_rows()[: last + 1]

    def _cycle_passed(self) -> Callable[[], bool]:
        """A condition: every channel has two more values than now."""
        before = self._values()
        return lambda: len(before) > 0 and all(self._values().get(name, 0) >= n + 2 for name, n in before.items())

    def _brokers_are_there(self) -> bool:
        status = self.status()
        return status is not None and all(broker["state"] == "ok" for broker in status["brokers"])

    def _values(self) -> dict[str, int]:
        status = self.status()
        if status is None:
            return {}
        return {
            f"{sensor['id']}/{channel['name']}": channel["values"]
            for sensor in status["sensors"]
            for channel in sensor["channels"]
        }

    def _running(self) -> Process:
        if self._process is None:
            raise LabFailed(f"{self.plan.name} was not started")
        return self._process

    def _look_at_journal(self) -> None:
        path = self.folder / "run" / JOURNAL
        head = Journal.head(path)
        if head is None:
            return
        try:
            for tick in Journal.scan(path, head.outbox, 0):
                # Only BME280s are sampled several together.
                width = len(BME280_CHANNELS) if self.plan.parts else len(tick.raw)
                self._journalled.update(cycles_of(tick, width))
        except StateUnusable as error:
            raise LabFailed(str(error)) from error

    def journalled(self) -> set[Cycle]:
        """All cycles that looks at the journal have found."""
        return self._journalled

    def in_flight(self) -> set[Cycle]:
        """Cycles handed out and not journalled when the agent was killed."""
        return self._in_flight

    def _device(self, bus: int) -> str:
        return f"unix:{self.folder}/i2c-{bus}" if self.plan.transport == "unix" else f"/dev/i2c-{bus}"

    def _command(self) -> Sequence[str]:
        agent = command("edge-agent", "run", "-c", str(self.folder / "edge-agent.toml"))
        if not self.plan.parts:
            return agent
        buses: dict[int, list[str]] = {}
        for part in self.plan.parts.values():
            buses.setdefault(part.bus, []).append(f"{part.chip}@0x{part.address:02x}")
        options = [item for bus, parts in buses.items() for item in ("--i2c", f"{bus}={','.join(parts)}")]
        options += ["--transport", self.plan.transport, "--seed", str(self._seed), "--socket-dir", str(self.folder)]
        options += ["--log", str(self._given_out), "--control", str(self._control)]
        return command("edge-sim", "bus", *options, "--", *agent)


@dataclass(frozen=True)
class Stock:
    """What a gateway had given and taken at one moment."""

    gateway: LabGateway
    given: Mapping[str, Sequence[Cycle]]

    @property
    def readings(self) -> int:
        """How many readings must be in the cloud for the count to be worth a look."""
        journalled = self.gateway.journalled()
        return sum(len(cycle) for cycles in self.given.values() for cycle in cycles if cycle in journalled)

    def count(self, stored: Mapping[str, Sequence[Cycle]]) -> Count:
        """Against what the cloud returns now, by sensor."""
        if self.gateway.plan.replay is not None:
            later: Mapping[str, Sequence[Cycle]] = {"machine": self.gateway.file_rows()}
        else:
            later = self.gateway.given_out()
        total = Count()
        for sensor, given in self.given.items():
            total += count(
                given, later[sensor], self.gateway.journalled(), self.gateway.in_flight(), stored.get(sensor, ())
            )
        return total


def cycles_of(tick: Tick, width: int) -> list[Cycle]:
    """The sensors' cycles in one tick: `width` channels each, one after another; gaps are left out."""
    cycles = []
    for first in range(0, len(tick.raw), width):
        if tick.states is None or not any(tick.states[first : first + width]):
            cycles.append(tuple(tick.raw[first : first + width]))
    return cycles


_CONFIG = """\
[agent]
name = "{plan.name}"
interval = "{plan.interval}"
state_dir = "state"
runtime_dir = "run"
log_level = "info"

[cloud]
url = "https://127.0.0.1:{port}"
batch = "{plan.batch}"
backoff_min = "100ms"
backoff_max = "1s"

[buffer]
commit_interval = "{plan.commit_interval}"

"""
