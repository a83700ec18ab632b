"""Series sets as JSON text: how the catalog and the object store keep what numbers mean."""

from __future__ import annotations

import json
from dataclasses import asdict

from wire.series import SeriesDef, SeriesSet, StampUnit, ValueType


def definition_text(series_set: SeriesSet) -> str:
    """One line of JSON, keys sorted; `definition_set` reads it back to the same content hash."""
    document = {"stamp_unit": int(series_set.stamp_unit), "series": [asdict(s) for s in series_set.series]}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def definition_set(text: str) -> SeriesSet:
    """Inverse of `definition_text`."""
    document = json.loads(text)
    series = tuple(SeriesDef(**{**d, "value_type": ValueType(d["value_type"])}) for d in document["series"])
    return SeriesSet(series, StampUnit(document["stamp_unit"]))
