"""False alarms on data where nothing happens: made signals of one day at 1 Hz, and two real records."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.contract import Fit
from edge_agent.detect.runner import Runner
from edge_agent.detect.session import Session
from wire.alarm import Phase

F64 = NDArray[np.float64]
DAY_S = 86_400
SETTLED_S = 21_600
CHANNELS = 8
SEED = 1
BME280 = ("t1 (°C)", "t2 (°C)", "p1 (hPa)", "p2 (hPa)", "RH1% (%)", "RH2% (%)")
MOTE_INTERVAL_S = 5.0
POWER = ("Global_active_power", "Global_reactive_power", "Voltage", "Global_intensity")


@dataclass(frozen=True, slots=True)
class Signal:
    """Columns of one record, seconds between rows, and each column's resolution (0 = not known)."""

    name: str
    values: F64
    interval_s: float
    resolution: tuple[float, ...]


def signals(directory: Path) -> Iterator[Signal]:
    """Made ones first, then the real ones that `directory` has."""
    random = np.random.default_rng(SEED)
    t = np.arange(DAY_S)[:, None]
    shape = (DAY_S, CHANNELS)
    phase = np.arange(CHANNELS) / CHANNELS
    made = {
        "white noise": (random.normal(size=shape), 0.0),
        "temperature, daily 3 K, noise 0.02 K": (
            np.round(20 + 3 * np.sin(2 * np.pi * (t / DAY_S + phase)) + random.normal(0, 0.02, shape), 2),
            0.01,
        ),
        "random walk": (np.cumsum(random.normal(size=shape), axis=0), 0.0),
        "flat, one step of 0.01 in 10,000": (np.round(21 + (random.random(shape) < 1e-4) * 0.01, 2), 0.01),
        "machine cycle of 60 s": ((t // 30 % 2) * 5 + random.normal(0, 0.1, shape), 0.0),
        "heavy tails (Student, 3)": (random.standard_t(3, size=shape), 0.0),
    }
    for name, (values, resolution) in made.items():
        yield Signal(name, values, 1.0, (resolution,) * CHANNELS)
    for path in sorted((directory / "bme280").glob("*.csv.gz")):
        yield Signal(f"BME280 in a climate chamber, {path.name[7:15]}", _columns(path, BME280, ","), 1.0, (0.01,) * 6)
    for path in sorted((directory / "motes").glob("*.txt.gz")):
        yield Signal(f"mote until its event, {path.name[:-7]}", _mote(path), MOTE_INTERVAL_S, (0.01, 0.01))
    for path in sorted((directory / "power").glob("*20061216*.csv.gz")):
        yield Signal("household meter, 2.8 days", _columns(path, POWER, ";"), 60.0, (0.002, 0.002, 0.01, 0.2))


def alarms(session: Session, signal: Signal) -> tuple[float, float]:
    """Raised per channel and day: over the whole record, and after its first six hours (NaN when it is shorter)."""
    rows, channels = signal.values.shape
    lane = Runner(session).add([Fit(str(place), "1", "", step) for place, step in enumerate(signal.resolution)])
    found = [
        row * signal.interval_s
        for row in range(rows)
        for event in lane.step(round(row * signal.interval_s * 1e6), signal.values[row]).events
        if event.phase is Phase.RAISED
    ]
    seconds = rows * signal.interval_s
    settled_s = seconds - SETTLED_S
    late = sum(second >= SETTLED_S for second in found)
    return (
        len(found) * DAY_S / seconds / channels,
        late * DAY_S / settled_s / channels if settled_s > 0 else float("nan"),
    )


def _columns(path: Path, names: tuple[str, ...], delimiter: str) -> F64:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return np.array([[_number(row[name]) for name in names] for row in csv.DictReader(file, delimiter=delimiter)])


def _mote(path: Path) -> F64:
    """Humidity and temperature of the rows before the first that is labelled."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        table = np.array([[float(cell) for cell in line.split()] for line in file if line[:1].isdigit()])
    labelled = np.flatnonzero(table[:, 4])
    return table[: labelled[0] if len(labelled) else None, 2:4]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
