"""The real server with real certificates on loopback: who gets in, and what one stream can do to another."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud_sync.auth.authority import Authority
from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway
from cloud_sync.auth.trust import Trust
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import CatalogDown, ConfigInvalid
from cloud_sync.grpc_api import server as server_module
from cloud_sync.grpc_api import stream as stream_module
from cloud_sync.grpc_api.assigning import Assigning, UpdateDesk
from cloud_sync.grpc_api.enrol import EnrolDesk, EnrolServer
from cloud_sync.grpc_api.peer import Gatekeeper, Peer
from cloud_sync.grpc_api.server import STREAMS_PER_GATEWAY_MAX, Credentials, GrpcServer, _Call
from cloud_sync.grpc_api.stream import Stream, StreamPorts, merge_acks
from cloud_sync.ingest.group_commit import GroupCommit
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.metrics import Metrics
from cloud_sync.rollout.director import Director
from cloud_sync.rollout.shelf import Shelf
from cloud_sync.storage.local_store import LocalStore
from tests.unit.cloud_sync.gateway import EPOCH, ROOM, Client, connect, hello, message
from wire.clock import SystemClock
from wire.join import JOIN_METHOD
from wire.messages import SYNC_METHOD
from wire.ranges import RangeSet
from wire.reading import LossReason, Tombstone
from wire.sync.cloud import CREDIT_BYTES
from wire.sync.frames import Ack, MessageFrame, NeedSeries, Overlap, Refused, SeriesSetsFrame, TombstonesFrame

Code = grpc.StatusCode


def issue(files: PkiFiles, gateway_id: str, folder: Path, now: datetime | None = None, days: int = 1) -> Path:
    folder.mkdir(parents=True)
    made = issue_gateway(files, gateway_id, now or datetime.now(UTC), days)
    (folder / "cert.pem").write_bytes(made.issued.pem)
    (folder / "key.pem").write_bytes(made.pem)
    (folder / "ca.pem").write_bytes(files.ca.read_bytes())
    return folder


@dataclass
class Cloud:
    address: str
    catalog: SqlCatalog
    server: GrpcServer
    metrics: Metrics
    files: PkiFiles
    keys: Path  # gateway gw-a
    group: asyncio.Task[None]
    folder: Path
    enrol_port: int
    enrolment: EnrolServer

    def ended(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("tidegate_streams_ended_total", {"reason": reason}) or 0.0

    def stored(self, gateway: str = "gw-a", epoch: int = EPOCH) -> list[tuple[int, int]]:
        return list(self.catalog.hello(gateway, hello(epoch)).coverage[0].stored)


@pytest_asyncio.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    files = PkiFiles(tmp_path / "pki")
    files.folder.mkdir()
    create_ca(files, [])
    async with serving(tmp_path, files) as made:
        yield made


@asynccontextmanager
async def serving(tmp_path: Path, files: PkiFiles) -> AsyncIterator[Cloud]:
    """A service in a folder, with keys and certificates as they are now."""
    clock, metrics = SystemClock(), Metrics()
    catalog, store = SqlCatalog.open(tmp_path / "catalog.sqlite", clock), LocalStore(tmp_path / "objects")
    ingestor = Ingestor(catalog, store, clock, metrics)
    group = GroupCommit(ingestor, metrics)
    with ThreadPoolExecutor(1) as pool:
        run_blocking = partial(asyncio.get_running_loop().run_in_executor, pool)
        director = Director(tmp_path / "ota", clock)
        assigning = Assigning(catalog.assignments, director, clock, run_blocking)
        credentials = Credentials(files.ca.read_bytes(), files.server.read_bytes(), files.server_key.read_bytes())
        access = catalog.access
        authority = Authority.load(files.ca, files.ca_key)
        trust = Trust(credentials.ca, authority.key_identifier)
        ports = StreamPorts(ingestor, group, catalog, clock, metrics, run_blocking, assigning, trust)
        desk = EnrolDesk(access, authority, credentials.ca, clock, run_blocking, sync_port=lambda: port)
        gatekeeper = Gatekeeper(access, run_blocking)
        unary = {**desk.identified, **UpdateDesk(Shelf(store)).methods}

        def make_stream(peer: Peer) -> Stream:
            return Stream(peer.gateway, ports, peer.issuer)

        server = GrpcServer(credentials, make_stream, metrics, gatekeeper, unary)
        enrolment = EnrolServer(credentials, desk.open, clock, metrics)
        running = asyncio.create_task(group.run())
        telling = asyncio.create_task(assigning.run())
        port = await server.start("127.0.0.1", 0)
        keys = issue(files, "gw-a", tmp_path / "gw-a")
        enrol_port = await enrolment.start("127.0.0.1", 0)
        address = f"127.0.0.1:{port}"
        yield Cloud(address, catalog, server, metrics, files, keys, running, tmp_path, enrol_port, enrolment)
        await enrolment.stop()
        await server.stop()
        running.cancel()
        telling.cancel()
        await asyncio.wait({running, telling})
    catalog.close()


async def refusal(client: Client) -> tuple[grpc.StatusCode, str]:
    """How the stream was ended."""
    try:
        while await client.receive() is not None:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    pytest.fail("the stream ended without a refusal")


# -- the straight line ------------------------------------------------------------------------------------------------


async def test_a_message_is_acknowledged_when_it_is_durable(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys) as client:
        welcome = await client.open(hello(sets=[ROOM.id]))
        assert (welcome.generation, welcome.need_series) == (cloud.catalog.generation(), (ROOM.id,))
        await client.send(SeriesSetsFrame((ROOM,)))
        await client.send(message(1, 0))
        ack = await client.receive()
        assert isinstance(ack, Ack)
        assert (ack.stored, ack.message_ids) == (((EPOCH, RangeSet([(0, 10)])),), (1,))
        (held_ms,) = ack.held_ms
        assert 20 <= held_ms < 60_000, "the shortest wait for company, and a commit"
        assert cloud.stored() == [(0, 10)]
        await client.call.done_writing()
        assert await client.receive() is None
    assert cloud.ended("done") == 1


async def test_credit_shrinks_under_load_and_comes_back(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Welcome and acks say what the cloud's memory allows, and an ack says nothing while it is as before."""
    grants = []
    async with connect(cloud.address, cloud.keys) as client:
        welcome = await client.open()
        await client.send(SeriesSetsFrame((ROOM,)))
        for number, load in enumerate((0.0, 0.8, 0.8, 1.5, 0.0), 1):
            monkeypatch.setattr(GroupCommit, "load", load)
            await client.send(message(number, 10 * number))
            ack = await client.receive()
            assert isinstance(ack, Ack)
            grants.append(ack.credit_bytes)
    assert welcome.credit_bytes == CREDIT_BYTES
    assert grants == [0, CREDIT_BYTES // 4, 0, 1, CREDIT_BYTES]


async def test_every_answer_of_the_protocol(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys) as client:
        await client.open()
        await client.send(message(1, 0))
        assert await client.receive() == NeedSeries(1, (ROOM.id,))
        await client.send(SeriesSetsFrame((ROOM,)))
        await client.send(message(1, 0))
        assert isinstance(await client.receive(), Ack)
        await client.send(message(2, 5))
        overlap = await client.receive()
        assert isinstance(overlap, Overlap)
        assert list(overlap.coverage.stored) == [(0, 10)]
        await client.send(MessageFrame(3, EPOCH, 0, b"garbage"))
        refused = await client.receive()
        assert isinstance(refused, Refused)
        assert (refused.message_id, refused.code) == (3, "segment-corrupt")
        lost = Tombstone(EPOCH, 20, 30, LossReason.EVICTED, 10)
        await client.send(TombstonesFrame((lost,)))
        ack = await client.receive()
        assert isinstance(ack, Ack)
        assert [t.key for t in ack.tombstones] == [lost.key]
        await client.send(message(4, 10))  # the stream lives on after all that
        assert isinstance(await client.receive(), Ack)


async def test_half_closed_streams_get_their_answers(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys) as client:
        await client.open()
        await client.send(SeriesSetsFrame((ROOM,)))
        for index in range(50):
            await client.send(message(index, index * 10))
        await client.call.done_writing()
        settled: set[int] = set()
        while (frame := await client.receive()) is not None:
            assert isinstance(frame, Ack)
            settled |= set(frame.message_ids)
    assert settled == set(range(50))
    assert cloud.stored() == [(0, 500)]


# -- who gets in ------------------------------------------------------------------------------------------------------


async def test_no_certificate_no_stream(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys, certified=False) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.open()
    assert caught.value.code() is Code.UNAVAILABLE


async def test_a_certificate_of_another_ca(cloud: Cloud, tmp_path: Path) -> None:
    other = PkiFiles(tmp_path / "other")
    other.folder.mkdir()
    create_ca(other, [])
    keys = issue(other, "gw-a", tmp_path / "stranger")
    async with connect(cloud.address, keys, ca=cloud.files.ca) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.open()
    assert caught.value.code() is Code.UNAVAILABLE


async def test_an_expired_certificate(cloud: Cloud, tmp_path: Path) -> None:
    keys = issue(cloud.files, "gw-a", tmp_path / "old", datetime.now(UTC) - timedelta(days=9))
    async with connect(cloud.address, keys) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.open()
    assert caught.value.code() is Code.UNAVAILABLE


async def test_the_servers_own_certificate_is_no_gateway(cloud: Cloud, tmp_path: Path) -> None:
    keys = tmp_path / "server-as-client"
    keys.mkdir()
    for source, name in (
        (cloud.files.server, "cert.pem"),
        (cloud.files.server_key, "key.pem"),
        (cloud.files.ca, "ca.pem"),
    ):
        (keys / name).write_bytes(source.read_bytes())
    async with connect(cloud.address, keys) as client:
        code, _ = await refusal(client)
    assert code in (Code.UNAVAILABLE, Code.PERMISSION_DENIED)


@pytest.mark.parametrize(
    "uris", [[], ["urn:tidegate:gateway:Not_An_Id"], ["urn:tidegate:gateway:gw-a", "urn:tidegate:gateway:gw-b"]]
)
async def test_a_certificate_that_names_no_gateway_or_two(cloud: Cloud, tmp_path: Path, uris: list[str]) -> None:
    keys = issue(cloud.files, "gw-a", tmp_path / "odd")
    ca = x509.load_pem_x509_certificate(cloud.files.ca.read_bytes())
    ca_key = serialization.load_pem_private_key(cloud.files.ca_key.read_bytes(), None)
    key = serialization.load_pem_private_key((keys / "key.pem").read_bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    names = [x509.UniformResourceIdentifier(uri) for uri in uris] or [x509.DNSName("gw-a")]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(
            ca.subject,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw-a")]),
            key.public_key(),
            1,
            now - timedelta(1),
            now + timedelta(1),
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    (keys / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    async with connect(cloud.address, keys) as client:
        code, details = await refusal(client)
    assert code is Code.PERMISSION_DENIED
    assert "cert" in details
    assert cloud.ended("identity") == 1


async def test_a_gateway_writes_only_under_its_own_name(cloud: Cloud, tmp_path: Path) -> None:
    """No frame carries a gateway id: the same epoch and Seq sent by two gateways are two rows."""
    other = issue(cloud.files, "gw-b", tmp_path / "gw-b")
    for keys in (cloud.keys, other):
        async with connect(cloud.address, keys) as client:
            assert list((await client.open()).coverage[0].stored) == []
            await client.send(SeriesSetsFrame((ROOM,)))
            await client.send(message(1, 0))
            assert isinstance(await client.receive(), Ack)
    assert [row.id for row in cloud.catalog.gateways()] == ["gw-a", "gw-b"]
    assert cloud.stored("gw-a") == cloud.stored("gw-b") == [(0, 10)]


# -- what one stream can do to another ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 100, b"\x12\x04junk", b"\x0a\x02\x08\x09"], ids=["empty", "noise", "message", "hello"]
)
async def test_garbage_ends_its_stream_and_no_other(cloud: Cloud, data: bytes) -> None:
    async with connect(cloud.address, cloud.keys) as good, connect(cloud.address, cloud.keys) as bad:
        await good.open()
        await good.send(SeriesSetsFrame((ROOM,)))
        await bad.call.write(data)
        code, details = await refusal(bad)
        assert (code, details.split(":")[0]) == (Code.INVALID_ARGUMENT, "protocol")
        await good.send(message(1, 0))
        assert isinstance(await good.receive(), Ack)
    assert cloud.ended("protocol") == 1


async def test_messages_before_hello_and_a_second_hello(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys) as client:
        client.frames.encode(hello())  # the client's own converter needs it
        await client.send(message(1, 0))
        assert (await refusal(client))[0] is Code.INVALID_ARGUMENT
    async with connect(cloud.address, cloud.keys) as client:
        await client.open()
        await client.send(hello())
        assert "second Hello" in (await refusal(client))[1]


async def test_too_large_a_frame(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys) as client:
        await client.open()
        await client.call.write(bytes(5 * 1024 * 1024))
        assert (await refusal(client))[0] is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", [JOIN_METHOD, SYNC_METHOD])
async def test_what_grows_when_it_is_unpacked(cloud: Cloud, method: str) -> None:
    """64 MiB of zeros are 64 KiB on the wire: they are refused before they are in memory."""
    options = [("grpc.max_send_message_length", -1)]
    port, pair = (cloud.enrol_port, ()) if method == JOIN_METHOD else (cloud.address.rpartition(":")[2], (cloud.keys,))
    files = [(folder / name).read_bytes() for folder in pair for name in ("key.pem", "cert.pem")]
    tls = grpc.ssl_channel_credentials(cloud.files.ca.read_bytes(), *files)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", tls, options) as channel, asyncio.timeout(30):
        call = channel.unary_unary(method)(bytes(64 << 20), compression=grpc.Compression.Gzip)
        with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as refused:
            await call
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_silence_instead_of_hello(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "HELLO_S_MAX", 0.1)
    async with connect(cloud.address, cloud.keys) as client:
        assert (await refusal(client))[0] is Code.DEADLINE_EXCEEDED
    assert cloud.ended("hello") == 1


async def test_the_oldest_of_too_many_streams_gives_way(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys) as oldest:
        await oldest.open()
        others = [connect(cloud.address, cloud.keys) for _ in range(STREAMS_PER_GATEWAY_MAX)]
        clients = [await other.__aenter__() for other in others]
        for client in clients:
            await client.open()
        assert (await refusal(oldest))[0] is Code.ABORTED
        await clients[-1].send(SeriesSetsFrame((ROOM,)))
        await clients[-1].send(message(1, 0))
        assert isinstance(await clients[-1].receive(), Ack)
        for other in others:
            await other.__aexit__(None, None, None)


async def test_a_catalog_that_fails_ends_the_stream_without_an_ack(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: object) -> None:
        raise CatalogDown("disk full")

    async with connect(cloud.address, cloud.keys) as client:
        await client.open()
        await client.send(SeriesSetsFrame((ROOM,)))
        with monkeypatch.context() as patch:
            patch.setattr(cloud.catalog, "commit_pack", down)
            await client.send(message(1, 0))
            code, details = await refusal(client)
    assert (code, "disk full" in details) == (Code.UNAVAILABLE, True)
    assert cloud.stored() == []


async def test_a_link_that_breaks_is_no_error(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "END_SETTLES_S", 10.0)  # however slow this machine is; the cancel ends it
    async with connect(cloud.address, cloud.keys) as client:
        await client.open()
    async with asyncio.timeout(30):
        while not cloud.ended("link"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert cloud.ended("link") == 1


class Breaking:
    """What grpc 1.85 gives a handler when the link breaks: the end of what is read, and a little later it is
    cancelled."""

    async def read(self) -> object:
        asyncio.get_running_loop().call_later(0.002, self.serving.cancel)
        return grpc.aio.EOF

    async def write(self, data: bytes) -> None:
        pytest.fail("nobody reads")

    def serve(self, server: GrpcServer, peer: Peer) -> asyncio.Task[None]:
        """Have the server serve it."""
        call = _Call(peer, cast("asyncio.Task[object]", asyncio.current_task()))
        self.serving = asyncio.create_task(server._serve(cast("Any", self), call))
        return self.serving


async def test_a_broken_link_that_is_told_as_an_end_first(cloud: Cloud) -> None:
    with pytest.raises(asyncio.CancelledError):
        await Breaking().serve(cloud.server, Peer("gw-a", "00"))
    assert [cloud.ended(reason) for reason in ("link", "done")] == [1, 0]


# -- start and stop -------------------------------------------------------------------------------------------------


async def test_stopping_tells_the_gateways(cloud: Cloud) -> None:
    async with connect(cloud.address, cloud.keys) as client:
        await client.open()
        await cloud.server.stop()
        assert await refusal(client) == (Code.UNAVAILABLE, "the service is stopping")


async def test_a_port_in_use(cloud: Cloud) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        credentials = Credentials(
            cloud.files.ca.read_bytes(), cloud.files.server.read_bytes(), cloud.files.server_key.read_bytes()
        )
        gatekeeper = Gatekeeper(cloud.catalog.access, asyncio.to_thread)
        second = GrpcServer(credentials, lambda _: pytest.fail("no stream"), Metrics(), gatekeeper, {})
        with pytest.raises(ConfigInvalid, match=f"127.0.0.1:{port}"):
            await second.start("127.0.0.1", port)


def test_acks_are_merged_and_nothing_else_is() -> None:
    lost = Tombstone(1, 0, 0, LossReason.HOLE, 1)
    frames = [
        Ack(9, ((1, RangeSet([(0, 5)])),), message_ids=(1,), held_ms=(20,)),
        NeedSeries(2, (7,)),
        Ack(9, ((1, RangeSet([(5, 9)])), (2, RangeSet([(0, 1)]))), message_ids=(3,), held_ms=(10,)),
        Ack(9, tombstones=(lost,)),
    ]
    merged = Ack(9, ((1, RangeSet([(0, 9)])), (2, RangeSet([(0, 1)]))), (lost,), (1, 3), held_ms=(20, 10))
    assert merge_acks(list(frames)) == [frames[1], merged]
    assert merge_acks(frames[:2]) == frames[:2]


def test_the_c_core_does_not_write_to_stderr_by_itself() -> None:
    program = "import os, cloud_sync.grpc_api.server; print(os.environ['GRPC_VERBOSITY'])"
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout == "NONE\n"
