"""The syncer against a real gRPC server with mutual TLS and real certificates."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_sync.auth.ca import PkiFiles, create_ca
from edge_agent.enrol.trust import TrustFile
from edge_agent.errors import LinkDown, OutboxFull
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.recorder import Recorder
from edge_agent.outbox.view import RecorderView
from edge_agent.sync.channel import REASON_LOST, brief
from edge_agent.sync.credentials import Credentials
from edge_agent.sync.data_plan import Plan
from edge_agent.sync.grpc_transport import SyncClient
from edge_agent.sync.policy import PolicyOptions, SyncPolicy
from edge_agent.sync.window import parse_window
from tests.unit.cloud_sync.gateway import ROOM
from tests.unit.cloud_sync.grpc_api.test_server import Cloud, issue
from tests.unit.cloud_sync.grpc_api.test_server import cloud as cloud  # noqa: PLC0414 - a fixture
from wire.clock import SystemClock
from wire.fetching import FETCH_METHOD, FetchRequest, Piece, decode_piece
from wire.ranges import RangeSet
from wire.reading import Tick
from wire.sync.gateway import Identity, SyncOptions

WAIT_S = 15.0
LOGGER = "edge_agent.sync.grpc_transport"


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder.open(
        tmp_path / "state", tmp_path / "run", SystemClock(), "boot", "machine", OutboxOptions(journal_bytes=65_536)
    )
    recorder.register(ROOM)
    yield recorder
    recorder.abandon()


def take(recorder: Recorder, first: int, count: int) -> None:
    width = len(ROOM.series)
    recorder.take([Tick(ROOM.id, stamp, (stamp,) * width) for stamp in range(first, first + count)])
    recorder.commit()


@asynccontextmanager
async def syncing(
    recorder: Recorder,
    address: str,
    keys: Path,
    server_name: str = "",
    rules: PolicyOptions | None = None,
    trust: TrustFile | None = None,
) -> AsyncIterator[SyncClient]:
    view = recorder.view()
    client = SyncClient(
        view,
        Identity(b"m" * 16, "test", "config"),
        SyncOptions(backoff_base_s=0.05, backoff_max_s=0.2),
        Credentials(keys / "ca.pem", keys / "cert.pem", keys / "key.pem"),
        address=address,
        server_name=server_name,
        policy=SyncPolicy(rules or PolicyOptions(), SystemClock(), UTC, "boot", view.keep, view.kept),
        clock=SystemClock(),
        rng=random.Random(1),
        trust=trust,
    )
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - it looks at the outbox, which has no events
            await asyncio.sleep(0.02)


def commit_acks(recorder: Recorder) -> int:
    """Cells that wait after what was acknowledged has been deleted."""
    recorder.commit()
    return recorder.stats().cells


async def test_what_is_committed_arrives_and_is_deleted_on_the_ack(cloud: Cloud, recorder: Recorder) -> None:
    take(recorder, 0, 10)
    async with syncing(recorder, cloud.address, cloud.keys) as client:
        await until(client.is_drained)
        assert client.status.connected
        assert cloud.stored(epoch=recorder.epoch) == [(0, recorder.stats().next_seq)]
        take(recorder, 10, 5)
        client.committed()
        await until(client.is_drained)
    assert commit_acks(recorder) == 0
    assert cloud.stored(epoch=recorder.epoch) == [(0, 15 * len(ROOM.series))]
    recorder.close()


async def test_a_call_goes_over_the_stream_s_connection_and_is_metered(cloud: Cloud, recorder: Recorder) -> None:
    data = bytes(range(256)) * 256
    target = cloud.folder / "objects" / "ota" / "targets" / "a.bin"
    target.parent.mkdir(parents=True)
    target.write_bytes(data)
    request = FetchRequest("targets/a.bin", 0, len(data))
    async with syncing(recorder, cloud.address, cloud.keys) as client:
        await until(lambda: client.status.connected)
        before = client.socket_bytes
        answer = await client.call(FETCH_METHOD, request.encode(), 20.0)
        assert decode_piece(answer, len(data)) == Piece(data, len(data))
        await until(lambda: client.socket_bytes > before + len(data))
        with pytest.raises(LinkDown, match="UNIMPLEMENTED"):
            await client.call("/tidegate.wire.v1.UpdateService/Unknown", b"", 20.0)
    with pytest.raises(LinkDown, match="no connection"):
        await client.call(FETCH_METHOD, request.encode(), 20.0)


async def test_a_cloud_that_is_away_is_told_once(
    cloud: Cloud, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    take(recorder, 0, 3)
    caplog.set_level(logging.INFO, LOGGER)
    async with syncing(recorder, f"127.0.0.1:{port}", cloud.keys) as client:
        await until(lambda: client.status.reconnect_at is not None)
        await asyncio.sleep(1.0)  # several tries
        assert [r.levelname for r in caplog.records] == ["WARNING"]
        assert f"127.0.0.1:{port}" in caplog.text
        assert "refused" in caplog.text
    assert commit_acks(recorder) > 0
    recorder.close()


async def test_a_server_that_stops_is_found_again(
    cloud: Cloud, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with syncing(recorder, cloud.address, cloud.keys) as client:
        await until(lambda: client.status.connected)
        await cloud.server.stop()
        await until(lambda: not client.status.connected)
        take(recorder, 0, 3)
        port = int(cloud.address.rpartition(":")[2])
        cloud.server._stopping = False
        assert await cloud.server.start("127.0.0.1", port) == port
        await until(client.is_drained)
    levels = [record.levelname for record in caplog.records if record.name == LOGGER]
    assert levels == ["INFO", "WARNING", "INFO"], caplog.text
    assert "again" in caplog.records[-1].getMessage()
    recorder.close()


async def test_a_full_disk_costs_the_connection_not_the_agent(
    cloud: Cloud, recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new generation is to be written down before anything is sent; sensors must not stop for want of room."""
    take(recorder, 0, 3)
    adopt = RecorderView.adopt_generation
    tries: list[int] = []

    def full_once(view: RecorderView, generation: int, gone: list[tuple[int, RangeSet]]) -> None:
        tries.append(generation)
        if len(tries) == 1:
            raise OutboxFull("no room on the disk")
        adopt(view, generation, gone)

    monkeypatch.setattr(RecorderView, "adopt_generation", full_once)
    async with syncing(recorder, cloud.address, cloud.keys) as client:
        await until(client.is_drained)
    assert len(tries) == 2
    assert "no room on the disk" in caplog.text
    recorder.close()


async def refused(
    recorder: Recorder, address: str, keys: Path, caplog: pytest.LogCaptureFixture, name: str = ""
) -> str:
    """What the log says of credentials that do not fit."""
    take(recorder, 0, 3)
    async with syncing(recorder, address, keys, name) as client:
        await until(lambda: bool(client.status.last_error))
        assert not client.status.connected
    assert commit_acks(recorder) > 0, "nothing may be lost"
    recorder.close()
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    assert "sync explain" not in record.getMessage(), "a refusal names its own fix"
    return record.getMessage()


async def test_an_expired_certificate_is_named(
    cloud: Cloud, recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = issue(cloud.files, "gw-a", tmp_path / "old", datetime.now(UTC) - timedelta(days=30), days=1)
    told = await refused(recorder, cloud.address, keys, caplog)
    assert "certificate has expired" in told
    assert str(keys / "cert.pem") in told
    assert "Try: cloud-sync cert issue" in told, "edge-agent renew is for those who joined"


async def test_a_certificate_of_another_ca_is_named(
    cloud: Cloud, recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = PkiFiles(tmp_path / "foreign")
    foreign.folder.mkdir()
    create_ca(foreign, [])
    keys = issue(foreign, "gw-a", tmp_path / "foreign-gw")
    (keys / "ca.pem").write_bytes(cloud.files.ca.read_bytes())
    told = await refused(recorder, cloud.address, keys, caplog)
    assert f"the cloud refuses {keys / 'cert.pem'}" in told


async def test_a_cloud_of_another_ca_is_not_trusted(
    cloud: Cloud, recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = PkiFiles(tmp_path / "foreign")
    foreign.folder.mkdir()
    create_ca(foreign, [])
    keys = issue(foreign, "gw-a", tmp_path / "foreign-gw")
    told = await refused(recorder, cloud.address, keys, caplog)
    assert "the cloud's certificate is refused" in told
    assert str(keys / "ca.pem") in told


async def test_a_server_name_that_is_not_in_the_certificate(
    cloud: Cloud, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    told = await refused(recorder, cloud.address, cloud.keys, caplog, "elsewhere.example")
    assert "the cloud's certificate is refused" in told
    assert "server_name" in told


@pytest.mark.parametrize("content", [b"", b"not PEM", None])
async def test_a_key_that_cannot_be_used(
    cloud: Cloud, recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    keys = issue(cloud.files, "gw-a", tmp_path / "broken")
    if content is None:
        (keys / "key.pem").unlink()
    else:
        (keys / "key.pem").write_bytes(content)
    assert str(keys / "key.pem") in await refused(recorder, cloud.address, keys, caplog)


async def test_the_sockets_bytes_are_counted_and_kept(cloud: Cloud, recorder: Recorder) -> None:
    take(recorder, 0, 2000)
    async with syncing(recorder, cloud.address, cloud.keys, rules=PolicyOptions(plans=(Plan("*", 10**9),))) as client:
        await until(client.is_drained)
        sent = client.status.bytes_sent
        await until(lambda: client.socket_bytes > sent)
        assert client.policy.interface == "lo"
    assert sent + 3000 < client.socket_bytes < sent + 20_000, "the handshake with its certificates is counted too"
    assert client.policy.limits()[0][1].used == client.socket_bytes
    client.policy.close()
    recorder.close()


async def test_a_pause_ends_the_stream_and_resume_brings_it_back(cloud: Cloud, recorder: Recorder) -> None:
    async with syncing(recorder, cloud.address, cloud.keys) as client:
        await until(lambda: client.status.connected)
        client.policy.pause(None, alarms=False)
        client.reconsider()
        await until(lambda: not client.status.connected)
        take(recorder, 0, 3)
        client.committed()
        await asyncio.sleep(0.3)
        assert not client.status.connected
        assert client.status.last_error == ""
        client.policy.resume()
        client.reconsider()
        await until(client.is_drained)
    recorder.close()


async def test_now_goes_through_a_shut_window_and_shuts_it_again(cloud: Cloud, recorder: Recorder) -> None:
    month = (datetime.now(UTC).month + 5) % 12 + 1  # half a year away
    rules = PolicyOptions((parse_window(f"0 0 1 {month} *", 60),))
    take(recorder, 0, 3)
    async with syncing(recorder, cloud.address, cloud.keys, rules=rules) as client:
        # a machine whose clock is not set connects once, to ask the cloud for the time
        await until(lambda: [hold.code for hold in client.policy.holds()] == ["window"])
        await until(lambda: not client.status.connected)
        assert not client.is_drained()
        client.hurry()
        await until(client.is_drained)
        await until(lambda: not client.status.connected)
    recorder.close()


async def test_now_does_not_wait_for_the_back_off(cloud: Cloud, recorder: Recorder) -> None:
    take(recorder, 0, 3)
    async with syncing(recorder, cloud.address, cloud.keys) as client:
        await until(client.is_drained)
        client._machine._backoff._base_s = client._machine._backoff._max_s = 1e6
        await cloud.server.stop()
        await until(lambda: (client.retry_in_s or 0.0) > 100.0)
        cloud.server._stopping = False
        await cloud.server.start("127.0.0.1", int(cloud.address.rpartition(":")[2]))
        client.hurry()
        await until(lambda: client.status.connected)
        assert client.retry_in_s is None
    recorder.close()


def test_the_operating_systems_reason_is_picked_out() -> None:
    detail = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: Failed to connect to remote host: "
        "connect: Connection refused (111)"
    )
    assert brief(detail).endswith("Connection refused (111)")
    assert "last error" not in brief(detail)
    assert brief("Socket closed") == "Socket closed"
    assert brief(REASON_LOST) == "gRPC lost the cloud's reason; the next try asks again"
