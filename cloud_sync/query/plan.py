"""Which columns of which series sets answer a question, and which lines they fill.

A line is (name, unit): when the unit of a series changes over time, its readings come as two lines, so that degrees
are never averaged with kelvins. Other changes of a definition (resolution, calibration) stay within one line, each
reading converted by the definition it was taken under.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from cloud_sync.errors import QueryInvalid
from cloud_sync.query.parameters import SERIES_MAX
from wire.series import SeriesDef, SeriesSet


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an answer. `definitions` are all versions seen, in the order the catalog names them."""

    name: str
    unit: str
    definitions: tuple[SeriesDef, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """Column `index` of a set, converted by `definition`, fills line number `line`."""

    index: int
    line: int
    definition: SeriesDef


@dataclass(frozen=True, slots=True)
class Plan:
    """Lines in the order asked, and per set id the columns that fill them."""

    lines: tuple[Line, ...]
    columns: dict[int, tuple[Column, ...]]

    @property
    def set_ids(self) -> tuple[int, ...]:
        """The sets worth reading."""
        return tuple(self.columns)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a reader should know about the lines: units that changed."""
        units: dict[str, list[str]] = {}
        for line in self.lines:
            units.setdefault(line.name, []).append(line.unit)
        return tuple(
            f"The unit of {name} changed over time ({', '.join(repr(u) for u in found)}): one line for each."
            for name, found in units.items()
            if len(found) > 1
        )


def known_lines(sets: Sequence[SeriesSet]) -> list[Line]:
    """Every (name, unit) of the sets, in column order of the sets."""
    found: dict[tuple[str, str], dict[int, SeriesDef]] = {}
    for series_set in sets:
        for definition in series_set.series:
            found.setdefault((definition.name, definition.unit), {})[definition.id] = definition
    return [Line(name, unit, tuple(versions.values())) for (name, unit), versions in found.items()]


def make_plan(sets: Sequence[SeriesSet], names: Sequence[str], lines_max: int = SERIES_MAX) -> Plan:
    """The plan for these series names; all series when none is named. Raises QueryInvalid for a name not there."""
    lines = known_lines(sets)
    known = {line.name for line in lines}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"The nearest is {near[0]!r}" if near else f"The gateway has {len(known)} series"
            raise QueryInvalid(
                f"No series {name[:80]!r} on this gateway. {hint}; /v1/gateways/{{id}}/series lists them"
            )
    if names:
        place = {name: index for index, name in reversed(list(enumerate(names)))}
        lines = sorted((line for line in lines if line.name in place), key=lambda line: place[line.name])
    if len(lines) > lines_max:
        raise QueryInvalid(f"{len(lines)} series in one query; the most is {lines_max}. Name fewer with series=")
    number = {(line.name, line.unit): index for index, line in enumerate(lines)}
    columns = {
        series_set.id: tuple(
            Column(index, number[key], definition)
            for index, definition in enumerate(series_set.series)
            if (key := (definition.name, definition.unit)) in number
        )
        for series_set in sets
    }
    return Plan(tuple(lines), {set_id: found for set_id, found in columns.items() if found})
