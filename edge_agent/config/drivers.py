"""Drivers by name: entry points in the group `edge_agent.drivers`, the same for ours and for anyone's."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from hardware.driver import Driver

GROUP = "edge_agent.drivers"

# Ours, known without an installed distribution (a checkout on the path); an entry point of the same name wins.
OWN = {
    "bme280": "hardware.drivers.bme280:BME280",
    "csv-replay": "hardware.drivers.csv_replay:CsvReplay",
}


class DriverLoadFailed(Exception):
    """The driver's module cannot be imported, or holds no driver."""


class Drivers:
    """Finds drivers; imports one only when it is asked for."""

    def __init__(self, extra: dict[str, type[Driver]] | None = None) -> None:
        self._points = {name: EntryPoint(name, target, GROUP) for name, target in OWN.items()}
        self._points.update({point.name: point for point in entry_points(group=GROUP)})
        self._loaded: dict[str, type[Driver]] = dict(extra or {})

    def names(self) -> list[str]:
        """Sorted."""
        return sorted({*self._points, *self._loaded})

    def origin(self, name: str) -> str:
        """`module:class`."""
        return self._points[name].value if name in self._points else repr(self._loaded[name])

    def load(self, name: str) -> type[Driver]:
        """The driver's class. Raises DriverLoadFailed."""
        if name not in self._loaded:
            try:
                found = self._points[name].load()
            except Exception as error:  # anyone's code runs at import
                raise DriverLoadFailed(f'driver "{name}" ({self.origin(name)}) cannot be loaded: {error}') from error
            if not (isinstance(found, type) and issubclass(found, Driver)):
                raise DriverLoadFailed(f'driver "{name}" ({self.origin(name)}) is not a hardware.driver.Driver')
            self._loaded[name] = found
        return self._loaded[name]
