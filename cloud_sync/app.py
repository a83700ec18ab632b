"""The service, wired once: gRPC ingest and HTTP in one event loop, decoding, disk and catalog on worker threads."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import uvicorn
from fastapi import FastAPI

from cloud_sync.auth.authority import Authority
from cloud_sync.auth.ca import PkiFiles
from cloud_sync.auth.trust import Trust
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.data_folder import DataFolder, open_parts
from cloud_sync.errors import CloudError, ConfigInvalid
from cloud_sync.grpc_api.assigning import Assigning, UpdateDesk
from cloud_sync.grpc_api.enrol import EnrolDesk, EnrolServer
from cloud_sync.grpc_api.peer import Gatekeeper
from cloud_sync.grpc_api.server import Credentials, GrpcServer
from cloud_sync.grpc_api.stream import Stream, StreamPorts
from cloud_sync.http_api.app import create_app
from cloud_sync.ingest.group_commit import GroupCommit
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.metrics import Metrics
from cloud_sync.notify import notify
from cloud_sync.query.engine import QueryEngine
from cloud_sync.rollout.director import Director
from cloud_sync.rollout.resigning import keep_current
from cloud_sync.rollout.shelf import Shelf
from cloud_sync.storage.local_store import LocalStore
from cloud_sync.storage.object_store import ObjectStore
from cloud_sync.storage.sweep import sweep_orphans
from wire.clock import Clock, SystemClock
from wire.join import join_address

log = logging.getLogger(__name__)

SWEEP_PERIOD_S = 3600.0
HTTP_STOP_S = 5
READER_STALL_MS_MAX = 30_000  # a reader that takes nothing for so long loses its connection, and its place in /v1/live


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port; port 0 is any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, option: str) -> Address:
        """Read `HOST:PORT` or `[IPV6]:PORT`, given as `option`. Raises ConfigInvalid."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdigit() or int(port) > 65_535:
            raise ConfigInvalid(
                f"{option} {text!r} is not HOST:PORT with a port of 0 to 65535. "
                f"Try: {option} 127.0.0.1:0 for any free port"
            )
        return cls(host, int(port))

    def next(self) -> Address:
        """The port after this one; any free one stays any free one."""
        return Address(self.host, self.port and self.port + 1)

    def __str__(self) -> str:
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Options:
    """What `cloud-sync serve` was told."""

    data: DataFolder
    grpc: Address
    http: Address
    enrol: Address


def serve(options: Options) -> None:
    """Run until SIGTERM or SIGINT. Raises ConfigInvalid, StoreDown or CatalogDown when it cannot start."""
    options.data.require_initialised()
    _require_loopback(options.http)
    with options.data.lock():
        clock = SystemClock()
        catalog, store = open_parts(options.data, clock)
        try:
            if isinstance(store, LocalStore):
                store.sweep_partial()
            asyncio.run(_serve(options, clock, catalog, store))
        finally:
            options.data.addresses.unlink(missing_ok=True)
            catalog.close()


async def _serve(options: Options, clock: Clock, catalog: SqlCatalog, store: ObjectStore) -> None:
    metrics = Metrics()
    ingestor = Ingestor(catalog, store, clock, metrics)
    group = GroupCommit(ingestor, metrics)
    stop = _stop_event()
    with ThreadPoolExecutor(1, thread_name_prefix="catalog") as pool:
        run_blocking = partial(asyncio.get_running_loop().run_in_executor, pool)
        pki = options.data.pki
        credentials = Credentials(pki.ca.read_bytes(), pki.server.read_bytes(), pki.server_key.read_bytes())
        authority = _authority(pki)
        trust = Trust(credentials.ca, authority.key_identifier if authority else b"")
        assigning = Assigning(catalog.assignments, Director(options.data.ota_keys, clock), clock, run_blocking)
        ports = StreamPorts(ingestor, group, catalog, clock, metrics, run_blocking, assigning, trust)
        desk = EnrolDesk(catalog.access, authority, credentials.ca, clock, run_blocking, sync_port=lambda: grpc.port)
        server = GrpcServer(
            credentials,
            lambda peer: Stream(peer.gateway, ports, peer.issuer),
            metrics,
            Gatekeeper(catalog.access, run_blocking),
            {**desk.identified, **UpdateDesk(Shelf(store)).methods},
        )
        enrolment = EnrolServer(credentials, desk.open, clock, metrics)
        query = QueryEngine(catalog, store)
        app = create_app(catalog, query, clock, metrics.registry, require_writable=ingestor.require_writable)
        with _listen(options.http) as listener:
            grpc = Address(options.grpc.host, await server.start(options.grpc.host, options.grpc.port))
            enrol = Address(options.enrol.host, await enrolment.start(options.enrol.host, options.enrol.port))
            http = Address(options.http.host, listener.getsockname()[1])
            async with asyncio.TaskGroup() as tasks, _http(app, listener):
                committing = tasks.create_task(group.run(), name="group commit")
                signing = tasks.create_task(keep_current(options.data.ota_keys, store, clock), name="signing")
                telling = tasks.create_task(assigning.run(), name="assigning")
                sweeping = tasks.create_task(_sweep(catalog, store, metrics), name="orphan sweep")
                try:
                    _tell_ready(options.data, grpc, enrol, http, catalog.generation())
                    await stop.wait()
                    log.info("stopping")
                    notify("STOPPING=1")
                finally:
                    await enrolment.stop()
                    await server.stop()
                    sweeping.cancel()
                    signing.cancel()
                    telling.cancel()
                    committing.cancel()


def _authority(pki: PkiFiles) -> Authority | None:
    """The CA, where its key is: replicas need none to serve those who have joined."""
    if not pki.ca_key.exists():
        log.warning("no CA key here: gateways can neither join nor renew their certificates path=%s", pki.ca_key)
        return None
    return Authority.load(pki.ca, pki.ca_key)


def _tell_ready(data: DataFolder, grpc: Address, enrol: Address, http: Address, generation: int) -> None:
    told = {"grpc": str(grpc), "enrol": str(enrol), "http": f"http://{http}"}
    data.write_addresses({**told, "pid": str(os.getpid())})
    words = " ".join(f"{name}={value}" for name, value in told.items())
    print(f"cloud-sync ready {words} data={data.root} generation={generation:016x}", flush=True)
    notify("READY=1")


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _sweep(catalog: SqlCatalog, store: ObjectStore, metrics: Metrics) -> None:
    """Every hour. `open_parts` has made sure that catalog and store are of one generation."""
    while True:
        try:
            metrics.orphans.inc(await asyncio.to_thread(sweep_orphans, catalog, store))
        except CloudError as error:
            log.warning("orphan sweep put off error=%s", error)
        await asyncio.sleep(SWEEP_PERIOD_S)


def _require_loopback(address: Address) -> None:
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address.host).is_loopback:
            return
    if address.host != "localhost":
        raise ConfigInvalid(
            f"--http {address}: HTTP has no users yet and serves loopback only. "
            f"Try: --http 127.0.0.1:{address.port}, and from afar: ssh -L {address.port}:127.0.0.1:{address.port} HOST"
        )


class _HttpServer(uvicorn.Server):
    """uvicorn without signal handlers: the service stops its parts in its own order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn."""
        yield


@contextmanager
def _listen(address: Address) -> Iterator[socket.socket]:
    """A socket bound for HTTP. Raises ConfigInvalid when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, READER_STALL_MS_MAX)  # connections inherit it
        try:
            listener.bind((address.host, address.port))
        except OSError as error:
            raise ConfigInvalid(
                f"cannot listen for HTTP on {address}: {error.strerror}. Try: --http {address.host}:0 for any free port"
            ) from error
        yield listener


@asynccontextmanager
async def _http(app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
    """Serve HTTP while the context lasts."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=HTTP_STOP_S,
    )
    server = _HttpServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells it by a flag only
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        app.state.live.close()
        server.should_exit = True
        await serving
