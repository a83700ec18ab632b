"""Enrolment: the port without client certificates, and the two calls of gateways that have one.

What comes in here comes from anybody: messages are small, calls are few per second, and one that is refused costs its
address a part of its share.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from cloud_sync.auth.authority import CERTIFICATE_DAYS, Authority, DeviceKey, check_request
from cloud_sync.catalog.access import Access, Candidate
from cloud_sync.catalog.identity_rows import Issued
from cloud_sync.errors import AccessDenied, CatalogDown, JoinRefused
from cloud_sync.grpc_api.peer import Peer, RunBlocking
from cloud_sync.grpc_api.server import Credentials, PeerHandler, listen
from cloud_sync.metrics import Metrics
from cloud_sync.refusals import Bucket, Refusals, share_of
from cloud_sync.wall import wall_time
from wire.clock import NS_PER_S, NS_PER_US, Clock
from wire.join import (
    JOIN_METHOD,
    LEAVE_METHOD,
    MESSAGE_BYTES_MAX,
    RECOVER_METHOD,
    RENEW_METHOD,
    check_gateway_id,
)
from wire.v1 import enrol_pb2 as pb

log = logging.getLogger(__name__)

CALLS_PER_S = 50.0  # of all devices together: about 5 ms each
CALLS_BURST = 200.0
CONCURRENT_MAX = 100
TEXT_CHARS_MAX = 200
_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_metadata_size", 4096),
    ("grpc.max_connection_idle_ms", 30_000),
    ("grpc.max_connection_age_ms", 300_000),
    ("grpc.so_reuseport", 0),
)

Handler = Callable[[bytes], Awaitable[bytes]]


class EnrolDesk:
    """Answers the calls. Without `authority` (a replica that has no CA key) it only says so."""

    def __init__(
        self,
        access: Access,
        authority: Authority | None,
        ca_bundle: bytes,
        clock: Clock,
        run_blocking: RunBlocking,
        sync_port: Callable[[], int],
    ) -> None:
        self._access = access
        self._authority = authority
        self._ca_bundle = ca_bundle
        self._clock = clock
        self._run_blocking = run_blocking
        self._sync_port = sync_port

    @property
    def open(self) -> Mapping[str, Handler]:
        """Methods for whoever connects."""
        return {JOIN_METHOD: self.join, RECOVER_METHOD: self.recover}

    @property
    def identified(self) -> Mapping[str, PeerHandler]:
        """Methods for gateways."""
        return {RENEW_METHOD: self.renew, LEAVE_METHOD: self.leave}

    async def join(self, data: bytes) -> bytes:
        """Raises JoinRefused, CatalogDown."""
        asked = _parse(pb.JoinRequest, data)
        try:
            check_gateway_id(asked.gateway)
        except ValueError as error:
            raise JoinRefused(f"{error}. Try: edge-agent join --name ID") from error
        key = check_request(asked.request)
        who = Candidate(asked.gateway, key.sha256, key.code, asked.machine[:32], asked.agent_version[:TEXT_CHARS_MAX])
        sign = self._signer(key)
        joined = await self._run_blocking(lambda: self._access.join(asked.token_id, asked.secret, who, sign))
        if joined is None:
            return pb.JoinAnswer(pending=True, gateway=asked.gateway).SerializeToString()
        log.info("gateway joined gateway=%s token=%s", joined.gateway, asked.token_id)
        return pb.JoinAnswer(
            issued=self._issued(joined.certificate),
            gateway=joined.gateway,
            sync_port=self._sync_port(),
            labels=joined.labels,
            config=joined.config,
        ).SerializeToString()

    async def recover(self, data: bytes) -> bytes:
        """Raises AccessDenied, JoinRefused, CatalogDown."""
        asked = _parse(pb.RecoverRequest, data)
        old = self._require_authority().recoverable(
            asked.certificate, asked.request, asked.signature, wall_time(self._clock)
        )
        log.info("gateway comes back after its certificate ended gateway=%s", old.gateway)
        return await self._renew(Peer(old.gateway, old.serial), asked.request)

    async def renew(self, peer: Peer, data: bytes) -> bytes:
        """Raises AccessDenied, JoinRefused, CatalogDown."""
        return await self._renew(peer, _parse(pb.RenewRequest, data).request)

    async def leave(self, peer: Peer, data: bytes) -> bytes:
        """Raises AccessDenied, CatalogDown."""
        _parse(pb.LeaveRequest, data)
        await self._run_blocking(lambda: self._access.leave(peer.gateway, peer.serial))
        log.info("gateway left gateway=%s", peer.gateway)
        return pb.LeaveAnswer().SerializeToString()

    async def _renew(self, peer: Peer, request: bytes) -> bytes:
        key = check_request(request)
        sign = self._signer(key)
        pem = await self._run_blocking(lambda: self._access.renew(peer.gateway, peer.serial, key.sha256, sign))
        return self._issued(pem).SerializeToString()

    def _issued(self, certificate: bytes) -> pb.IssuedCertificate:
        now_us = self._clock.wall_ns() // NS_PER_US
        return pb.IssuedCertificate(certificate=certificate, ca_bundle=self._ca_bundle, server_time_us=now_us)

    def _signer(self, key: DeviceKey) -> Callable[[str], Issued]:
        authority = self._require_authority()
        return lambda gateway: authority.sign(key.public, gateway, wall_time(self._clock), CERTIFICATE_DAYS)

    def _require_authority(self) -> Authority:
        if self._authority is None:
            raise JoinRefused(
                "this replica of the cloud has no CA key and signs nothing. Try: the address of the one with pki/ca.key"
            )
        return self._authority


class EnrolServer:
    """The port for those who have no certificate (yet, or any more): TLS with ours, nothing is asked of theirs."""

    def __init__(
        self, credentials: Credentials, methods: Mapping[str, Handler], clock: Clock, metrics: Metrics
    ) -> None:
        self._credentials = credentials
        self._methods = methods
        self._clock = clock
        self._metrics = metrics
        self._server: grpc.aio.Server | None = None
        self._all = Bucket(CALLS_PER_S, CALLS_BURST, self._now_s())
        self._refusals = Refusals()
        self._running = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. The CA's certificate is shown with the server's: a device compares it with its
        token before it says anything. Raises ConfigInvalid."""
        chain = self._credentials.certificate + self._credentials.ca
        tls = grpc.ssl_server_credentials([(self._credentials.key, chain)])
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(partial(self._answer, method))
            for name, method in self._methods.items()
        }
        self._server, bound = await listen(handlers, tls, _OPTIONS, host, port, "--enrol")
        return bound

    async def stop(self) -> None:
        """Devices that were about to ask ask again."""
        if self._server is not None:
            await self._server.stop(1.0)

    def _now_s(self) -> float:
        return self._clock.boottime_ns() / NS_PER_S

    async def _answer(self, method: Handler, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        address = who_pays(context.peer())
        now_s, code = self._now_s(), grpc.StatusCode
        refused_often = self._refusals.are_too_many(address, now_s)
        if self._all.is_empty(now_s) or refused_often or self._running >= CONCURRENT_MAX:
            self._metrics.enrolments.labels("limited").inc()
            await context.abort(code.RESOURCE_EXHAUSTED, "too many enrolment calls at once. Try: again in a minute")
        self._all.take(now_s)
        self._running += 1
        try:
            answer = await method(data)
        except (JoinRefused, AccessDenied) as error:
            self._refusals.note(address, now_s)
            self._metrics.enrolments.labels("refused").inc()
            log.warning("enrolment refused peer=%s detail=%s", context.peer(), error)
            await context.abort(code.PERMISSION_DENIED, str(error))
        except CatalogDown as error:
            await context.abort(code.UNAVAILABLE, f"the cloud cannot answer now: {error}")
        finally:
            self._running -= 1
        self._metrics.enrolments.labels("answered").inc()
        return answer


def who_pays(peer: str) -> str:
    """Whose share a refusal costs. `peer` is gRPC's word: `ipv4:192.0.2.7:4711`, `ipv6:%5B2001:db8::1%5D:4711`."""
    kind, _, place = peer.partition(":")
    host = unquote(place.rpartition(":")[0]).strip("[]")
    return share_of(host) if kind in ("ipv4", "ipv6") else kind


def _parse(kind: Callable[[], Any], data: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise JoinRefused("the call cannot be read; is this edge-agent much newer than the cloud?") from error
    return message
