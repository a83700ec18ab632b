"""Bytes and CPU of one batch of real readings, ours beside what others send: `python -m benchmarks.wire`.

Every system gets the same readings in the same run; all are lossless for what they are given.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.columns import Batch, NoData, batches, data_directory, decimal_columns, float_columns
from benchmarks.report import OURS, Report, median_time_ns
from wire.codec import decode, encode

WINDOWS = 12  # batches per case
GZIP_LEVEL = 6  # gzip's, Telegraf's and most exporters' default

METHOD = f"""\
Batches of 50 columns that share one stamp per row. Decimal: 42 distinct columns that are printed with a fixed number of
decimals (12 of four BME280 at 1 Hz, 8 of four motes, 7 of a household meter, 15 counters of a busy gateway's kernel at
1 and 10 Hz), and 8 other windows of them. Mixed: 50 drawn from those and 22 more (17 float32 of an IMU at 92 Hz and
1 kHz, 5 of NAB, three of them float64). Every column is cut at a random row; stamps are the wake-ups of a recorded
Python deadline loop of 1 s, in milliseconds. The figure is the mean over {WINDOWS} batches, payload with its header and
without transport. Ours: wire.codec.encode of the committed segment, one atom, with Quality.RATE where the motes' data
is labelled as an introduced event; counts at declared resolution. Others get the same values as an exporter prints
them (stamps in wall time, line protocol in ns, JSON in ms), gzip -6. protobuf rows: int32 series, int64 ms, double.
Parquet: pyarrow, zstd, one row per reading (long) or per cycle (wide). pco alone: one standalone file per column and
one for the stamps, raw counts, level 8. Quality is in our payload alone. Times are medians over repeated runs of the
thread's CPU time for one batch, from arrays in memory to bytes (encode) and back (decode); peers' with formatting."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write JSON where told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    try:
        data = data_directory()
    except NoData as error:
        print(error, file=sys.stderr)
        return 1
    decimals = decimal_columns(data)
    report = Report("wire", METHOD, ("numpy", "pcodec", "protobuf", "pyarrow"))
    for case, columns, rows in (
        ("decimal 50x60", decimals, 60),
        ("mixed 50x60", decimals + float_columns(data), 60),
        ("decimal 50x5", decimals, 5),
    ):
        measure(report, case, list(batches(data, columns, rows, WINDOWS)))
    report.finish(options.json)
    return 0


def measure(report: Report, case: str, cut: list[Batch]) -> None:
    """All systems on one case."""
    readings = cut[0].readings
    segments = [batch.segment() for batch in cut]
    for name, pco in ((OURS, True), (f"{OURS} without pco", False)):
        coded = [encode(segment, pco=pco) for segment in segments]
        report.add(name, case, "bytes_per_reading", mean(map(len, coded)) / readings, "B")
        report.add(name, case, "encode_ns", _each(segments, partial(encode, pco=pco)) / readings, "ns")
        report.add(name, case, "decode_ns", _each(coded, decode) / readings, "ns")
    for name, encoder in peers().items():
        report.add(name, case, "bytes_per_reading", mean(len(encoder(batch)) for batch in cut) / readings, "B")
        report.add(name, case, "encode_ns", _each(cut[:4], encoder, repeats=3) / readings, "ns")


def _each(items: list[Any], work: Callable[[Any], object], repeats: int = 15) -> float:
    """Mean over the items of each one's median time, in nanoseconds."""
    return mean(median_time_ns(partial(work, item), repeats) for item in items)


def peers() -> dict[str, Callable[[Batch], bytes]]:
    """What others send, by name."""
    rows = protobuf_rows()
    return {
        "pco alone": pco_alone,
        "line protocol, many fields + gzip": lambda batch: gzip.compress(line_protocol_wide(batch), GZIP_LEVEL),
        "line protocol, one field + gzip": lambda batch: gzip.compress(line_protocol_long(batch), GZIP_LEVEL),
        "JSON lines + gzip": lambda batch: gzip.compress(json_lines(batch), GZIP_LEVEL),
        "protobuf rows + gzip": lambda batch: gzip.compress(rows(batch), GZIP_LEVEL),
        "Parquet long + zstd": lambda batch: parquet(batch, wide=False),
        "Parquet wide + zstd": lambda batch: parquet(batch, wide=True),
    }


def line_protocol_wide(batch: Batch) -> bytes:
    """One line per cycle, all channels as its fields: Telegraf's best case."""
    fields = [f"{name.replace('/', '_')}=" for name in batch.names]
    rows = zip(*(column.texts() for column in batch.columns))
    lines = [
        f"sensors,host=gw-0001 {','.join(map(str.__add__, fields, row))} {stamp}000000"
        for row, stamp in zip(rows, batch.wall_ms.tolist())
    ]
    return "\n".join(lines).encode()


def line_protocol_long(batch: Batch) -> bytes:
    """One line per reading."""
    heads = [f"sensors,host=gw-0001,sensor={name.replace('/', ',channel=')} value=" for name in batch.names]
    rows = zip(*(column.texts() for column in batch.columns))
    lines = [
        f"{head}{text} {stamp}000000"
        for row, stamp in zip(rows, batch.wall_ms.tolist())
        for head, text in zip(heads, row)
    ]
    return "\n".join(lines).encode()


def json_lines(batch: Batch) -> bytes:
    """One object per reading."""
    columns = [column.values.tolist() for column in batch.columns]
    lines = [
        json.dumps({"ts": stamp, "series": name, "value": column[row]}, separators=(",", ":"))
        for row, stamp in enumerate(batch.wall_ms.tolist())
        for name, column in zip(batch.names, columns)
    ]
    return "\n".join(lines).encode()


def protobuf_rows() -> Callable[[Batch], bytes]:
    """An encoder of repeated {int32 series, int64 time_ms, double value}, without series names."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bench_rows.proto", package="bench", syntax="proto3")
    row = file.message_type.add(name="Row")
    for number, (name, kind) in enumerate(
        (("series", kinds.TYPE_INT32), ("time_ms", kinds.TYPE_INT64), ("value", kinds.TYPE_DOUBLE)), 1
    ):
        row.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    whole = file.message_type.add(name="Rows")
    whole.field.add(name="rows", number=1, type=kinds.TYPE_MESSAGE, type_name=".bench.Row", label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    rows_type: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Rows"))

    def encoder(batch: Batch) -> bytes:
        message = rows_type()
        columns = [column.values.tolist() for column in batch.columns]
        for at, stamp in enumerate(batch.wall_ms.tolist()):
            for series, column in enumerate(columns):
                message.rows.add(series=series, time_ms=stamp, value=column[at])
        data: bytes = message.SerializeToString()
        return data

    return encoder


def parquet(batch: Batch, *, wide: bool) -> bytes:
    """pyarrow's defaults with zstd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if wide:
        table = pa.table({"ts": batch.wall_ms, **{n: c.values for n, c in zip(batch.names, batch.columns)}})
    else:
        n, k = len(batch.stamps), len(batch.columns)
        names = pa.array(batch.names).dictionary_encode()
        series = pa.DictionaryArray.from_arrays(np.repeat(np.arange(k, dtype=np.int32), n), names.dictionary)
        values = np.concatenate([column.values for column in batch.columns])
        table = pa.table({"series": series, "ts": np.tile(batch.wall_ms, k), "value": values})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def pco_alone(batch: Batch) -> bytes:
    """pcodec's own files, of the same raw counts, one per column."""
    import pcodec
    from pcodec import standalone

    config = pcodec.ChunkConfig()
    arrays = [batch.stamps, *(column.raw for column in batch.columns)]
    return b"".join([standalone.simple_compress(np.ascontiguousarray(array), config) for array in arrays])


if __name__ == "__main__":
    sys.exit(main())
