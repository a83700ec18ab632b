"""How numbers, units, spans and reasons are written."""

from __future__ import annotations

import pytest

from cloud_sync.console import words
from wire.series import SeriesDef, ValueType


@pytest.mark.parametrize(
    ("num", "den", "decimals"),
    [(1, 1, 0), (1, 10, 1), (1, 100, 2), (5, 100, 2), (1, 1024, 4), (1, 3, 1), (10, 1, 0), (1, 10**9, 6), (0, 1, 0)],
)
def test_decimals_follow_the_declared_resolution(num: int, den: int, decimals: int) -> None:
    assert words.decimals(SeriesDef("a", "b", "", num=num, den=den)) == decimals


def test_values() -> None:
    pressure = SeriesDef("a", "b", "Pa")
    hundredths = SeriesDef("a", "b", "Cel", num=1, den=100)
    level = SeriesDef("a", "b", "", value_type=ValueType.FLOAT32)
    assert words.value_text(101_325.0, pressure) == "101,325"
    assert words.value_text(21.5, hundredths) == "21.50"
    assert words.value_text(0.1234567, level) == "0.123457"
    assert words.value_text(float("nan"), level) == "nan"
    assert words.value_text(None, level) == "–"


AGES = [(0, "just now"), (2_999, "just now"), (3_000, "3 s ago"), (119_000, "1 min ago"), (7_200_000, "2 h ago")]
AGES += [(3 * 86_400_000, "3 d ago"), (400 * 86_400_000, "1 y ago"), (-600_000, "10 min ahead")]


@pytest.mark.parametrize(("behind_ms", "text"), AGES)
def test_ages(behind_ms: int, text: str) -> None:
    assert words.ago_text(1_780_000_000_000 - behind_ms, 1_780_000_000_000) == text


def test_times_are_utc() -> None:
    assert words.time_text(1_780_000_000_999) == "2026-05-28 20:26:40"
    assert words.rfc3339(1_780_000_000_007) == "2026-05-28T20:26:40.007Z"
    assert words.rfc3339(-1) == "1969-12-31T23:59:59.999Z"


def test_doubts_and_units() -> None:
    assert words.quality_text(1 | 32) == ["range", "clock unsure"]
    assert words.unit_text("Cel") == "°C"
    assert words.unit_text("kWh") == "kWh"
    assert [words.unit_text(unit) for unit in ("lat", "ug/m3", "count", "/")] == ["°", "µg/m³", "", ""]
