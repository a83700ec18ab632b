"""Drivers by name: entry points in the group `edge_agent.drivers`, the same for ours and for anyone's."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module

from hardware.driver import Driver

GROUP = "edge_agent.drivers"

# Our own entry points, as pyproject.toml has them: with these alone, importlib.metadata (3 MB) is not imported.
OWN = {
    "ads1115": "hardware.drivers.ads1115:ADS1115",
    "bme280": "hardware.drivers.bme280:BME280",
    "csv-replay": "hardware.drivers.csv_replay:CsvReplay",
    "ina219": "hardware.drivers.ina219:INA219",
    "modbus": "hardware.drivers.modbus:Modbus",
    "nmea-gps": "hardware.drivers.nmea_gps:NmeaGps",
    "pms5003": "hardware.drivers.pms5003:PMS5003",
    "sht3x": "hardware.drivers.sht3x:SHT3x",
}

# Not an entry point: it is never opened, and a broker's thread brings its values.
BUILT_IN = {"mqtt": "edge_agent.mqtt.driver:Mqtt"}


class DriverLoadFailed(Exception):
    """The driver's module cannot be imported, or holds no driver."""


class Drivers:
    """Finds drivers; imports one only when it is asked for."""

    def __init__(self) -> None:
        self._loaded: dict[str, type[Driver]] = {}

    @cached_property
    def _others(self) -> dict[str, str]:
        from importlib.metadata import entry_points

        return {point.name: point.value for point in entry_points(group=GROUP)}

    def __contains__(self, name: str) -> bool:
        return name in BUILT_IN or name in OWN or name in self._others

    def names(self) -> list[str]:
        """Every installed driver, sorted."""
        return sorted({*BUILT_IN, *OWN, *self._others})

    def origin(self, name: str) -> str:
        """`module:class`."""
        return BUILT_IN.get(name) or OWN.get(name) or self._others[name]

    def load(self, name: str) -> type[Driver]:
        """The driver's class. Raises DriverLoadFailed."""
        if name not in self._loaded:
            module, _, attribute = self.origin(name).partition(":")
            try:
                found = getattr(import_module(module), attribute)
            except Exception as error:  # anyone's code runs at import
                raise DriverLoadFailed(f'driver "{name}" ({self.origin(name)}) cannot be loaded: {error}') from error
            if not (isinstance(found, type) and issubclass(found, Driver)):
                raise DriverLoadFailed(f'driver "{name}" ({self.origin(name)}) is not a hardware.driver.Driver')
            self._loaded[name] = found
        return self._loaded[name]
