"""Answers of the query engine as an Arrow IPC stream. The only importer of nanoarrow, which is loaded at the first use.

Times are UTC microseconds whatever `time_unit` says: the column's type carries its unit. What JSON says beside the
readings (cursor, next page, notices) stands in the schema's metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cloud_sync.http_api.formats import GAP_NAMES
from cloud_sync.query.engine import BucketAnswer, RowAnswer
from wire.reading import CellState

if TYPE_CHECKING:
    import nanoarrow as na

ARROW = "application/vnd.apache.arrow.stream"  # IANA media type of the IPC streaming format


def rows_arrow(answer: RowAnswer) -> bytes:
    """time, series, unit, value (null in a gap), quality, gap: one reading per row, by time.

    A roll-up has its mean as value, and count, min and max."""
    rows = answer.rows
    held = rows.states == CellState.VALUE
    rolled = held & (rows.counts > 0)
    return _stream(
        {
            "time": _times(rows.times),
            "series": _texts([line.name for line in answer.lines], rows.lines),
            "unit": _texts([line.unit for line in answer.lines], rows.lines),
            "value": _numbers(rows.values, held),
            "quality": _numbers(rows.quality),
            "gap": _texts(GAP_NAMES, rows.states, ~held),
            "count": _numbers(np.maximum(rows.counts, 0), rolled),
            "min": _numbers(rows.lows, rolled),
            "max": _numbers(rows.highs, rolled),
        },
        {"cursor": answer.cursor, "next_page_token": answer.page_token, "notices": json.dumps(answer.notices)},
    )


def buckets_arrow(answer: BucketAnswer) -> bytes:
    """time, series, unit, count, min, max, mean (null where count is 0), gaps: one bucket per row, series by series."""
    held = answer.lines
    lines = np.repeat(np.arange(len(held)), [len(each.times) for each in held])

    def column(name: str, kind: type) -> Any:
        return np.concatenate([np.empty(0, kind), *(getattr(each, name) for each in held)]).astype(kind)

    count = column("count", np.int64)
    return _stream(
        {
            "time": _times(column("times", np.int64)),
            "series": _texts([each.line.name for each in held], lines),
            "unit": _texts([each.line.unit for each in held], lines),
            "count": _numbers(count),
            "min": _numbers(column("minimum", np.float64), count > 0),
            "max": _numbers(column("maximum", np.float64), count > 0),
            "mean": _numbers(column("mean", np.float64), count > 0),
            "gaps": _numbers(column("gaps", np.int64)),
        },
        {"cursor": answer.cursor, "step_us": str(answer.step_us), "notices": json.dumps(answer.notices)},
    )


def _times(times_us: NDArray[np.int64]) -> na.c_array:
    import nanoarrow as na

    return na.c_array_from_buffers(na.timestamp("us", "UTC"), len(times_us), [None, np.ascontiguousarray(times_us)])


def _numbers(values: NDArray[Any], held: NDArray[np.bool_] | None = None) -> na.c_array:
    """Null where `held` is false; Arrow calls numpy's numbers as numpy does."""
    import nanoarrow as na

    kind = getattr(na, values.dtype.name)()
    return na.c_array_from_buffers(kind, len(values), [_bits(held), np.ascontiguousarray(values)])


def _texts(texts: Sequence[str], which: NDArray[Any], held: NDArray[np.bool_] | None = None) -> na.c_array:
    """The text of each row by its number; null where `held` is false."""
    import nanoarrow as na

    encoded = [text.encode() for text in texts]
    sizes = np.array([len(text) for text in encoded], np.int32)
    ends = np.zeros(len(which) + 1, np.int32)
    np.cumsum(sizes[which], out=ends[1:])
    data = b"".join([encoded[number] for number in which.tolist()])
    return na.c_array_from_buffers(na.string(), len(which), [_bits(held), ends, data])


def _bits(held: NDArray[np.bool_] | None) -> NDArray[np.uint8] | None:
    return None if held is None else np.packbits(held, bitorder="little")


def _stream(columns: dict[str, na.c_array], metadata: dict[str, str]) -> bytes:
    import nanoarrow as na
    from nanoarrow.ipc import StreamWriter

    fields = {name: column.schema for name, column in columns.items()}
    schema = na.Schema(na.Type.STRUCT, fields=fields, nullable=False, metadata=metadata)
    length = next(iter(columns.values())).length
    table = na.c_array_from_buffers(schema, length, [None], children=columns.values())
    sink = io.BytesIO()
    with StreamWriter.from_writable(sink) as writer:
        writer.write_array(table)
    return sink.getvalue()
