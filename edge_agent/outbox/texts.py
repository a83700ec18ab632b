"""Ids, anchors and definitions of series as they stand in the outbox' tables."""

from __future__ import annotations

import json
import secrets

from edge_agent.errors import OutboxCorrupt
from wire.clock import Anchor
from wire.ranges import SEQ_MAX
from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType


def new_id() -> int:
    """63 random bits, never 0: SQLite's integers are signed, and 0 means none."""
    return secrets.randbelow(SEQ_MAX) + 1


def anchor_text(anchor: Anchor) -> str:
    """For the epochs' row."""
    return json.dumps([anchor.boottime_us, anchor.wall_us, anchor.synchronised, anchor.uncertainty_us])


def anchor_of(text: str | None) -> Anchor | None:
    """Inverse of `anchor_text`."""
    return None if text is None else Anchor(*json.loads(text))


def set_text(series_set: SeriesSet) -> str:
    """A definition as JSON; each series as it is hashed."""
    series = [json.loads(definition.canonical) for definition in series_set.series]
    return json.dumps({"stamp_unit": int(series_set.stamp_unit), "series": series}, separators=(",", ":"))


def proven_set(set_id: int, text: str) -> SeriesSet:
    """The definition that a row holds. Raises OutboxCorrupt unless its content hash is its id."""
    try:
        found = set_of(text)
    except (ValueError, TypeError, KeyError) as error:
        raise OutboxCorrupt(f"series set {set_id:016x} is not a definition: {error}") from error
    if found.id != set_id:
        raise OutboxCorrupt(f"series set {set_id:016x} holds another definition, {found.id:016x}")
    return found


def set_of(text: str) -> SeriesSet:
    """Inverse of `set_text`."""
    parts = json.loads(text)
    series = (
        SeriesDef(**{**definition, "value_type": ValueType(definition["value_type"])}) for definition in parts["series"]
    )
    return SeriesSet(tuple(series), StampUnit(parts["stamp_unit"]))
