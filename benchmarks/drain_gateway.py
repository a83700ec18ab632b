"""A gateway with a backlog: prepares one in a real outbox, or drains it with the agent's own syncer and tells how.

python -m benchmarks.drain_gateway FOLDER HOST:PORT      prints one line of JSON
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from datetime import UTC
from pathlib import Path

from benchmarks.columns import data_directory, decimal_columns, fifty, loop_ms
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.sync.credentials import Credentials
from edge_agent.sync.grpc_transport import SyncClient
from edge_agent.sync.policy import PolicyOptions, SyncPolicy
from edge_agent.writer import Writer
from wire.clock import SystemClock
from wire.reading import Tick
from wire.series import SeriesSet
from wire.sync.gateway import Identity, SyncOptions

ROWS = 50  # of 50 columns in an atom: 10 Hz, committed every 5 s
DRAIN_S_MAX = 600.0
LOOK_S = 0.01


def prepare(folder: Path, readings: int) -> int:
    """An outbox at `folder` with so many readings of real columns, committed as by an agent. Returns their number."""
    data, chance = data_directory(), random.Random(1)
    columns = fifty(decimal_columns(data), chance)
    mono_ms, _ = loop_ms(data, "0.1")
    series = SeriesSet(tuple(column.series for column in columns))
    recorder = open_outbox(folder)
    recorder.register(series)
    stamp = int(mono_ms[0])
    for _ in range(-(-readings // (ROWS * len(columns)))):
        starts = [chance.randrange(len(column.raw) - ROWS + 1) for column in columns]
        cells = zip(*(column.raw[at : at + ROWS].tolist() for column, at in zip(columns, starts)), strict=True)
        at = chance.randrange(len(mono_ms) - ROWS)
        stamps = (mono_ms[at : at + ROWS] - mono_ms[at] + stamp).tolist()
        stamp = stamps[-1] + 100
        recorder.take([Tick(series.id, when, row) for when, row in zip(stamps, cells, strict=True)])
        recorder.commit()
    count = recorder.stats().cells
    recorder.close()
    return count


def open_outbox(folder: Path) -> Recorder:
    """The same one, in the same boot."""
    return Recorder.open(folder / "state", folder / "run", SystemClock(), "boot", "machine", OutboxOptions())


async def drain(folder: Path, address: str) -> dict[str, float]:
    """Until the cloud has acknowledged everything. Seconds are from before the connection to the last answer."""
    recorder = open_outbox(folder)
    view, clock, keys = recorder.view(), SystemClock(), folder / "keys"
    client = SyncClient(
        view,
        Identity(b"d" * 16, "drain", "drain"),
        SyncOptions(),
        Credentials(keys / "ca.pem", keys / "cert.pem", keys / "key.pem"),
        address=address,
        server_name="",
        policy=SyncPolicy(PolicyOptions(), clock, UTC, "boot", view.keep, view.kept),
        clock=clock,
        rng=random.Random(1),
    )
    writer = Writer(recorder, lambda: None, clock)
    readings = recorder.stats().cells
    cpu_before_s, began_s = time.process_time(), time.monotonic()
    writer.start()
    syncing = asyncio.create_task(client.run())
    async with asyncio.timeout(DRAIN_S_MAX):
        while not client.is_drained():  # noqa: ASYNC110 - the outbox is asked, it does not tell
            await asyncio.sleep(LOOK_S)
    seconds, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_before_s
    status = client.status
    syncing.cancel()
    with suppress(asyncio.CancelledError):
        await syncing
    writer.stop(30.0)
    recorder.close()
    if status.last_error:
        raise SystemExit(f"the stream was lost: {status.last_error}")
    return {
        "readings": readings,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "messages": status.messages_sent,
        "payload_bytes": status.bytes_sent,
        "socket_bytes": client.socket_bytes,
    }


def main() -> None:
    """Drain and tell."""
    print(json.dumps(asyncio.run(drain(Path(sys.argv[1]), sys.argv[2]))))


if __name__ == "__main__":
    main()
