"""Who may call what: a matrix over every RPC of every service, made from the protos' descriptors.

An RPC without a row here fails the first test, a frame of the sync stream without an example the second.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import sqlalchemy as sa
from cryptography import x509

import wire.v1
from cloud_sync.auth.ca import GatewayKey, PkiFiles, create_ca, issue_gateway
from cloud_sync.catalog import schema
from edge_agent.enrol.keys import DeviceKey as OwnKey
from edge_agent.sync.channel import REASON_LOST
from tests.unit.cloud_sync.gateway import EPOCH, ROOM, Client, hello, message
from tests.unit.cloud_sync.grpc_api.test_server import Cloud
from tests.unit.cloud_sync.grpc_api.test_server import cloud as cloud  # noqa: PLC0414 - a fixture
from tests.unit.edge_agent.enrol.test_enrolment import make_token
from wire.alarm import Alarm, Phase, Severity
from wire.fetching import FETCH_METHOD, FetchRequest
from wire.join import JOIN_METHOD, LEAVE_METHOD, RECOVER_METHOD, RENEW_METHOD
from wire.messages import SYNC_METHOD, GatewayFrames
from wire.reading import LossReason, Tombstone
from wire.sync.frames import AlarmsFrame, GatewayFrame, ReportsFrame, SeriesSetsFrame, TombstonesFrame
from wire.sync.updates import Report
from wire.v1 import enrol_pb2, sync_pb2

Code = grpc.StatusCode
ALARM = Alarm(9, "room/temperature", "high", Phase.RAISED, 0, 5, 1.0, 0.5, 21.0, 20.0, 19.0, 20.5, "Cel", Severity.INFO)
FRAMES: dict[str, GatewayFrame] = {  # an example of each that a gateway may send, in an order that the protocol takes
    "hello": hello(sets=[ROOM.id]),
    "series_sets": SeriesSetsFrame((ROOM,)),
    "message": message(1, 0),
    "tombstones": TombstonesFrame((Tombstone(EPOCH, 20, 30, LossReason.EVICTED, 10),)),
    "alarms": AlarmsFrame(((EPOCH, ALARM),)),
    "reports": ReportsFrame((Report(9, 5, "toy", "toy/1", "tested"),)),
}


@dataclass(frozen=True)
class Peer:
    """What somebody holds: a certificate of `gateway` and its key, and the key that it signs with."""

    gateway: str
    held: GatewayKey

    @property
    def pair(self) -> tuple[bytes, bytes]:
        return self.held.pem, self.held.issued.pem

    def request(self) -> bytes:
        """For a certificate of gw-a, whoever asks."""
        return OwnKey.new().request("gw-a")


@dataclass(frozen=True)
class Rpc:
    """How to call it, on which port, and what becomes of each peer: a code, and words of the reason."""

    mutual: bool
    call: Callable[[Cloud, Peer], list[bytes]]
    outcomes: dict[str, tuple[Code, str]]


def recover(_: Cloud, peer: Peer) -> list[bytes]:
    request, key = peer.request(), OwnKey.load(peer.held.pem)
    asked = enrol_pb2.RecoverRequest(
        certificate=peer.held.issued.pem, request=request, signature=key.sign_recovery(request)
    )
    return [asked.SerializeToString()]


def join(cloud: Cloud, peer: Peer) -> list[bytes]:
    token = make_token(cloud)
    asked = enrol_pb2.JoinRequest(
        token_id=token.id, secret=token.secret, gateway=f"gw-{token.id}", request=peer.request(), machine=b"m"
    )
    return [asked.SerializeToString()]


def sync(_: Cloud, __: Peer) -> list[bytes]:
    frames = GatewayFrames()
    return [frames.encode(frame) for frame in FRAMES.values()]


MUTUAL = {
    "nobody": (Code.UNAVAILABLE, ""),  # TLS refuses before anything is said: test_refusals has the reasons
    "another CA": (Code.UNAVAILABLE, ""),
    "expired": (Code.UNAVAILABLE, ""),
    "revoked": (Code.PERMISSION_DENIED, "gateway gw-r was revoked"),
    "left": (Code.PERMISSION_DENIED, "gateway gw-l has left"),
    "replaced": (Code.PERMISSION_DENIED, "certificate of gateway gw-p was replaced"),
    "valid": (Code.OK, ""),
    "other": (Code.OK, ""),  # as itself: see the tests of whose rows change
}
NO_CERTIFICATE = (Code.PERMISSION_DENIED, "no certificate of this cloud with its key's signature")
RECOVER = {
    **MUTUAL,
    "nobody": NO_CERTIFICATE,
    "another CA": NO_CERTIFICATE,
    "expired": (Code.OK, ""),
}
RPCS = {
    SYNC_METHOD: Rpc(True, sync, MUTUAL),
    RENEW_METHOD: Rpc(
        True, lambda _, peer: [enrol_pb2.RenewRequest(request=peer.request()).SerializeToString()], MUTUAL
    ),
    LEAVE_METHOD: Rpc(True, lambda *_: [enrol_pb2.LeaveRequest().SerializeToString()], MUTUAL),
    FETCH_METHOD: Rpc(True, lambda *_: [FetchRequest("metadata/timestamp.json", 0, 9).encode()], MUTUAL),
    JOIN_METHOD: Rpc(False, join, dict.fromkeys(MUTUAL, (Code.OK, ""))),  # a token decides, whatever else one holds
    RECOVER_METHOD: Rpc(False, recover, RECOVER),
}


def described() -> dict[str, Any]:
    """Every RPC that a proto describes, by the path that gRPC calls."""
    modules = [importlib.import_module(f"wire.v1.{name}") for _, name, _ in pkgutil.iter_modules(wire.v1.__path__)]
    files = [module.DESCRIPTOR for module in modules if hasattr(module, "DESCRIPTOR")]
    services = [service for file in files for service in file.services_by_name.values()]
    return {f"/{service.full_name}/{method.name}": method for service in services for method in service.methods}


def test_every_rpc_has_a_row() -> None:
    assert set(RPCS) == set(described()), "an RPC without a row here: say who may call it, and test that"
    assert all(set(rpc.outcomes) == set(MUTUAL) for rpc in RPCS.values())


def test_every_frame_has_an_example() -> None:
    told = {field.name for field in sync_pb2.GatewayFrame.DESCRIPTOR.oneofs_by_name["frame"].fields}
    assert set(FRAMES) == told, "a frame without an example here: show that it touches the sender's rows alone"


@pytest.fixture
def peers(cloud: Cloud, tmp_path: Path) -> dict[str, Peer]:
    """One of each kind. All but those that TLS refuses are known to the catalog."""
    now, access = datetime.now(UTC), cloud.catalog.access
    foreign = PkiFiles(tmp_path / "foreign")
    foreign.folder.mkdir()
    create_ca(foreign, [])

    def made(gateway: str, files: PkiFiles = cloud.files, at: datetime = now) -> Peer:
        key = issue_gateway(files, gateway, at, 1)
        if files is cloud.files:
            access.register(gateway, key.device.sha256, key.issued)
        return Peer(gateway, key)

    found = {
        "valid": made("gw-a"),
        "other": made("gw-b"),
        "revoked": made("gw-r"),
        "left": made("gw-l"),
        "replaced": made("gw-p"),
        "expired": made("gw-e", at=now - timedelta(days=9)),
        "another CA": made("gw-a", foreign),
        "nobody": made("gw-a", foreign),  # what it holds is not shown
    }
    made("gw-p")
    access.revoke("gw-r", "stolen")
    access.leave("gw-l", found["left"].held.issued.serial)
    return found


async def ask(channel: grpc.aio.Channel, rpc: str, data: list[bytes]) -> tuple[Code, str, bytes]:
    """Say it all and take all that comes back: code, reason and the last answer.

    Again where the library lost the answer, as the agent does.
    """
    while (found := await ask_once(channel, rpc, data))[1] == REASON_LOST:
        pass
    return found


async def ask_once(channel: grpc.aio.Channel, rpc: str, data: list[bytes]) -> tuple[Code, str, bytes]:
    try:
        if not described()[rpc].client_streaming:
            return Code.OK, "", bytes(await channel.unary_unary(rpc)(data[0]))
        return Code.OK, "", await stream(channel.stream_stream(rpc)(), data)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or "", b""


async def stream(call: Any, data: list[bytes]) -> bytes:
    """The first frame, and the others once that was answered; the last answer. Raises AioRpcError."""
    await call.write(data[0])
    answer = received = await call.read()
    if received is not grpc.aio.EOF:
        for each in data[1:]:
            await call.write(each)
        await call.done_writing()
        while (received := await call.read()) is not grpc.aio.EOF:
            answer = received
    if await call.code() is not Code.OK:
        raise grpc.aio.AioRpcError(await call.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), await call.details())
    return bytes(answer)


async def outcome(
    cloud: Cloud, rpc: str, peer: Peer, *, shown: bool = True, mutual: bool | None = None
) -> tuple[Code, str, bytes]:
    """`ask` on the RPC's port, or on the other one."""
    port = cloud.address.rpartition(":")[2] if (RPCS[rpc].mutual if mutual is None else mutual) else cloud.enrol_port
    pair = peer.pair if shown else (None, None)
    tls = grpc.ssl_channel_credentials(cloud.files.ca.read_bytes(), *pair)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", tls) as channel, asyncio.timeout(30):
        return await ask(channel, rpc, RPCS[rpc].call(cloud, peer))


@pytest.mark.parametrize("rpc", RPCS)
async def test_who_may_call_what(cloud: Cloud, peers: dict[str, Peer], rpc: str) -> None:
    found = {}
    for kind, (_, words) in RPCS[rpc].outcomes.items():
        told, detail, _ = await outcome(cloud, rpc, peers[kind], shown=kind != "nobody")
        found[kind] = told, words if words in detail else detail
        assert told is not Code.PERMISSION_DENIED or "Try: " in detail
    assert found == RPCS[rpc].outcomes


@pytest.mark.parametrize("rpc", RPCS)
async def test_no_rpc_on_the_wrong_port(cloud: Cloud, peers: dict[str, Peer], rpc: str) -> None:
    told, _, _ = await outcome(cloud, rpc, peers["valid"], mutual=not RPCS[rpc].mutual)
    assert told is Code.UNIMPLEMENTED


# -- whose rows change ------------------------------------------------------------------------------------------------

COMMON = {  # tables of rows that belong to no gateway, and why one gateway's call may change them
    "meta": "counts of the whole catalog",
    "pack": "objects of many gateways' messages",
    "series_set": "definitions under the hash of their content",
    "join_token": "counts its uses",
    "audit": "only ever added to",
}


def rows_by_gateway(cloud: Cloud) -> dict[str, set[tuple[object, ...]]]:
    """Every row of the catalog by the gateway that it belongs to; '' for the common ones."""
    found: dict[str, set[tuple[object, ...]]] = {}
    with sa.create_engine(f"sqlite:///{cloud.folder / 'catalog.sqlite'}").connect() as connection:
        owners = {row.id: row.gateway for row in connection.execute(sa.select(schema.epoch))}
        for table in schema.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)).mappings():
                owner = row.get("gateway") or owners.get(row.get("epoch_id"))  # type: ignore[call-overload]
                owner = row["id"] if table is schema.gateway else owner
                owner = "" if table.name in COMMON else owner
                assert owner is not None, f"whose is a row of {table.name}?"
                found.setdefault(str(owner), set()).add((table.name, *row.values()))
    return found


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_gateway_touches_only_its_own_rows(cloud: Cloud, peers: dict[str, Peer], rpc: str) -> None:
    """gw-b says and asks what gw-a did, under the same epoch and names, and asks for a certificate of gw-a."""
    assert (await outcome(cloud, SYNC_METHOD, peers["valid"]))[0] is Code.OK
    before = rows_by_gateway(cloud)
    assert {name for name, *_ in before["gw-a"]} >= {"epoch", "coverage", "message", "tombstone", "alarm", "machine"}
    told, detail, answer = await outcome(cloud, rpc, peers["other"])
    assert told is Code.OK, detail
    after = rows_by_gateway(cloud)
    changed = {owner for owner in before.keys() | after.keys() if before.get(owner) != after.get(owner)}
    callers = {"gw-b"} if rpc != FETCH_METHOD else set()  # it reads what is for all
    if rpc == JOIN_METHOD:
        callers = {f"gw-{row.id}" for row in cloud.catalog.join_tokens.all()}
    assert changed - {""} == callers
    assert {row for row in before[""] if row[0] == "audit"} <= after[""]
    if rpc in (RENEW_METHOD, RECOVER_METHOD):
        issued = x509.load_pem_x509_certificate(enrol_pb2.IssuedCertificate.FromString(answer).certificate)
        names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        assert uris == ["urn:tidegate:gateway:gw-b"], "what the request says of names counts for nothing"


async def test_a_signature_of_another_key_recovers_nothing(cloud: Cloud, peers: dict[str, Peer]) -> None:
    """Who has seen gw-a's certificate, which is public, does not have its key."""
    seen = Peer("gw-a", GatewayKey(peers["valid"].held.issued, peers["other"].held.device, peers["other"].held.pem))
    told, detail, _ = await outcome(cloud, RECOVER_METHOD, seen, shown=False)
    assert (told, "no certificate of this cloud" in detail) == (Code.PERMISSION_DENIED, True)


async def test_revocation_counts_at_the_next_call(cloud: Cloud, peers: dict[str, Peer]) -> None:
    """Of every RPC, on a connection that is open already."""
    tls = grpc.ssl_channel_credentials(cloud.files.ca.read_bytes(), *peers["valid"].pair)
    async with grpc.aio.secure_channel(cloud.address, tls) as channel, asyncio.timeout(30):
        client = Client(channel.stream_stream(SYNC_METHOD)())
        await client.open()
        cloud.catalog.access.revoke("gw-a", "stolen")
        for rpc in (each for each, how in RPCS.items() if how.mutual):
            told, detail, _ = await ask(channel, rpc, RPCS[rpc].call(cloud, peers["valid"]))
            assert (told, "gateway gw-a was revoked" in detail) == (Code.PERMISSION_DENIED, True)
