"""[[sensor]] tables: the driver is found, its options checked, its channels joined with what people said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from edge_agent.config.calibration import scaling
from edge_agent.config.check import Place, Problems, Table, check_keys, check_table, table_of
from edge_agent.config.detect import check_alarm
from edge_agent.config.drivers import DriverLoadFailed, Drivers
from edge_agent.config.model import (
    FILTERS,
    AgentSection,
    BusSection,
    CalibrateLinear,
    ChannelPlan,
    ChannelSection,
    Filter,
    Median,
    SensorPlan,
    SensorSection,
    SerialSection,
)
from edge_agent.config.senml import UNITS
from edge_agent.config.values import nearest
from hardware.driver import Channel, Driver
from wire.reading import SERIES_PER_SET_MAX, Priority

STALE_INTERVALS = 3  # a channel without a value for so many intervals is stale, unless told otherwise

AGENT_KEYS = (*(info.name for info in msgspec.structs.fields(SensorSection)), "channel")
NAME_LENGTH_MAX = 128  # of a series' halves: wire.series, not imported here because it brings numpy
PRIORITIES = {"normal": Priority.NORMAL, "low": Priority.LOW}


class SensorChecker:
    """Checks one sensor after another against the agent's section, the buses and the drivers."""

    def __init__(
        self, agent: AgentSection, buses: Mapping[str, BusSection | None], drivers: Drivers, problems: Problems
    ) -> None:
        self._agent = agent
        self._buses = buses
        self._drivers = drivers
        self._problems = problems
        self._seen: dict[str, Place] = {}
        self._addresses: dict[tuple[str, int], str] = {}

    def check(self, table: Table, place: Place) -> SensorPlan | None:
        """The plan, or None when anything is wrong."""
        before = len(self._problems)
        named = table.get("id")
        where = f'sensor "{named.value}"' if named else "[[sensor]]"
        own = {key: entry for key, entry in table.items() if key in AGENT_KEYS and key != "channel"}
        section = check_table(SensorSection, own, place, where, self._problems)
        self._check_unique(table, place, where)
        driver = self._driver(table, where)
        if driver is None:
            return None
        self._check_bus(table, place, driver, where)
        config = self._options(driver, table, place, where)
        if config is None:
            return None
        interval = (section.interval if section else None) or self._agent.interval
        try:
            offered = driver.channels_of(config)
        except Exception as error:  # a driver is anyone's code; its own check of an option speaks here
            self._problems.add(place, where, str(error))
            return None
        channels = self._channels(offered, table, place, where, interval)
        if section is None:
            return None
        self._check_address(config, section.bus, place, where)
        if len(self._problems) > before or channels is None:
            return None
        return SensorPlan(
            id=section.id,
            driver_name=section.driver,
            driver=driver,
            config=config,
            bus=section.bus,
            interval=interval,
            priority=PRIORITIES[section.priority],
            timeout=section.timeout,
            channels=tuple(channels),
        )

    def _check_unique(self, table: Table, place: Place, where: str) -> None:
        entry = table.get("id")
        if entry is None or not isinstance(entry.value, str):
            return
        if entry.value in self._seen:
            self._problems.add(entry.place, where, f"the id is taken: {self._seen[entry.value]} has it too")
        else:
            self._seen[entry.value] = place.at("id")

    def _driver(self, table: Table, where: str) -> type[Driver] | None:
        entry = table.get("driver")
        if entry is None or not isinstance(entry.value, str):
            return None
        if entry.value not in self._drivers:
            hint = nearest(entry.value, self._drivers.names())
            self._problems.add(entry.place, where, f'driver "{entry.value}" unknown{hint}')
            return None
        try:
            return self._drivers.load(entry.value)
        except DriverLoadFailed as error:
            self._problems.add(entry.place, where, str(error))
            return None

    def _check_bus(self, table: Table, place: Place, driver: type[Driver], where: str) -> None:
        entry = table.get("bus")
        if driver.bus_kind == "none":
            if entry is not None:
                self._problems.add(entry.place, where, f'bus = "{entry.value}": this driver uses no bus; leave it out')
            return
        if entry is None:
            self._problems.add(place, where, f'"bus" is missing: this driver needs a bus of kind "{driver.bus_kind}"')
        elif entry.value not in self._buses:
            hint = nearest(str(entry.value), self._buses)
            hint = hint or f" (add [bus.{entry.value}])"
            self._problems.add(entry.place, where, f'bus "{entry.value}" unknown{hint}')
        else:
            bus = self._buses[entry.value]
            if bus is not None and bus.kind != driver.bus_kind:
                text = f'bus "{entry.value}" is of kind "{bus.kind}"; this driver needs "{driver.bus_kind}"'
                self._problems.add(entry.place, where, text)
            elif isinstance(bus, SerialSection) and bus.bits < driver.byte_bits:
                text = f'bus "{entry.value}" has bits = {bus.bits}; this driver needs {driver.byte_bits}'
                self._problems.add(entry.place, where, text)

    def _options(self, driver: type[Driver], table: Table, place: Place, where: str) -> Any:
        """The driver's Config. A driver may ask for the agent's keys too, by naming them in its Config."""
        known = {info.encode_name for info in msgspec.structs.fields(driver.Config)}
        options: Table = {}
        for key, entry in table.items():
            if key in known:
                options[key] = entry
            elif key not in AGENT_KEYS:
                hint = nearest(key, known | set(AGENT_KEYS))
                self._problems.add(entry.place, where, f'unknown key "{key}"{hint}')
        return check_table(driver.Config, options, place, where, self._problems)

    def _check_address(self, config: Any, bus: str, place: Place, where: str) -> None:
        address = getattr(config, "address", None)
        if not bus or not isinstance(address, int):
            return
        other = self._addresses.setdefault((bus, address), where)
        if other != where:
            self._problems.add(place.at("address"), where, f"address {address:#x} on {bus} is {other}'s")

    def _channels(
        self, channels: Sequence[Channel], table: Table, place: Place, where: str, interval: float
    ) -> list[ChannelPlan] | None:
        said = table.get("channel")
        if said is None:
            sections: dict[str, Any] = {}
        elif isinstance(said.value, dict) and all(isinstance(section, dict) for section in said.value.values()):
            sections = said.value
        else:
            self._problems.add(said.place, where, "channel must be tables, as in [sensor.channel.temperature]")
            return None
        names = [channel.name for channel in channels]
        for name, section in sections.items():
            if name not in names:
                spot = place.at("channel", name)
                self._problems.add(spot, where, f'channel "{name}" unknown{nearest(name, names)}')
                self._channel(Channel(name, ""), section, spot, where, interval)
        plans = [
            self._channel(channel, sections.get(channel.name, {}), place.at("channel", channel.name), where, interval)
            for channel in channels
        ]
        self._check_channels(channels, place, where)
        return [plan for plan in plans if plan is not None]

    def _check_channels(self, channels: Sequence[Channel], place: Place, where: str) -> None:
        if len(channels) > SERIES_PER_SET_MAX:
            self._problems.add(
                place,
                where,
                f"{len(channels)} channels; a sensor has at most {SERIES_PER_SET_MAX}. Split it into two sensors",
            )
        for channel in channels:
            name = channel.name
            if not name or len(name) > NAME_LENGTH_MAX or "/" in name or not name.isprintable():
                text = f"channel {name!r} must be 1 to {NAME_LENGTH_MAX} printable characters without '/'"
                self._problems.add(place, where, text)
            if channel.unit not in UNITS:
                hint = nearest(channel.unit, UNITS)
                text = f'channel "{channel.name}": unit "{channel.unit}" is not a SenML unit (RFC 8428){hint}'
                self._problems.add(place, where, text)

    def _channel(
        self, channel: Channel, said: Mapping[str, Any], place: Place, where: str, interval: float
    ) -> ChannelPlan | None:
        where = f'{where} channel "{channel.name}"'
        section = check_table(ChannelSection, table_of(said, place), place, where, self._problems)
        if section is None:
            return None
        filters, calibration = self._filters(channel, section.filter, place.at("filter"), where)
        low = channel.low if section.low is None else section.low
        high = channel.high if section.high is None else section.high
        if low is not None and high is not None and low >= high:
            self._problems.add(place, where, f"low = {low} is not below high = {high} {channel.unit}")
        if channel.value_type != "int" and any(isinstance(each, Median) for each in filters):
            self._problems.add(place.at("filter"), where, "median is for integer channels; this one gives floats")
        return ChannelPlan(
            channel=channel,
            filters=tuple(filters),
            calibration=calibration,
            low=low,
            high=high,
            rate_max=channel.rate_max if section.rate_max is None else section.rate_max,
            stale=section.stale or STALE_INTERVALS * interval,
            stuck=section.stuck or 0,
            needs_calibration=section.needs_calibration,
            alarm=check_alarm(section.alarm, place.at("alarm"), where, self._problems),
        )

    def _filters(
        self, channel: Channel, tables: Sequence[Mapping[str, Any]], place: Place, where: str
    ) -> tuple[list[Filter], CalibrateLinear | None]:
        filters: list[Filter] = []
        calibration: CalibrateLinear | None = None
        for index, said in enumerate(tables):
            spot = place.at(index)
            kinds = [name for name in FILTERS if name in said]
            if len(kinds) != 1:
                self._add_unknown_filter(said, spot, where)
                continue
            checked = check_table(FILTERS[kinds[0]], table_of(said, spot), spot, f"{where} filter", self._problems)
            if isinstance(checked, CalibrateLinear):
                if calibration is not None:
                    self._problems.add(spot, where, "calibrate_linear stands twice; one set of points is in force")
                calibration = checked
            elif isinstance(checked, Filter):
                if isinstance(checked, Median) and checked.median % 2 == 0:
                    self._problems.add(spot, where, f"median = {checked.median} must be odd, so that raw stays raw")
                filters.append(checked)
        if calibration is not None:
            self._check_points(calibration, channel, place, where)
        return filters, calibration

    def _add_unknown_filter(self, said: Mapping[str, Any], spot: Place, where: str) -> None:
        kinds = [name for name in FILTERS if name in said]
        if kinds:
            self._problems.add(spot, where, f"{' and '.join(kinds)} in one filter; write one table for each")
        elif said:
            check_keys(table_of(said, spot), FILTERS, f"{where} filter", self._problems)
        else:
            self._problems.add(spot, where, f"an empty filter (known: {', '.join(FILTERS)})")

    def _check_points(self, calibration: CalibrateLinear, channel: Channel, place: Place, where: str) -> None:
        measured = [point[0] for point in calibration.calibrate_linear]
        if len(measured) > 1 and len(set(measured)) == 1:
            self._problems.add(
                place, where, f"calibrate_linear needs two different measured values, all are {measured[0]}"
            )
        try:
            scaling(channel, calibration)
        except ValueError as error:
            self._problems.add(place, where, str(error))
