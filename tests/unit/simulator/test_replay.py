"""The recorded series: the excerpt is upstream's lines, and each row can be told from every other."""

from pathlib import Path

import msgspec
import pytest

from hardware.drivers.csv_replay import CsvReplay, open_text
from simulator import replay


def test_the_excerpt_serves_where_the_whole_series_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    assert replay.machine_temperature() == replay.EXCERPT
    assert (replay.EXCERPT.parent / "LICENSE.txt").read_text().startswith("Copyright 2014-2024 Numenta")
    monkeypatch.delenv("TIDEGATE_DATA")
    whole = replay.machine_temperature()
    if whole == replay.EXCERPT:
        pytest.skip("the whole series is not on this machine")
    with open_text(str(whole)) as file:
        lines = set(file)
    assert set(replay.EXCERPT.read_text(encoding="utf-8").splitlines(keepends=True)) <= lines


def test_numbered_rows_are_what_the_driver_reads(tmp_path: Path) -> None:
    with open_text(str(replay.EXCERPT)) as file:
        values = [line.split(",")[1].strip() for line in file][1:]
    assert len(values) == 2016
    replay.number_rows(replay.EXCERPT, tmp_path / "rows.csv", 2020)
    values += values[:4]
    columns = [{"name": "row", "unit": "count", "resolution": 1.0}, {"name": "value", "unit": "/"}]
    device = CsvReplay(msgspec.convert({"path": str(tmp_path / "rows.csv"), "columns": columns}, CsvReplay.Config))
    device.open()
    assert [device.read() for _ in values] == [[row, float(value)] for row, value in enumerate(values)]
    device.close()
