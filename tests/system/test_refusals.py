"""Who is refused at the gateways' port, with the reason on both ends: a real service, the agent's own client."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cloud_sync.auth.ca import PkiFiles, create_ca, issue_gateway
from edge_agent.outbox.recorder import Recorder
from edge_agent.sync import grpc_transport
from simulator.lab.cloud import LabCloud
from simulator.lab.processes import run
from tests.unit.edge_agent.sync.test_grpc_transport import recorder as recorder  # noqa: PLC0414 - a fixture
from tests.unit.edge_agent.sync.test_grpc_transport import syncing

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

WAIT_S = 60.0
NOW = datetime.now(UTC)
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Site:
    """A running service, and what its operator could make with its keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cloud = LabCloud(folder / "cloud")
        self.cloud.initialise()
        self.files = PkiFiles(self.cloud.folder / "pki")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.cloud.grpc_port}"

    def log_says(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.cloud.log.read_text().splitlines())

    def keys(self, name: str, files: PkiFiles | None = None, at: datetime = NOW) -> Path:
        """Files of a gateway; the CA among them is always this cloud's."""
        made = issue_gateway(files or self.files, "gw-a", at, 1)
        return self.put(name, made.pem, made.issued.pem)

    def signed(self, name: str, key: PrivateKey, *uris: str) -> Path:
        """A certificate for a key and names that the CA would never sign by itself."""
        ca = x509.load_pem_x509_certificate(self.files.ca.read_bytes())
        ca_key = serialization.load_pem_private_key(self.files.ca_key.read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw-a")])
        day = timedelta(days=1)
        certificate = (
            x509.CertificateBuilder(ca.subject, subject, key.public_key(), 1, NOW - day, NOW + day)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(ca_key, hashes.SHA256())
        )
        formats = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, *formats)
        return self.put(name, pem, certificate.public_bytes(serialization.Encoding.PEM))

    def put(self, name: str, key: bytes, certificate: bytes) -> Path:
        folder = self.folder / name
        folder.mkdir()
        (folder / "key.pem").write_bytes(key)
        (folder / "cert.pem").write_bytes(certificate)
        shutil.copy(self.files.ca, folder / "ca.pem")
        return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    made.cloud.start()
    yield made
    made.cloud.stop()


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> PkiFiles:
    files = PkiFiles(tmp_path_factory.mktemp("foreign"))
    create_ca(files, [])
    return files


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_transport, "PROBE_S_MIN", 0.0)


async def both_say(
    site: Site, recorder: Recorder, keys: Path, gateway: str, *cloud: str, server_name: str = ""
) -> None:
    """The agent's client says `gateway` of its connection, the service's log has a line with the words."""
    async with syncing(recorder, site.address, keys, server_name) as client:
        await until(lambda: gateway in client.status.last_error, lambda: client.status.last_error)
        assert client.is_rejected
        await until(lambda: site.log_says(*cloud), site.cloud.log.read_text)


async def until(condition: Callable[[], bool], said: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - of a log and a status, which have no events
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(said())


async def test_an_expired_certificate(site: Site, recorder: Recorder) -> None:
    keys = site.keys("expired", at=NOW - timedelta(days=9))
    await both_say(site, recorder, keys, "certificate has expired", "TLS refused", "reason=expired", "edge-agent renew")


async def test_a_certificate_of_another_ca(site: Site, recorder: Recorder, foreign: PkiFiles) -> None:
    keys = site.keys("stranger", foreign)
    await both_say(site, recorder, keys, "the cloud refuses", "TLS refused", "reason=other_ca", "not trusted here")


async def test_a_cloud_of_another_ca(site: Site, recorder: Recorder, foreign: PkiFiles) -> None:
    keys = site.keys("astray")
    shutil.copy(foreign.ca, keys / "ca.pem")
    await both_say(site, recorder, keys, "the cloud's certificate is refused", "TLS refused", "reason=distrusted")


async def test_a_name_that_is_not_in_the_servers_certificate(site: Site, recorder: Recorder) -> None:
    keys, said = site.keys("elsewhere"), "is [cloud] server_name right?"
    await both_say(site, recorder, keys, said, "TLS refused", "reason=distrusted", server_name="elsewhere.example")


@pytest.mark.parametrize(
    ("name", "uri", "words"),
    [
        ("malformed", "urn:tidegate:gateway:Not_An_Id", "gateway id 'Not_An_Id' must be"),
        ("otherwise", "urn:othercloud:gateway:gw-a", "names 0 gateways"),
    ],
)
async def test_a_name_that_is_no_gateways(site: Site, recorder: Recorder, name: str, uri: str, words: str) -> None:
    keys = site.signed(name, ec.generate_private_key(ec.SECP256R1()), uri)
    await both_say(site, recorder, keys, words, "reason=identity", words)


async def test_an_ed25519_key(site: Site, recorder: Recorder) -> None:
    """gRPC's TLS offers no such signature: the service sees a gateway without a certificate that it could check."""
    keys = site.signed("ed25519", ed25519.Ed25519PrivateKey.generate(), "urn:tidegate:gateway:gw-a")
    await both_say(site, recorder, keys, "the cloud refuses", "TLS refused")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1], ids=["1.1", "1.0"])
def test_old_tls(site: Site, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, version
    host, _, port = site.address.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as plain, pytest.raises((ssl.SSLError, OSError)) as told:
        context.wrap_socket(plain)
    if "NO_PROTOCOLS_AVAILABLE" in str(told.value):
        pytest.skip(f"OpenSSL here speaks no {version.name}")
    asyncio.run(until(lambda: site.log_says("TLS refused", "reason=old_tls", "1.2 or later"), site.cloud.log.read_text))


def test_refusals_are_counted(site: Site) -> None:
    """By reason; after the others, in the order of this file."""
    token = run("cloud-sync", "api-token", "create", "metrics", "--ttl", "1d", "--data", str(site.cloud.folder)).strip()
    request = urllib.request.Request(f"{site.cloud.url}metrics", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert 'tidegate_tls_refused_total{reason="' in answer.read().decode()
