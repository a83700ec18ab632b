"""SIGKILL of a real service under load, again and again: every acknowledged range is there afterwards, once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.unit.cloud_sync.gateway import EPOCH, ROOM, connect, hello, message, segment
from wire.clock import SystemClock
from wire.ranges import RangeSet
from wire.sync.frames import Ack, SeriesSetsFrame

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

KILLS = 6
STREAMS = 3
SEED = 20261120
CLOUD_SYNC = [sys.executable, "-c", "from cloud_sync.cli import main; main()"]


@contextmanager
def service(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running service and its gRPC address; killed at the end unless it has gone."""
    command = [*CLOUD_SYNC, "serve", "--data", str(data), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words = dict(word.split("=", 1) for word in process.stdout.readline().split() if "=" in word)
            yield process, words["grpc"]
        finally:
            process.kill()


async def send_until_dead(address: str, keys: Path, acked: RangeSet) -> None:
    """One gateway: offer everything that is not acknowledged yet, newest coverage first learnt from Welcome."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        async with connect(address, keys) as client:
            welcome = await client.open(hello(sets=[ROOM.id]))
            covered = welcome.coverage[0].stored
            assert (acked - covered).count == 0, "acknowledged, and gone after the restart"
            if welcome.need_series:
                await client.send(SeriesSetsFrame((ROOM,)))
            reading = asyncio.create_task(_read_acks(client, acked))
            try:
                for index in range(100_000):
                    if not covered.contains(index * 10, index * 10 + 10):
                        await client.send(message(index, index * 10))
                    if index % 100 == 99:
                        await asyncio.sleep(0.02)
            finally:
                reading.cancel()


async def _read_acks(client: object, acked: RangeSet) -> None:
    while (frame := await client.receive()) is not None:  # type: ignore[attr-defined]
        assert isinstance(frame, Ack), frame
        for _, ranges in frame.stored:
            acked.update(ranges)


async def load_and_kill(data: Path, keys: list[Path], acked: list[RangeSet], seconds: float) -> None:
    with service(data) as (process, address):
        streams = [asyncio.create_task(send_until_dead(address, k, a)) for k, a in zip(keys, acked)]
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for done in await asyncio.gather(*streams, return_exceptions=True):
            if isinstance(done, AssertionError):
                raise done


def test_no_acknowledged_range_is_lost(tmp_path: Path) -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    data = tmp_path / "data"
    subprocess.run([*CLOUD_SYNC, "init", "--data", str(data)], check=True, stdout=subprocess.DEVNULL)
    keys = [tmp_path / f"gw-{index}" for index in range(STREAMS)]
    for folder in keys:
        issue = [*CLOUD_SYNC, "cert", "issue", folder.name, "--data", str(data), "--out", str(folder)]
        subprocess.run(issue, check=True, stdout=subprocess.DEVNULL)
    acked = [RangeSet() for _ in keys]
    for _ in range(KILLS):
        asyncio.run(load_and_kill(data, keys, acked, chance.uniform(0.3, 1.2)))
    assert all(ranges.count > 0 for ranges in acked)
    _compare(data, keys, acked)


def _compare(data: Path, keys: list[Path], acked: list[RangeSet]) -> None:
    """The catalog against what was acknowledged, and every stored message's bytes against what was sent."""
    from cloud_sync.data_folder import DataFolder, open_parts

    catalog, store = open_parts(DataFolder(data), SystemClock())
    for folder, ranges in zip(keys, acked):
        stored = catalog.hello(folder.name, hello()).coverage[0].stored
        assert (ranges - stored).count == 0
        rows = catalog.messages(folder.name, [ROOM.id], 0, 2**62)
        assert sum(1 for _ in rows) * 10 == stored.count, "a message is there twice, or a range without one"
        for row in rows:
            first = (row.t_min_us - row.offset_us) // 1_000_000
            assert row.epoch == EPOCH
            assert store.get(row.pack_key, row.offset, row.length) == segment(first)
    catalog.close()
    command = [*CLOUD_SYNC, "ledger", keys[0].name, "--data", str(data), "--json"]
    document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert document["stored"] >= acked[0].count
