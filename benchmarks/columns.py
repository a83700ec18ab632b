"""Real sensor columns for benchmarks, and batches cut from them. Sources and licences: README of the data directory.

The directory is TIDEGATE_DATA, or ../shared/data beside the checkout.
"""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wire.clock import Anchor
from wire.reading import Kind, Priority, Quality
from wire.segment import AtomRef, Block, Segment
from wire.series import DTYPES, SeriesDef, SeriesSet, ValueType

DECIMALS_MAX = 3
COLUMNS = 50
NAB = {
    "machine": "realKnownCause/machine_temperature_system_failure",
    "ambient": "realKnownCause/ambient_temperature_system_failure",
    "cpu": "realAWSCloudwatch/ec2_cpu_utilization_24ae8d",
    "network": "realAWSCloudwatch/ec2_network_in_257a54",
    "taxi": "realKnownCause/nyc_taxi",
}
HOUSEHOLD = (
    "active_power",
    "reactive_power",
    "voltage",
    "intensity",
    "sub_metering_1",
    "sub_metering_2",
    "sub_metering_3",
)


class NoData(Exception):
    """The data directory is not there."""


@dataclass(frozen=True)
class Column:
    """One real channel: raw as we ship it, text as an exporter prints it, float64 as a naive table holds it."""

    series: SeriesDef
    raw: NDArray[np.generic]
    doubts: NDArray[np.uint8] | None = None

    def cut(self, start: int, length: int) -> Column:
        """Rows start..start+length."""
        end = start + length
        return Column(self.series, self.raw[start:end], None if self.doubts is None else self.doubts[start:end])

    @property
    def values(self) -> NDArray[np.float64]:
        """In the series' unit."""
        return self.series.values(self.raw)

    def texts(self) -> list[str]:
        """The values as printed: at the series' resolution, or the shortest that reads back."""
        if self.series.value_type is ValueType.INT:
            places = len(str(self.series.den)) - 1
            return [f"{value:.{places}f}" for value in self.values.tolist()]
        return [str(value) for value in self.raw]


@dataclass(frozen=True)
class Batch:
    """n rows of k columns that were sampled together; stamps in milliseconds of CLOCK_MONOTONIC and of the wall."""

    columns: tuple[Column, ...]
    stamps: NDArray[np.int64]
    wall_ms: NDArray[np.int64]

    @property
    def readings(self) -> int:
        """n x k."""
        return len(self.columns) * len(self.stamps)

    @property
    def names(self) -> list[str]:
        """`sensor/channel`, made distinct where a column stands in several windows."""
        return [f"{column.series.name}_{index}" for index, column in enumerate(self.columns)]

    def segment(self) -> Segment:
        """As the gateway would commit it: one atom, quality where there are doubts."""
        series_set = SeriesSet(tuple(column.series for column in self.columns))
        n, k = len(self.stamps), len(self.columns)
        quality = None
        if any(column.doubts is not None and column.doubts.any() for column in self.columns):
            blank = np.zeros(n, np.uint8)
            quality = np.stack([blank if column.doubts is None else column.doubts for column in self.columns])
        columns = [np.ascontiguousarray(column.raw) for column in self.columns]
        block = Block(series_set.id, self.stamps, columns, quality=quality, stamp_unit=series_set.stamp_unit)
        offset_us = (int(self.wall_ms[0]) - int(self.stamps[0])) * 1000
        boottime_us = int(self.stamps[0]) * 1000
        anchor = Anchor(boottime_us, boottime_us + offset_us, True, 12_500)
        return Segment(Priority.NORMAL, Kind.RAW, anchor, (AtomRef(1_000_000, n * k, (n,)),), [block])


def data_directory() -> Path:
    """Where the real data is. Raises NoData with the way to set it."""
    told = os.environ.get("TIDEGATE_DATA")
    path = Path(told) if told else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (path / "bme280").is_dir():
        raise NoData(
            f"no sensor data at {path}. Set TIDEGATE_DATA to a directory with bme280/, motes/, power/, imu/, nab/"
        )
    return path


def decimal_columns(data: Path) -> list[Column]:
    """42 columns printed with a fixed number of decimals: 12 of four BME280, 8 of four motes, 7 of a household meter,
    15 kernel counters of a busy gateway (9 at 1 Hz, 6 at 10 Hz)."""
    columns = []
    for file in sorted((data / "bme280").glob("*.gz")):
        table = _table(file)
        for name, unit in (("t", "Cel"), ("RH", "%RH"), ("p", "hPa")):
            for sensor in ("1", "2"):
                key = next(key for key in table if key.startswith(name + sensor))
                columns.append(_column(f"bme280_{file.name[7:15]}_{sensor}", name, unit, table[key]))
    for file in sorted((data / "motes").glob("multihop*.gz")):
        table = _table(file, delimiter=None)
        events = np.array([int(cell) for cell in table["Label"]], np.uint8) * np.uint8(Quality.RATE)
        for name, unit in (("Humidity", "%RH"), ("Temperature", "Cel")):
            columns.append(_column(file.name.partition(".")[0], name.lower(), unit, table[name], events))
    table = _table(data / "power" / "household_power_20061216-20061219.csv.gz", delimiter=";")
    columns += [_column("meter", name, "W", cells) for name, cells in zip(HOUSEHOLD, list(table.values())[2:])]
    for rate, count in (("1.0", 9), ("0.1", 6)):
        table = _table(data / "gateway_self" / f"self_deadline_{rate}.csv.gz")
        columns += [_column(f"gateway_{rate}s", key, "1", cells) for key, cells in list(table.items())[2 : 2 + count]]
    return columns


def float_columns(data: Path) -> list[Column]:
    """22 more: 17 float32 of an IMU at 92 Hz and at 1 kHz, 5 of NAB (float64 where it has more than three decimals)."""
    columns = []
    flight = _table(data / "imu" / "jackpot_launch_4_100hz.csv.gz")
    for key, cells in flight.items():
        if key.startswith(("raw_acc", "raw_ang", "mag", "pressure", "temperature")):
            columns.append(_column("imu_flight", key, "1", cells, floats=ValueType.FLOAT32))
    bench = _table(data / "imu" / "zminus_mscl_1khz.csv.gz")
    for key, cells in bench.items():
        if key.startswith(("scaledAccel", "scaledGyro")):
            columns.append(_column("imu_bench", key, "1", [c for c in cells if c], floats=ValueType.FLOAT32))
    for name, path in NAB.items():
        columns.append(_column("nab", name, "1", _table(data / "nab" / "data" / f"{path}.csv.gz")["value"]))
    return columns


def batches(data: Path, columns: list[Column], rows: int, count: int, seed: int = 1) -> Iterator[Batch]:
    """`count` batches of 50 columns: the given ones in random order, then other windows of them until there are 50.

    Windows start at random rows. Stamps are the wake-ups of a real Python deadline loop of 1 s.
    """
    chance = random.Random(seed)
    mono_ms, wall_ms = loop_ms(data, "1.0")
    for _ in range(count):
        chosen = fifty(columns, chance)
        cut = tuple(column.cut(chance.randrange(len(column.raw) - rows + 1), rows) for column in chosen)
        at = chance.randrange(len(mono_ms) - rows + 1)
        yield Batch(cut, mono_ms[at : at + rows], wall_ms[at : at + rows])


def fifty(columns: list[Column], chance: random.Random) -> list[Column]:
    """The given ones in random order, then some of them again until there are 50."""
    chosen = chance.sample(columns, min(COLUMNS, len(columns)))
    return chosen + chance.choices(columns, k=COLUMNS - len(chosen))


def loop_ms(data: Path, period: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """When a real Python deadline loop of `period` ("1.0", "0.1" seconds) woke: CLOCK_MONOTONIC and wall, ms."""
    loop = _table(data / "gateway_self" / f"self_deadline_{period}.csv.gz")
    mono, wall = ([int(cell) // 1_000_000 for cell in loop[name]] for name in ("mono_ns", "wall_ns"))
    return np.array(mono, np.int64), np.array(wall, np.int64)


def _table(file: Path, delimiter: str | None = ",") -> dict[str, list[str]]:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [line.split() for line in lines] if delimiter is None else list(csv.reader(lines, delimiter=delimiter))
    return {name: [row[index] for row in rows[1:]] for index, name in enumerate(rows[0])}


def _column(
    sensor: str,
    channel: str,
    unit: str,
    cells: list[str],
    doubts: NDArray[np.uint8] | None = None,
    *,
    floats: ValueType = ValueType.FLOAT64,
) -> Column:
    """A count at the fewest decimals that hold every cell; opaque floats where that is over DECIMALS_MAX."""
    places = max(len(cell.rstrip("0").partition(".")[2]) if "." in cell else 0 for cell in cells)
    if places > DECIMALS_MAX:
        numbers = np.array([float(cell) for cell in cells], DTYPES[floats])
        return Column(SeriesDef(sensor, channel, unit, floats), numbers, doubts)
    counts = np.array([round(float(cell) * 10**places) for cell in cells], np.int64)
    return Column(SeriesDef(sensor, channel, unit, den=10**places), counts, doubts)
