"""Assignments over a real stream: told at once, on a change, never to clones; and the repository's files in pieces."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import grpc.aio
import pytest

from cloud_sync.rollout.keys import create_key
from tests.unit.cloud_sync.gateway import Client, connect, hello
from tests.unit.cloud_sync.grpc_api.test_server import Cloud
from tests.unit.cloud_sync.grpc_api.test_server import cloud as cloud  # noqa: PLC0414 - a fixture
from wire.assignment import Assigned, Assignment, peek
from wire.fetching import FETCH_METHOD, PIECE_BYTES_MAX, FetchRequest, Piece, decode_piece
from wire.sync.frames import Ack, AssignmentFrame, Hello, ReportsFrame
from wire.sync.updates import Report

TOY = Assigned("toy", 1, "0a" * 32, 700)
NONCE = b"n" * 16


def asking(machine: bytes = b"m" * 16, nonce: bytes = NONCE) -> Hello:
    return replace(hello(), machine=machine, nonce=nonce)


async def assigned(client: Client) -> Assignment:
    async with asyncio.timeout(30):
        frame = await client.receive()
    assert isinstance(frame, AssignmentFrame)
    return peek(frame.document)


async def test_a_gateway_is_told_when_it_comes_and_when_it_changes(cloud: Cloud) -> None:
    create_key(cloud.folder / "ota" / "director.key", None)
    cloud.catalog.assignments.assign(["gw-a", "gw-b"], TOY)
    async with connect(cloud.address, cloud.keys) as client:
        await client.open(asking())
        first = await assigned(client)
        assert (first.gateway, first.counter, first.releases, first.nonce) == ("gw-a", 1, (TOY,), NONCE)
        assert first.server_time_us < first.expires_us
        newer = replace(TOY, counter=2)
        cloud.catalog.assignments.assign(["gw-a"], newer)
        second = await assigned(client)
        assert (second.counter, second.releases) == (2, (newer,))


async def test_who_gives_no_nonce_and_who_has_nothing_assigned_is_told_nothing(cloud: Cloud) -> None:
    create_key(cloud.folder / "ota" / "director.key", None)
    async with connect(cloud.address, cloud.keys) as client:
        await client.open(asking())
        report = Report(5, 0, "toy", "toy/1", "refused", "latency", "slow")
        await client.send(ReportsFrame((report,)))
        assert isinstance(ack := await client.receive(), Ack)
        assert ack.reports == (5,)
        assert [row.report for row in cloud.catalog.assignments.reports("gw-a", 5)] == [report]
    cloud.catalog.assignments.assign(["gw-a"], TOY)
    async with connect(cloud.address, cloud.keys) as client:
        await client.open(asking(nonce=b""))
        await client.send(ReportsFrame((report,)))
        assert isinstance(await client.receive(), Ack)


async def test_a_clone_is_told_nothing(cloud: Cloud) -> None:
    create_key(cloud.folder / "ota" / "director.key", None)
    async with connect(cloud.address, cloud.keys) as client:
        await client.open(asking(b"1" * 16))
    cloud.catalog.assignments.assign(["gw-a"], TOY)
    async with connect(cloud.address, cloud.keys) as client:
        await client.open(asking(b"2" * 16))
        await client.send(ReportsFrame((Report(5, 0, "toy", "toy/1", "tested"),)))
        assert isinstance(await client.receive(), Ack), "and what it says is taken"
    cloud.catalog.retire_machine("gw-a", b"1" * 16)
    async with connect(cloud.address, cloud.keys) as client:
        await client.open(asking(b"2" * 16))
        assert (await assigned(client)).releases == (TOY,)


async def test_without_a_key_or_with_a_broken_one_the_stream_goes_on(cloud: Cloud) -> None:
    cloud.catalog.assignments.assign(["gw-a"], TOY)
    path = cloud.folder / "ota" / "director.key"
    for content in (None, b"{}"):
        if content is not None:
            path.parent.mkdir()
            path.write_bytes(content)
        async with connect(cloud.address, cloud.keys) as client:
            await client.open(asking())
            await client.send(ReportsFrame((Report(5, 0, "toy", "toy/1", "tested"),)))
            assert isinstance(await client.receive(), Ack)


# -- pieces -----------------------------------------------------------------------------------------------------------


async def fetch(cloud: Cloud, request: bytes, length: int = 100) -> Piece | None:
    credentials = grpc.ssl_channel_credentials(
        *((cloud.keys / name).read_bytes() for name in ("ca.pem", "key.pem", "cert.pem"))
    )
    async with grpc.aio.secure_channel(cloud.address, credentials) as channel:
        return decode_piece(await channel.unary_unary(FETCH_METHOD)(request), length)


async def test_a_file_of_the_repository_comes_in_pieces(cloud: Cloud) -> None:
    data = bytes(range(256)) * 2
    target = cloud.folder / "objects" / "ota" / "targets" / "a.bin"
    target.parent.mkdir(parents=True)
    target.write_bytes(data)
    found = [await fetch(cloud, FetchRequest("targets/a.bin", at, 300).encode(), 300) for at in (0, 300, 512, 9999)]
    assert found == [Piece(data[:300], 512), Piece(data[300:], 512), Piece(b"", 512), Piece(b"", 512)]


async def test_the_timestamp_is_read_anew(cloud: Cloud) -> None:
    path = cloud.folder / "objects" / "ota" / "metadata" / "timestamp.json"
    path.parent.mkdir(parents=True)
    for told in (b"1", b"22"):
        path.write_bytes(told)
        assert await fetch(cloud, FetchRequest("metadata/timestamp.json", 0, 9).encode()) == Piece(told, len(told))


@pytest.mark.parametrize(
    "request_",
    [
        FetchRequest("targets/none", 0, 1).encode(),
        FetchRequest("../catalog.sqlite", 0, 1).encode(),
        FetchRequest("targets/../../../catalog.sqlite", 0, 1).encode(),
        FetchRequest("metadata//etc/passwd", 0, 1).encode(),
        FetchRequest("packs/secret", 0, 1).encode(),
        FetchRequest("/etc/passwd", 0, 1).encode(),
        FetchRequest("targets/" + "a" * 600, 0, 1).encode(),
        FetchRequest("targets/a", 0, PIECE_BYTES_MAX + 1).encode(),
        FetchRequest("targets/a", 0, 0).encode(),
        FetchRequest("targets/a", 1 << 50, 1).encode(),
        b"\xff\xff",
        json.dumps({}).encode(),
    ],
)
async def test_nothing_else_is_read(cloud: Cloud, request_: bytes) -> None:
    (cloud.folder / "objects" / "packs").mkdir(exist_ok=True, parents=True)
    (cloud.folder / "objects" / "packs" / "secret").write_bytes(b"x")
    assert await fetch(cloud, request_) is None
