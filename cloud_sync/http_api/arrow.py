"""Answers of the query engine as an Arrow IPC stream. The only importer of pyarrow, which is loaded at the first use.

Times are UTC microseconds whatever `time_unit` says: the column's type carries its unit. What JSON says beside the
readings (cursor, next page, notices) stands in the schema's metadata.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from cloud_sync.http_api.formats import GAP_NAMES
from cloud_sync.query.engine import BucketAnswer, RowAnswer
from wire.reading import CellState

if TYPE_CHECKING:
    import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"  # IANA media type of the IPC streaming format


def rows_arrow(answer: RowAnswer) -> bytes:
    """time, series, unit, value (null in a gap), quality, gap: one reading per row, by time.

    A roll-up has its mean as value, and count, min and max."""
    import pyarrow as pa

    rows = answer.rows
    gaps = rows.states != CellState.VALUE
    return _stream(
        {
            "time": _times(rows.times),
            "series": _named(rows.lines, [line.name for line in answer.lines]),
            "unit": _named(rows.lines, [line.unit for line in answer.lines]),
            "value": pa.array(rows.values, mask=gaps),
            "quality": pa.array(rows.quality),
            "gap": _named(rows.states, GAP_NAMES, mask=~gaps),
            "count": pa.array(np.maximum(rows.counts, 0), mask=gaps | (rows.counts == 0)),
            "min": pa.array(rows.lows, mask=gaps | (rows.counts == 0)),
            "max": pa.array(rows.highs, mask=gaps | (rows.counts == 0)),
        },
        {"cursor": answer.cursor, "next_page_token": answer.page_token, "notices": json.dumps(answer.notices)},
    )


def buckets_arrow(answer: BucketAnswer) -> bytes:
    """time, series, unit, count, min, max, mean (null where count is 0), gaps: one bucket per row, series by series."""
    import pyarrow as pa

    held = answer.lines
    lines = np.repeat(np.arange(len(held)), [len(each.times) for each in held])

    def column(name: str, kind: type) -> Any:
        return np.concatenate([np.empty(0, kind), *(getattr(each, name) for each in held)]).astype(kind)

    count = column("count", np.int64)
    return _stream(
        {
            "time": _times(column("times", np.int64)),
            "series": _named(lines, [each.line.name for each in held]),
            "unit": _named(lines, [each.line.unit for each in held]),
            "count": pa.array(count),
            "min": pa.array(column("minimum", np.float64), mask=count == 0),
            "max": pa.array(column("maximum", np.float64), mask=count == 0),
            "mean": pa.array(column("mean", np.float64), mask=count == 0),
            "gaps": pa.array(column("gaps", np.int64)),
        },
        {"cursor": answer.cursor, "step_us": str(answer.step_us), "notices": json.dumps(answer.notices)},
    )


def _times(times_us: Any) -> pa.Array:
    import pyarrow as pa

    return pa.array(times_us, pa.int64()).cast(pa.timestamp("us", "UTC"))


def _named(codes: Any, names: list[str], mask: Any = None) -> pa.Array:
    """Names as a dictionary column: each is written once."""
    import pyarrow as pa

    indices = pa.array(np.asarray(codes, dtype=np.int32), mask=mask)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _stream(columns: dict[str, Any], metadata: dict[str, str]) -> bytes:
    import pyarrow as pa

    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
