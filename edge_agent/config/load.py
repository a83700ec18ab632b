"""From files to one `Config`: the main file, then `conf.d/*.toml` beside it, read once and checked whole."""

from __future__ import annotations

import hashlib
import re
import socket
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from edge_agent.asking import FILE_BYTES_MAX, files_of
from edge_agent.card import may_pass
from edge_agent.config.check import Entry, Place, Problems, Table, check_table, show, table_of
from edge_agent.config.detect import ModelChecker, ModelPlan
from edge_agent.config.drivers import Drivers
from edge_agent.config.lines import key_lines
from edge_agent.config.model import (
    BUSES,
    AgentSection,
    BufferSection,
    BusSection,
    CloudSection,
    Config,
    I2cSection,
    Section,
    SensorPlan,
)
from edge_agent.config.sensors import SensorChecker
from edge_agent.config.values import nearest
from edge_agent.errors import AgentError, ConfigInvalid, ConfigUnreadable

if TYPE_CHECKING:
    from edge_agent.config.mqtt import MqttSection
    from edge_agent.enrol.identity import Identity

SINGLE = {"agent": AgentSection, "cloud": CloudSection, "buffer": BufferSection}
NAMED = ("bus", "mqtt")
LISTED = ("sensor", "model")
TOP = (*SINGLE, *NAMED, *LISTED)
LOCAL = ("cloud",)  # not for the cloud to assign: where it is, and the places on this machine
LOCAL_KEYS = (("agent", "state_dir"), ("agent", "runtime_dir"), ("agent", "name"))

S = TypeVar("S", bound=Section)


def load(file: Path, drivers: Drivers | None = None, assigned: Path | None = None) -> Config:
    """Read and check. `assigned`: a configuration from the cloud to try instead of the one that was joined with.

    Raises ConfigInvalid with every problem, one line each; ConfigUnreadable when the card is one of them.
    """
    problems = Problems()
    file = file.absolute()
    loader = _Loader(file, drivers or Drivers(), problems, assigned)
    try:
        config = loader.load()
    except OSError as error:  # of a folder
        raise ConfigUnreadable([f"{error.filename or file}: cannot be read: {error.strerror or error}"]) from error
    if config is None or len(problems):
        raise (ConfigUnreadable if loader.is_unreadable else ConfigInvalid)(problems.lines())
    return config


def labels_of(identity: Identity | None) -> dict[str, str]:
    """What the cloud gave the gateway when it joined."""
    return {} if identity is None else identity.facts.labels


class _Loader:
    def __init__(self, file: Path, drivers: Drivers, problems: Problems, assigned: Path | None) -> None:
        self._file = file
        self._assigned = assigned
        self._is_assigned = False  # what is read now comes from the cloud
        self._drivers = drivers
        self._problems = problems
        self.is_unreadable = False  # the card does not give a file, and may at the next start
        self._singles: dict[str, Table] = {}
        self._places: dict[str, Place] = {}
        self._named: dict[str, dict[str, Entry]] = {name: {} for name in NAMED}
        self._listed: dict[str, list[Entry]] = {name: [] for name in LISTED}
        self._hash = hashlib.blake2b(digest_size=8)

    def load(self) -> Config | None:
        for path in files_of(self._file):
            self._read(path)
        identity = self._joined()
        agent = self._section("agent", AgentSection)
        cloud = self._cloud(identity)
        buffer = self._section("buffer", BufferSection)
        buses = {name: self._bus(name, entry) for name, entry in self._named["bus"].items()}
        brokers = {name: self._broker(name, entry) for name, entry in self._named["mqtt"].items()}
        checker = SensorChecker(agent or AgentSection(), buses, self._drivers, self._problems)
        said = self._listed["sensor"]
        sensors = [checker.check(self._table(entry, "sensor"), entry.place) for entry in said]
        name = (agent.name if agent else "") or (identity.facts.gateway if identity else socket.gethostname())
        listeners = [(plan, entry.place) for plan, entry in zip(sensors, said) if plan and plan.is_mqtt]
        if listeners:
            from edge_agent.config.mqtt import check_brokers

            check_brokers(listeners, brokers, name, self._problems)
        plans = tuple(sensor for sensor in sensors if isinstance(sensor, SensorPlan))
        models = self._models(plans)
        if agent is None or buffer is None or len(self._problems):
            return None
        return Config(
            file=self._file,
            version=self._hash.hexdigest(),
            agent=msgspec.structs.replace(agent, name=name, labels=labels_of(identity) | agent.labels),
            cloud=cloud,
            identity=identity,
            buffer=buffer,
            buses={name: bus for name, bus in buses.items() if bus is not None},
            brokers={name: broker for name, broker in brokers.items() if broker is not None},
            sensors=plans,
            models=models,
        )

    def _joined(self) -> Identity | None:
        """What a join left in the state directory, and its configuration: what people wrote goes before it."""
        from edge_agent.enrol.identity import identity_of

        said = self._singles.get("agent", {}).get("state_dir")
        told = said is not None and isinstance(said.value, str)
        state_dir = said.place.file.parent / said.value if said and told else Path(AgentSection().state_dir)
        try:
            identity = identity_of(state_dir)
        except AgentError as error:
            self.is_unreadable |= isinstance(error.__cause__, OSError)  # else the file is damaged
            self._problems.add_plain(self._file, 0, str(error))
            return None
        assigned = self._assigned or (identity.assigned if identity is not None else None)
        if assigned is not None and assigned.exists():
            self._is_assigned = True
            self._read(assigned)
        return identity

    def _cloud(self, identity: Identity | None) -> CloudSection | None:
        """[cloud], with what it leaves out from the identity; None where there is nothing to go by."""
        cloud = self._section("cloud", CloudSection)
        if cloud is None:
            return None
        place = self._places.get("cloud", Place(self._file, {}))
        if cloud.backoff_min > cloud.backoff_max:
            self._problems.add(place, "[cloud]", "backoff_min is above backoff_max")
        said = [bool(path) for path in (cloud.ca, cloud.cert, cloud.key)]
        if any(said) and not (all(said) and cloud.url):
            self._problems.add(place, "[cloud]", '"url", "ca", "cert" and "key" go together, or none after a join')
        if any(said) or identity is None:
            return cloud if all(said) else None
        device = str(identity.device)
        return msgspec.structs.replace(
            cloud,
            url=cloud.url or identity.url,
            ca=str(identity.ca),
            cert=device,
            key=device,
            server_name=cloud.server_name or identity.facts.server_name,
        )

    def _read(self, path: Path) -> None:
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                self._problems.add_plain(path, 0, f"{path}: over {FILE_BYTES_MAX} bytes; this is no configuration")
                return
            data = path.read_bytes()
            text = data.decode("utf-8")
        except FileNotFoundError:
            hint = " – make one: edge-agent config init > FILE" if path == self._file else ""
            self._problems.add_plain(path, 0, f"{path}: no such file{hint}")
            return
        except (OSError, UnicodeDecodeError) as error:
            self.is_unreadable |= may_pass(error)
            self._problems.add_plain(path, 0, f"{path}: cannot be read: {error}")
            return
        self._hash.update(data)
        text = text.replace("\r\n", "\n")
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
            line = int(found[1]) if found else text.count("\n") + 1
            what = str(error).split(" (at ")[0]
            self._problems.add_plain(path, line, f"{path.name}:{line}: not TOML: {what}")
            return
        self._gather(values, Place(path, key_lines(text)))

    def _gather(self, values: dict[str, Any], root: Place) -> None:
        for name, value in values.items():
            place = root.at(name)
            if self._is_assigned and name in LOCAL:
                self._problems.add(place, f"[{name}]", "is for people of this machine only; the cloud cannot assign it")
            elif name in SINGLE and isinstance(value, dict):
                self._gather_single(name, value, place)
            elif name in NAMED and isinstance(value, dict):
                for each, said in value.items():
                    self._gather_named(name, each, said, place.at(each))
            elif name in LISTED and isinstance(value, list):
                local = {self._id(entry.value) for entry in self._listed[name]} if self._is_assigned else set()
                for index, said in enumerate(value):
                    if self._id(said) not in local:
                        self._listed[name].append(Entry(said, place.at(index)))
            elif name in TOP:
                shape = f"[[{name}]]" if name in LISTED else f"[{name}.NAME]" if name in NAMED else f"[{name}]"
                self._problems.add(place, name, f"must be a table, written {shape}")
            else:
                self._problems.add(place, f"[{name}]", f'unknown table "{name}"{nearest(name, TOP)}')

    @staticmethod
    def _id(said: object) -> object:
        return said.get("id") if isinstance(said, dict) else None

    def _gather_single(self, name: str, value: dict[str, Any], place: Place) -> None:
        table = self._singles.setdefault(name, {})
        self._places.setdefault(name, place)
        for key, entry in table_of(value, place).items():
            if key in table and self._is_assigned:
                continue
            if self._is_assigned and (name, key) in LOCAL_KEYS:
                self._problems.add(entry.place, f"[{name}]", f"{key} is for people of this machine only")
            elif key in table:
                self._problems.add(entry.place, f"[{name}]", f"{key} is set twice, first at {table[key].place}")
            else:
                table[key] = entry

    def _gather_named(self, kind: str, name: str, said: Any, place: Place) -> None:
        known = self._named[kind]
        if name in known and self._is_assigned:
            return
        if name in known:
            self._problems.add(place, f"[{kind}.{name}]", f"stands twice, first at {known[name].place}")
        else:
            known[name] = Entry(said, place)

    def _section(self, name: str, struct: type[S]) -> S | None:
        place = self._places.get(name, Place(self._file, {}))
        return check_table(struct, self._singles.get(name, {}), place, f"[{name}]", self._problems)

    def _table(self, entry: Entry, name: str) -> Table:
        if isinstance(entry.value, dict):
            return table_of(entry.value, entry.place)
        self._problems.add(entry.place, name, f"must be a table, written [[{name}]]")
        return {}

    def _models(self, sensors: Sequence[SensorPlan]) -> tuple[ModelPlan, ...]:
        ids = [entry.value.get("id") for entry in self._listed["sensor"] if isinstance(entry.value, dict)]
        checker = ModelChecker(sensors, [name for name in ids if isinstance(name, str)], self._problems)
        found = (checker.check(self._table(entry, "model"), entry.place) for entry in self._listed["model"])
        return tuple(plan for plan in found if plan is not None)

    def _bus(self, name: str, entry: Entry) -> BusSection | None:
        where = f"[bus.{name}]"
        if not isinstance(entry.value, dict):
            self._problems.add(entry.place, where, "must be a table")
            return None
        kind = entry.value.get("kind")
        if kind not in BUSES:
            kinds = ", ".join(map(show, BUSES))
            text = f"kind = {show(kind)} is not one of {kinds}{nearest(str(kind), BUSES)}"
            text = text if "kind" in entry.value else f'"kind" is missing: one of {kinds}'
            self._problems.add(entry.place.at("kind"), where, text)
            return None
        bus = check_table(BUSES[kind], table_of(entry.value, entry.place), entry.place, where, self._problems)
        if not isinstance(bus, I2cSection) or bus.device:
            return bus
        if not re.fullmatch(r"i2c-\d+", name):
            self._problems.add(entry.place, where, '"device" is missing: write device = "/dev/i2c-N"')
        return msgspec.structs.replace(bus, device=f"/dev/{name}")

    def _broker(self, name: str, entry: Entry) -> MqttSection | None:
        from edge_agent.config.mqtt import MqttSection, PublishSection

        where = f"[mqtt.{name}]"
        if not isinstance(entry.value, dict):
            self._problems.add(entry.place, where, "must be a table")
            return None
        table = table_of(entry.value, entry.place)
        said = table.pop("publish", None)
        broker = check_table(MqttSection, table, entry.place, where, self._problems)
        if said is None:
            return broker
        where = f"[mqtt.{name}.publish]"
        if not isinstance(said.value, dict):
            self._problems.add(said.place, where, "must be a table")
            return None
        publish = check_table(PublishSection, table_of(said.value, said.place), said.place, where, self._problems)
        return broker if broker is None else msgspec.structs.replace(broker, publish=publish)
