"""The service, wired once: gRPC ingest and HTTP in one event loop, decoding, disk and catalog on worker threads."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cloud_sync.auth.authority import Authority
from cloud_sync.auth.ca import PkiFiles, read_certificate
from cloud_sync.auth.trust import Trust
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.data_folder import DataFolder, open_parts
from cloud_sync.errors import CloudError, ConfigInvalid
from cloud_sync.grpc_api.assigning import Assigning, UpdateDesk
from cloud_sync.grpc_api.enrol import EnrolDesk, EnrolServer
from cloud_sync.grpc_api.handshakes import Handshakes
from cloud_sync.grpc_api.peer import Gatekeeper
from cloud_sync.grpc_api.server import Credentials, GrpcServer
from cloud_sync.grpc_api.stream import Stream, StreamPorts
from cloud_sync.http_api.app import create_app
from cloud_sync.http_api.server import CertificateFiles, listening, require_safe, serving
from cloud_sync.ingest.group_commit import GroupCommit
from cloud_sync.ingest.ingestor import Ingestor
from cloud_sync.metrics import Metrics
from cloud_sync.notify import notify
from cloud_sync.query.engine import QueryEngine
from cloud_sync.rollout.director import Director
from cloud_sync.rollout.resigning import keep_current
from cloud_sync.rollout.shelf import Shelf
from cloud_sync.rollout.signings import Signings
from cloud_sync.storage.local_store import LocalStore
from cloud_sync.storage.object_store import ObjectStore
from cloud_sync.storage.sweep import sweep_orphans
from cloud_sync.webhooks.pump import Pump
from wire.clock import Clock, SystemClock
from wire.join import join_address

log = logging.getLogger(__name__)

SWEEP_PERIOD_S = 3600.0


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
    http_tls: CertificateFiles | None = None


def certificate_files(
    folder: DataFolder, own: bool, certificate: Path | None, key: Path | None
) -> CertificateFiles | None:
    """What HTTP is served with, as told by --http-tls, --http-cert and --http-key. Raises ConfigInvalid."""
    if (certificate is None) != (key is None) or (own and certificate is not None):
        raise ConfigInvalid("HTTPS takes either --http-tls, or --http-cert FILE and --http-key FILE together")
    if certificate is not None and key is not None:
        return CertificateFiles(certificate, key)
    return CertificateFiles(folder.pki.server, folder.pki.server_key) if own else None


def serve(options: Options, handshakes: Handshakes) -> None:
    """Run until SIGTERM or SIGINT; `handshakes` counts in the service's metrics.

    Raises ConfigInvalid, StoreDown or CatalogDown when it cannot start.
    """
    options.data.require_initialised()
    require_safe(options.http.host, options.http.port, options.http_tls is not None)
    tls = None if options.http_tls is None else options.http_tls.context()
    pki = options.data.pki
    CertificateFiles(pki.server, pki.server_key).context()  # of a pair that is none gRPC says that it cannot listen
    with options.data.lock():
        clock = SystemClock()
        catalog, store = open_parts(options.data, clock)
        try:
            if isinstance(store, LocalStore):
                store.sweep_partial()
            asyncio.run(_serve(options, handshakes, tls, clock, catalog, store))
        finally:
            options.data.addresses.unlink(missing_ok=True)
            catalog.close()


async def _serve(
    options: Options,
    handshakes: Handshakes,
    tls: ssl.SSLContext | None,
    clock: Clock,
    catalog: SqlCatalog,
    store: ObjectStore,
) -> None:
    metrics = Metrics()
    handshakes.count_in(metrics)
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
        shown = pki.server if options.http_tls is None else options.http_tls.certificate
        names = read_certificate(shown).names
        app = create_app(catalog, query, clock, metrics.registry, names, ingestor.require_writable)
        with listening(options.http.host, options.http.port) as listener:
            grpc = Address(options.grpc.host, await server.start(options.grpc.host, options.grpc.port))
            try:
                enrol = Address(options.enrol.host, await enrolment.start(options.enrol.host, options.enrol.port))
            except ConfigInvalid:
                await server.stop()  # gRPC complains of one that is only forgotten
                raise
            http = Address(options.http.host, listener.getsockname()[1])
            async with asyncio.TaskGroup() as tasks, serving(app, listener, tls):
                committing = tasks.create_task(group.run(), name="group commit")
                signing = tasks.create_task(
                    keep_current(options.data.ota_keys, store, clock, Signings(catalog.audit)), name="signing"
                )
                telling = tasks.create_task(assigning.run(), name="assigning")
                calling = tasks.create_task(Pump(catalog.webhooks, clock).run(), name="webhooks")
                sweeping = tasks.create_task(_sweep(catalog, store, metrics), name="orphan sweep")
                try:
                    _tell_ready(
                        options.data,
                        grpc,
                        enrol,
                        f"{'http' if tls is None else 'https'}://{http}",
                        catalog.generation(),
                    )
                    await stop.wait()
                    log.info("stopping")
                    notify("STOPPING=1")
                finally:
                    await enrolment.stop()
                    await server.stop()
                    sweeping.cancel()
                    calling.cancel()
                    signing.cancel()
                    telling.cancel()
                    committing.cancel()


def _authority(pki: PkiFiles) -> Authority | None:
    """The CA, where its key is: replicas need none to serve those who have joined."""
    if not pki.ca_key.exists():
        log.warning("no CA key here: gateways can neither join nor renew their certificates path=%s", pki.ca_key)
        return None
    return Authority.load(pki.ca, pki.ca_key)


def _tell_ready(data: DataFolder, grpc: Address, enrol: Address, http: str, generation: int) -> None:
    told = {"grpc": str(grpc), "enrol": str(enrol), "http": http}
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
