"""How the console writes numbers, units, spans and reasons."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from wire.reading import Quality
from wire.series import SeriesDef, ValueType

DECIMALS_MAX = 6
FLOAT_DIGITS = 6
JUST_NOW_S = 3

# SenML's registry (RFC 8428, 12.1) as people write it.
_UNITS = {
    "Cel": "°C",
    "%RH": "% RH",
    "degF": "°F",
    "m/s2": "m/s²",
    "m2": "m²",
    "m3": "m³",
    "m3/s": "m³/s",
    "W/m2": "W/m²",
    "Ohm": "Ω",
    "deg": "°",
    "lat": "°",
    "lon": "°",
    "ug/m3": "µg/m³",
    "count": "",
    "/": "",
    "1/s": "per s",
    "1/min": "per min",
    "beat/min": "bpm",
}
_SPANS_S = (("y", 31_557_600), ("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def unit_text(unit: str) -> str:
    """A SenML unit for people."""
    return _UNITS.get(unit, unit)


def decimals(definition: SeriesDef) -> int:
    """How many decimals the declared resolution needs; floats get what their size leaves of six digits."""
    if definition.value_type is not ValueType.INT:
        return 3
    resolution = abs(definition.num) / definition.den or 1.0
    return min(DECIMALS_MAX, max(0, math.ceil(-math.log10(resolution) - 1e-9)))


def value_text(value: float | None, definition: SeriesDef) -> str:
    """A value at its resolution, thousands divided."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    if definition.value_type is ValueType.INT:
        return f"{value:,.{decimals(definition)}f}"
    return f"{value:,.{FLOAT_DIGITS}g}"


def count_text(count: int) -> str:
    """Thousands divided."""
    return f"{count:,}"


def span_text(span_s: float) -> str:
    """`3 min`: the largest unit that fits, cut."""
    for name, size in _SPANS_S:
        if span_s >= size:
            return f"{int(span_s // size)} {name}"
    return "under 1 s"


def ago_text(time_ms: int, now_ms: int) -> str:
    """`3 min ago`; a moment ahead of now (a wrong clock) says so."""
    behind_s = (now_ms - time_ms) / 1000
    if behind_s <= -JUST_NOW_S:
        return f"{span_text(-behind_s)} ahead"
    if behind_s < JUST_NOW_S:
        return "just now"
    return f"{span_text(behind_s)} ago"


def time_text(time_ms: int) -> str:
    """UTC to the second."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def rfc3339(time_ms: int) -> str:
    """As the API reads it, exact to the millisecond."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def reason_text(reason: str) -> str:
    """`no_answer` for people."""
    return reason.replace("_", " ")


def quality_text(quality: int) -> list[str]:
    """The doubts about a reading."""
    return [str(bit.name).lower().replace("_", " ") for bit in Quality if quality & bit]
