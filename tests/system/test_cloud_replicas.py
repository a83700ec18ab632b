"""The service on a real PostgreSQL and a real S3 server: both go away under load, and two replicas share them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import grpc.aio
import pytest

from cloud_sync.data_folder import DataFolder, open_parts
from tests.servers import S3, PostgreSQL
from tests.unit.cloud_sync.gateway import EPOCH, ROOM, Client, connect, hello, message, segment
from wire.clock import SystemClock
from wire.ranges import RangeSet
from wire.sync.frames import Ack, SeriesSetsFrame

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SEED = 20261120
GATEWAYS = 3
CLOUD_SYNC = [sys.executable, "-c", "from cloud_sync.cli import main; main()"]
AWAY_S = 4.0
AWAY_LONG_S = 60.0
SETTLE_S = 0.5  # what was durable before the cut may still be acknowledged
PROGRESS_S_MAX = 15.0
UNANSWERED_MAX = 200  # the protocol allows 256


@dataclass
class Place:
    """What replicas share: servers, environment, keys."""

    folder: Path
    postgresql: PostgreSQL
    s3: S3
    environment: dict[str, str]
    keys: list[Path] = field(default_factory=list)
    acked: list[RangeSet] = field(default_factory=list)

    def run(self, *arguments: str) -> None:
        subprocess.run([*CLOUD_SYNC, *arguments], check=True, stdout=subprocess.DEVNULL, env=self.environment)

    @property
    def count(self) -> int:
        return sum(ranges.count for ranges in self.acked)

    def token(self) -> str:
        """Of a program that watches the metrics."""
        command = [*CLOUD_SYNC, "api-token", "create", "watch", "--data", str(self.folder / "first")]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    @contextmanager
    def replica(self, name: str) -> Iterator[Replica]:
        """A running service with a data folder of its own; it is told where the rest is by its environment."""
        data, log = self.folder / name, self.folder / f"{name}.log"
        (data / "pki").mkdir(parents=True, exist_ok=True)
        for file in ("ca.pem", "server.pem", "server.key"):
            (data / "pki" / file).write_bytes((self.folder / "first" / "pki" / file).read_bytes())
        command = [*CLOUD_SYNC, "serve", "--data", str(data), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        with (
            log.open("w") as err,
            subprocess.Popen(
                [*command, "--log-level", "warning"],
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                env=self.environment,
            ) as process,
        ):
            try:
                assert process.stdout is not None
                words = dict(word.split("=", 1) for word in process.stdout.readline().split() if "=" in word)
                assert words, log.read_text()
                yield Replica(process, words["grpc"], words["http"], log, self.token())
            finally:
                process.kill()

    def check(self) -> None:
        """Everything acknowledged is stored, nothing twice, and its bytes are those that were sent."""
        folder = DataFolder(
            self.folder / "first", self.environment["CLOUD_SYNC_CATALOG"], self.environment["CLOUD_SYNC_OBJECT_STORE"]
        )
        catalog, store = open_parts(folder, SystemClock())
        for keys, acked in zip(self.keys, self.acked):
            assert acked.count > 0
            stored = catalog.hello(keys.name, hello()).coverage[0].stored
            assert (acked - stored).count == 0, "acknowledged and gone"
            rows = catalog.messages(keys.name, [ROOM.id], 0, 2**62)
            starts = [(row.t_min_us - row.offset_us) // 1_000_000 for row in rows]
            assert len(starts) == len(set(starts)), "a message is there twice"
            assert RangeSet((first, first + 10) for first in starts) == stored
            for row, first in list(zip(rows, starts))[::20]:
                assert row.epoch == EPOCH
                assert store.get(row.pack_key, row.offset, row.length) == segment(first)
        catalog.close()


@dataclass
class Replica:
    process: subprocess.Popen[str]
    grpc: str
    http: str
    log: Path
    token: str

    def metrics(self) -> bytes:
        asked = urllib.request.Request(f"{self.http}/metrics", headers={"authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return bytes(answer.read())


@pytest.fixture
def place(tmp_path: Path, postgresql_server: PostgreSQL, s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Place:
    print("seed", SEED)
    settings = {
        **s3_server.credentials,
        "CLOUD_SYNC_CATALOG": postgresql_server.empty(),
        "CLOUD_SYNC_OBJECT_STORE": s3_server.url(secrets.token_hex(6)),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    made = Place(tmp_path, postgresql_server, s3_server, {**os.environ, **settings})
    made.run("init", "--data", str(tmp_path / "first"))
    for index in range(GATEWAYS):
        made.keys.append(tmp_path / f"gw-{index}")
        made.acked.append(RangeSet())
        made.run("cert", "issue", f"gw-{index}", "--data", str(tmp_path / "first"), "--out", str(made.keys[-1]))
    return made


async def send_for_ever(address: str, keys: Path, acked: RangeSet, chance: random.Random) -> None:
    """A gateway that comes again after each failure, and sends nearly in order what is not covered."""
    while True:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with connect(address, keys) as client:
                covered = (await client.open(hello(sets=[ROOM.id]))).coverage[0].stored
                assert (acked - covered).count == 0, "acknowledged, and not covered"
                await client.send(SeriesSetsFrame((ROOM,)))
                room = asyncio.Semaphore(UNANSWERED_MAX)
                reading = asyncio.create_task(read_acks(client, acked, room))
                sending = asyncio.create_task(send_all(client, covered, chance, room))
                try:
                    await asyncio.wait([reading, sending], return_when=asyncio.FIRST_COMPLETED)
                    for task in (reading, sending):
                        if task.done():
                            task.result()
                finally:
                    reading.cancel()
                    sending.cancel()
                    await asyncio.gather(reading, sending, return_exceptions=True)
        await asyncio.sleep(chance.uniform(0.05, 0.3))


async def send_all(client: Client, covered: RangeSet, chance: random.Random, room: asyncio.Semaphore) -> None:
    for block in range(0, 100_000, 50):
        for index in chance.sample(range(block, block + 50), 50):
            if not covered.contains(index * 10, index * 10 + 10):
                await room.acquire()
                await client.send(message(index, index * 10))
        if not covered.contains(block * 10, block * 10 + 500):
            await asyncio.sleep(0.05)


async def read_acks(client: Client, acked: RangeSet, room: asyncio.Semaphore) -> None:
    while (frame := await client.receive()) is not None:
        assert isinstance(frame, Ack), frame
        for _, ranges in frame.stored:
            acked.update(ranges)
        for _ in frame.message_ids:
            room.release()


async def under_load(place: Place, replicas: list[Replica], story: Callable[[], Awaitable[None]]) -> None:
    """Every gateway sends the same to every replica while the story happens."""
    senders = [
        asyncio.create_task(send_for_ever(replica.grpc, keys, acked, random.Random(SEED + number)))
        for number, replica in enumerate(replicas)
        for keys, acked in zip(place.keys, place.acked)
    ]
    try:
        telling = asyncio.create_task(story())  # type: ignore[arg-type]
        await asyncio.wait([telling, *senders], return_when=asyncio.FIRST_COMPLETED)
        for task in (telling, *senders):
            if task.done():
                task.result()
    finally:
        for task in senders:
            task.cancel()
        await asyncio.gather(*senders, return_exceptions=True)


async def progress(place: Place) -> None:
    """Wait until more of every gateway is acknowledged."""
    before = [ranges.count for ranges in place.acked]
    async with asyncio.timeout(PROGRESS_S_MAX):
        while any(ranges.count < count + 100 for ranges, count in zip(place.acked, before)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def away(
    place: Place, replica: Replica, away_s: float, kill: Callable[[], None], start: Callable[[], None]
) -> None:
    """Kill a server, see that nothing is acknowledged and the rest goes on, start it again, see progress."""
    assert b"tidegate_pack_failures_total" in await asyncio.to_thread(replica.metrics)
    await asyncio.to_thread(kill)
    await asyncio.sleep(SETTLE_S)
    before = place.count
    await asyncio.sleep(away_s)
    assert place.count == before, "acknowledged while a server was away"
    assert replica.process.poll() is None
    assert b"tidegate_pack_failures_total" in await asyncio.to_thread(replica.metrics)  # also without a catalog
    await asyncio.to_thread(start)
    await progress(place)


@pytest.mark.parametrize(
    "away_s",
    [AWAY_S, pytest.param(AWAY_LONG_S, marks=[pytest.mark.nightly, pytest.mark.timeout(2 * AWAY_LONG_S + 180)])],
)
def test_nothing_is_lost_or_doubled_when_s3_and_postgresql_go_and_return(place: Place, away_s: float) -> None:
    with place.replica("a") as replica:

        async def story() -> None:
            await progress(place)
            await away(place, replica, away_s, place.s3.kill, place.s3.start)
            kill = partial(place.postgresql.kill, signal.SIGQUIT)
            await away(place, replica, away_s, kill, place.postgresql.start)

        asyncio.run(under_load(place, [replica], story))
        said = replica.log.read_text()
    place.check()
    print(said)
    assert re.findall(r"outage (.+?) (?:error|after_s)=", said) == [
        "object store lost, nothing is acknowledged until it is back",
        "object store is back",
        "catalog lost, nothing is acknowledged until it is back",
        "catalog is back",
    ]
    others = [line for line in said.splitlines() if "logger=cloud_sync.outage" not in line]
    assert all("no CA key here" in line for line in others), "an outage is said once, its end once"
    assert place.environment["AWS_SECRET_ACCESS_KEY"] not in said


def test_two_replicas_take_the_same_gateways_messages_once(place: Place) -> None:
    with place.replica("a") as one, place.replica("b") as two:

        async def story() -> None:
            await progress(place)
            await asyncio.sleep(2.0)
            one.process.kill()
            one.process.wait()
            await progress(place)

        asyncio.run(under_load(place, [one, two], story))
        print(one.log.read_text(), two.log.read_text())
    place.check()
