"""Recorded series to replay as a sensor: the machine temperature of the Numenta Anomaly Benchmark."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

from hardware.drivers.csv_replay import open_text

EXCERPT = Path(__file__).with_name("data") / "nab" / "machine_temperature_week.csv"
WHOLE = Path("nab", "data", "realKnownCause", "machine_temperature_system_failure.csv.gz")


def machine_temperature() -> Path:
    """The whole series under $TIDEGATE_DATA (../shared/data beside the checkout) where it is, else one week of it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    whole = Path(os.environ.get("TIDEGATE_DATA", beside)) / WHOLE
    return whole if whole.is_file() else EXCERPT


def number_rows(source: Path, target: Path, count: int) -> None:
    """Write `count` rows to `target`: `row` (0, 1, 2, ...) and `value`, `source`'s values again and again.

    The row number makes every row distinct, so that a reader can tell a lost row from one that reads the same.
    """
    with open_text(str(source)) as file:
        values = [row["value"] for row in csv.DictReader(file)]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "value"])
        writer.writerows(zip(range(count), itertools.cycle(values)))
