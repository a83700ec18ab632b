"""Ingest: durable and decoded readings per CPU-second of the server process, and how long an acknowledgement takes.

    python -m benchmarks.ingest [--json FILE] [--seconds S]

A real `cloud-sync serve` with mutual TLS takes pre-encoded messages of real sensor data over several streams. Beside
it, in the same run, a bare grpc.aio server answers the same bytes and stores nothing: the floor of the transport.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from benchmarks.columns import NoData, batches, data_directory, decimal_columns
from benchmarks.report import OURS, Report
from wire.codec import encode
from wire.messages import SYNC_METHOD, GatewayFrames
from wire.ranges import RangeSet
from wire.segment import AtomRef
from wire.series import SeriesSet
from wire.sync.frames import Ack, EpochOffer, Hello, MessageFrame, SeriesSetsFrame, Welcome

CASES = {"250 per message": 5, "3000 per message": 60}  # rows of 50 columns
STREAMS = 8
IN_FLIGHT = 32  # messages per stream: enough to keep the server busy, little enough that queues stay short
BATCHES = 40
CHAIN = 1000  # messages of one epoch
EPOCHS = 64
ECHO = "grpc echo"
METHOD = (
    "One cloud-sync process on the same machine, local folder and SQLite, mutual TLS, {streams} gateways with a stream "
    "each and {in_flight} messages in flight per stream, for {seconds:g} s from {warmup:g} s after all are under way. "
    "Messages are encoded beforehand from the real decimal columns of benchmarks.wire, 50 series each. CPU is user + "
    "system time of the server process alone; every message is decoded whole, written with fsync and committed with "
    "fsync before its acknowledgement. Acknowledgement time is from before the write to after the read, at this full "
    "load. 'grpc echo' is a bare grpc.aio server that answers each message with 16 bytes and does nothing else."
)
WARMUP_S = 1.5


@dataclass(slots=True)
class Load:
    """What the client saw. Times are seconds of the monotonic clock."""

    started_s: float = 0.0
    messages: int = 0
    streams: int = 0  # that have their first acknowledgement
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chain:
    """Messages of one epoch, in order, and the definitions they need."""

    segments: list[bytes]
    sets: tuple[SeriesSet, ...]
    cells: int


def make_chain(rows: int) -> Chain:
    """CHAIN messages cut from BATCHES different windows of real data, with consecutive Seq."""
    data = data_directory()
    found = list(batches(data, decimal_columns(data), rows, BATCHES))
    sets = {SeriesSet(tuple(column.series for column in batch.columns)) for batch in found}
    segments = []
    cells = rows * len(found[0].columns)
    for index in range(CHAIN):
        segment = found[index % BATCHES].segment()
        segment.atoms = (AtomRef(index * cells, cells, (rows,)),)
        segments.append(encode(segment))
    return Chain(segments, tuple(sets), cells)


@contextmanager
def server(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and the address it prints as `grpc=...`."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield process, next(word.removeprefix("grpc=") for word in line.split() if word.startswith("grpc="))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Gateway:
    """One gateway's stream: IN_FLIGHT messages on their way until `stop`."""

    keys: Path
    chain: Chain
    load: Load
    echo: bool
    frames: GatewayFrames = field(default_factory=GatewayFrames)
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))
    sent_s: dict[int, float] = field(default_factory=dict)

    async def send(self, address: str, stop: asyncio.Event) -> None:
        """Open the stream and send until `stop`; returns when all is acknowledged."""
        ca, key, certificate = ((self.keys / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        async with grpc.aio.secure_channel(address, credentials, (("grpc.http2.bdp_probe", 0),)) as channel:
            call = channel.stream_stream(SYNC_METHOD)()
            offers = tuple(EpochOffer(epoch, 0, RangeSet()) for epoch in range(1, EPOCHS + 1))
            names = tuple(one.id for one in self.chain.sets)
            hello = self.frames.encode(Hello(b"bench", "bench", "bench", 0, offers, names))
            if not self.echo:
                await call.write(hello)
                welcome = self.frames.decode(await call.read())
                assert isinstance(welcome, Welcome)
                needed = tuple(one for one in self.chain.sets if one.id in welcome.need_series)
                await call.write(self.frames.encode(SeriesSetsFrame(needed)))
            reading = asyncio.create_task(self._read(call))
            for index in range(EPOCHS * CHAIN):
                await self.places.acquire()
                if stop.is_set():
                    break
                self.sent_s[index] = time.monotonic()
                end = (index % CHAIN + 1) * self.chain.cells
                message = MessageFrame(index, 1 + index // CHAIN, end, self.chain.segments[index % CHAIN])
                await call.write(self.frames.encode(message))
            await call.done_writing()
            await reading

    async def _read(self, call: grpc.aio.StreamStreamCall[bytes, bytes]) -> None:
        count = 0
        while (data := await call.read()) is not grpc.aio.EOF:
            settled: tuple[int, ...] = (count,)  # the echo answers in order
            if not self.echo:
                frame = self.frames.decode(data)
                assert isinstance(frame, Ack), frame
                settled = frame.message_ids
            now_s = time.monotonic()
            if not count:
                self.load.streams += 1
            for index in settled:
                self.places.release()
                sent_s = self.sent_s.pop(index)
                if self.load.started_s and sent_s >= self.load.started_s:
                    self.load.latencies_s.append(now_s - sent_s)
            count += len(settled)
            self.load.messages += len(settled)


@dataclass(frozen=True, slots=True)
class Result:
    """One run: what was acknowledged within `taken_s`, the server's CPU-seconds in it, and the latencies."""

    readings: int
    messages: int
    taken_s: float
    cpu_s: float
    latencies_s: list[float]


async def measure(address: str, pid: int, keys: list[Path], chain: Chain, seconds: float, *, echo: bool) -> Result:
    """Load a server."""
    load = Load()
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as streams:
        for folder in keys:
            streams.create_task(Gateway(folder, chain, load, echo).send(address, stop))
        while load.streams < len(keys):  # noqa: ASYNC110 - a count, looked at only here
            await asyncio.sleep(0.05)
        await asyncio.sleep(WARMUP_S)
        load.started_s, load.messages, cpu_s = time.monotonic(), 0, cpu_seconds(pid)
        await asyncio.sleep(seconds)
        taken_s, messages, cpu_s = time.monotonic() - load.started_s, load.messages, cpu_seconds(pid) - cpu_s
        stop.set()
    return Result(messages * chain.cells, messages, taken_s, cpu_s, load.latencies_s)


def add_rows(report: Report, system: str, case: str, result: Result) -> None:
    """The numbers of one run."""
    percentiles = statistics.quantiles(result.latencies_s, n=100)
    report.add(system, case, "readings_per_cpu_s", result.readings / result.cpu_s, "1/s")
    report.add(system, case, "readings_per_s", result.readings / result.taken_s, "1/s")
    report.add(system, case, "messages_per_cpu_s", result.messages / result.cpu_s, "1/s")
    report.add(system, case, "ack_ms_p50", percentiles[49] * 1e3, "ms")
    report.add(system, case, "ack_ms_p99", percentiles[98] * 1e3, "ms")


def cloud_sync(*arguments: str) -> tuple[str, ...]:
    """The command line of the service, whether it is installed or not."""
    return ("-c", "from cloud_sync.cli import main; main()", *arguments)


def run(case: str, rows: int, report: Report, seconds: float, folder: Path) -> None:
    """One case against the service and against the floor."""
    chain = make_chain(rows)
    data = str(folder / "data")
    subprocess.run([sys.executable, *cloud_sync("init", "--data", data)], check=True, stdout=subprocess.DEVNULL)
    keys = [folder / f"gateway-{index}" for index in range(STREAMS)]
    for key in keys:
        issue = cloud_sync("cert", "issue", key.name, "--data", data, "--out", str(key))
        subprocess.run([sys.executable, *issue], check=True, stdout=subprocess.DEVNULL)
    serve = cloud_sync(
        "serve", "--data", data, "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-level", "warning"
    )
    with server(*serve) as (process, address):
        add_rows(report, OURS, case, asyncio.run(measure(address, process.pid, keys, chain, seconds, echo=False)))
    check_stored(data, keys, chain)
    with server("-m", "benchmarks.grpc_echo", str(folder / "data" / "pki")) as (process, address):
        add_rows(report, ECHO, case, asyncio.run(measure(address, process.pid, keys, chain, seconds, echo=True)))


def check_stored(data: str, keys: list[Path], chain: Chain) -> None:
    """What was measured is there: each gateway's ledger holds whole messages and nothing is pending."""
    for key in keys:
        command = [sys.executable, *cloud_sync("ledger", key.name, "--data", data, "--json")]
        ledger = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        assert ledger["stored"] > 0
        assert ledger["stored"] % chain.cells == 0
        assert ledger["pending"] == 0, ledger


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Durable and decoded readings per CPU-second.")
    parser.add_argument("--json", help="write the report there")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    options = parser.parse_args()
    method = METHOD.format(streams=STREAMS, in_flight=IN_FLIGHT, seconds=options.seconds, warmup=WARMUP_S)
    report = Report("ingest", method, ("numpy", "pcodec", "grpcio", "protobuf", "sqlalchemy"))
    try:
        for case, rows in CASES.items():
            with tempfile.TemporaryDirectory(prefix="tidegate-ingest-") as folder:
                run(case, rows, report, options.seconds, Path(folder))
    except NoData as error:
        sys.exit(f"benchmarks.ingest: {error}")
    report.finish(options.json)


if __name__ == "__main__":
    main()
