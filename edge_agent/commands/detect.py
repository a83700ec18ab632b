"""`edge-agent detect`: which of the parts that drivers know stand on the I2C buses, as configuration to add."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent import exits
from edge_agent.config.drivers import DriverLoadFailed, Drivers
from edge_agent.config.load import load
from edge_agent.config.model import Config, I2cSection
from edge_agent.errors import ConfigInvalid
from hardware.driver import Driver, I2cBus
from hardware.errors import BusDown, DeviceError, DeviceNoAnswer, DeviceTimeout

TIMEOUTS_MAX = 3  # a bus that hangs so often is left alone: each takes as long as the adapter waits


@dataclass(frozen=True, slots=True)
class Found:
    """What stands at one address: the driver that recognised it, the sensor that has it, or neither."""

    address: int
    driver: str = ""
    sensor: str = ""


def scan(bus: I2cBus, drivers: Mapping[str, type[Driver]], taken: Mapping[int, str]) -> list[Found]:
    """Ask each driver at its addresses; only reads. Addresses of configured sensors are not touched.

    Raises BusDown when the bus is gone, DeviceTimeout when it hangs.
    """
    found: dict[int, Found] = {address: Found(address, sensor=sensor) for address, sensor in taken.items()}
    timeouts = 0
    for name, driver in drivers.items():
        for address in driver.addresses:
            if address in found and (found[address].driver or found[address].sensor):
                continue
            try:
                if driver.recognise(bus, address):
                    found[address] = Found(address, driver=name)
                else:
                    found.setdefault(address, Found(address))
            except BusDown:
                raise
            except DeviceTimeout:
                timeouts += 1
                if timeouts >= TIMEOUTS_MAX:
                    raise
            except DeviceNoAnswer:
                continue
            except DeviceError:
                found.setdefault(address, Found(address))
    return [found[address] for address in sorted(found)]


def detect(wanted: Sequence[str], file: Path, as_json: bool) -> int:
    """TOML to add on stdout, what was found on stderr. Exit 0 when every bus could be asked."""
    config = _config(file)
    drivers = _drivers()
    code = exits.OK
    documents = []
    texts = []
    for name, device in _buses(wanted, config):
        taken = _taken(config, name)
        try:
            found = _scan_device(device, drivers, taken)
        except DeviceError as error:
            print(f"edge-agent: {error}", file=sys.stderr)
            code = exits.FAILED
            continue
        documents.append({"bus": name, "device": device, "parts": [_document(each) for each in found]})
        _tell(name, found)
        new = [each for each in found if each.driver]
        is_known = config is not None and name in config.buses
        texts.append(toml_of(name, "" if is_known else device, new) if new else "")
    if as_json:
        print(json.dumps({"schema_version": 1, "buses": documents}, indent=2))
    elif any(texts):
        print("\n".join(text for text in texts if text), end="")
    elif not documents and code == exits.OK:
        print("edge-agent: no I2C bus. Try: ls /dev/i2c-*, or edge-agent detect --bus i2c-1", file=sys.stderr)
        code = exits.FAILED
    return code


def toml_of(bus: str, device: str, found: Sequence[Found]) -> str:
    """A bus (where `device` is not empty) and its sensors, as they are to stand in the configuration."""
    lines = []
    if device:
        lines += [f"[bus.{bus}]", 'kind = "i2c"']
        lines += [f"device = {json.dumps(device)}"] if device != f"/dev/{bus}" else []
        lines.append("")
    for each in found:
        lines += [
            "[[sensor]]",
            f'id = "{each.driver}-{bus.removeprefix("i2c-")}-{each.address:02x}"',
            f'driver = "{each.driver}"',
            f'bus = "{bus}"',
            f"address = 0x{each.address:02x}",
            "",
        ]
    return "\n".join(lines)


def _config(file: Path) -> Config | None:
    try:
        return load(file) if file.exists() else None
    except ConfigInvalid:
        print(f"note: {file} has mistakes and is not taken into account: edge-agent config check", file=sys.stderr)
        return None


def _drivers() -> dict[str, type[Driver]]:
    drivers = Drivers()
    found = {}
    for name in drivers.names():
        try:
            driver = drivers.load(name)
        except DriverLoadFailed as error:
            print(f"edge-agent: {error}", file=sys.stderr)
            continue
        if driver.addresses:
            found[name] = driver
    return found


def _buses(wanted: Sequence[str], config: Config | None) -> list[tuple[str, str]]:
    """Name and device of each: those named, or those of the configuration, or those of the machine."""
    known = {name: bus.device for name, bus in config.buses.items() if isinstance(bus, I2cSection)} if config else {}
    if not wanted:
        machine = {path.name: str(path) for path in sorted(Path("/dev").glob("i2c-*"))}
        return list((known or machine).items())
    found = []
    for each in wanted:
        name = each.rpartition("/")[2]
        device = known.get(each) or (each if each.startswith(("/", "unix:")) else f"/dev/{each}")
        found.append((next((bus for bus, at in known.items() if at == device), name), device))
    return found


def _taken(config: Config | None, bus: str) -> dict[int, str]:
    sensors = config.sensors if config else ()
    return {
        sensor.config.address: sensor.id
        for sensor in sensors
        if sensor.bus == bus and isinstance(getattr(sensor.config, "address", None), int)
    }


def _scan_device(device: str, drivers: Mapping[str, type[Driver]], taken: Mapping[int, str]) -> list[Found]:
    from hardware.buses import open_i2c

    bus = open_i2c(device)
    try:
        return scan(bus, drivers, taken)
    finally:
        bus.close()


def _document(found: Found) -> dict[str, object]:
    return {"address": found.address, "driver": found.driver or None, "sensor": found.sensor or None}


def _tell(name: str, found: Sequence[Found]) -> None:
    print(f"{name}: {len(found)} part{'' if len(found) == 1 else 's'}", file=sys.stderr)
    for each in found:
        what = each.driver or (f'sensor "{each.sensor}" has it' if each.sensor else "answers, and no driver knows it")
        print(f"  0x{each.address:02x}  {what}", file=sys.stderr)
