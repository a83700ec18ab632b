"""The enrolment calls over gRPC. Imported when one is made."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc
import grpc.aio

from edge_agent.errors import CredentialsRejected, JoinRefused, LinkDown
from edge_agent.sync.channel import brief
from wire.join import (
    JOIN_METHOD,
    LEAVE_METHOD,
    MESSAGE_BYTES_MAX,
    RECOVER_METHOD,
    RENEW_METHOD,
    JoinToken,
    join_address,
)
from wire.v1 import enrol_pb2 as pb

CALL_S_MAX = 20.0
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A port of the cloud, the CA that its certificate must be of (PEM), and the name in it if that is not the host."""

    host: str
    port: int
    ca: bytes
    server_name: str = ""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate for the key that was asked for, PEM, and the CAs to trust from now on."""

    certificate: bytes
    ca_bundle: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """The cloud's answer to a join."""

    issued: Issued
    gateway: str
    sync_port: int
    labels: dict[str, str]
    config: str


async def join(
    place: Place, token: JoinToken, gateway: str, request: bytes, machine: bytes, version: str
) -> Joined | None:
    """None while the device waits for approval. Raises LinkDown, JoinRefused, CredentialsRejected."""
    asked = pb.JoinRequest(
        token_id=token.id,
        secret=token.secret,
        gateway=gateway,
        request=request,
        machine=machine,
        agent_version=version,
    )
    answer = pb.JoinAnswer.FromString(await _call(place, JOIN_METHOD, asked.SerializeToString()))
    if answer.pending:
        return None
    return Joined(_issued(answer.issued), answer.gateway, answer.sync_port, dict(answer.labels), answer.config)


async def recover(place: Place, certificate: bytes, request: bytes, signature: bytes) -> Issued:
    """With a certificate that has ended. Raises LinkDown, JoinRefused, CredentialsRejected."""
    asked = pb.RecoverRequest(certificate=certificate, request=request, signature=signature)
    answer = await _call(place, RECOVER_METHOD, asked.SerializeToString())
    return _issued(pb.IssuedCertificate.FromString(answer))


async def renew(place: Place, device: tuple[bytes, bytes], request: bytes) -> Issued:
    """With the certificate and key (PEM) that are good now. Raises as `recover`."""
    answer = await _call(place, RENEW_METHOD, pb.RenewRequest(request=request).SerializeToString(), device)
    return _issued(pb.IssuedCertificate.FromString(answer))


async def leave(place: Place, device: tuple[bytes, bytes]) -> None:
    """Give the identity back. Raises as `recover`."""
    await _call(place, LEAVE_METHOD, pb.LeaveRequest().SerializeToString(), device)


def _issued(answer: pb.IssuedCertificate) -> Issued:
    return Issued(answer.certificate, answer.ca_bundle)


async def _call(place: Place, method: str, request: bytes, device: tuple[bytes, bytes] | None = None) -> bytes:
    certificate, key = device or (None, None)
    tls = grpc.ssl_channel_credentials(place.ca, key, certificate)
    options: list[tuple[str, str | int]] = [*_OPTIONS]
    if place.server_name:
        options.append(("grpc.ssl_target_name_override", place.server_name))
    address = join_address(place.host, place.port)
    async with grpc.aio.secure_channel(address, tls, options=options) as channel:
        try:
            async with asyncio.timeout(CALL_S_MAX):
                return bytes(await channel.unary_unary(method)(request))
        except TimeoutError as error:
            raise LinkDown(f"{address} does not answer within {CALL_S_MAX:.0f} s") from error
        except grpc.aio.AioRpcError as error:
            said = error.details() or ""
            if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                raise JoinRefused(f"the cloud says: {said}") from error
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise JoinRefused(f"{address} is not the right port of the cloud, or an older cloud") from error
            if "CERTIFICATE_VERIFY_FAILED" in said:
                raise CredentialsRejected(
                    f"the certificate of {address} is not for that name or not valid at this clock's time: "
                    f"{brief(said)}. Try: date, then edge-agent join with --server-name"
                ) from error
            raise LinkDown(f"{address}: {error.code().name} {brief(said)}") from error
