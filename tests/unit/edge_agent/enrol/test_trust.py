"""A CA is replaced: what a gateway takes over, when it asks for a certificate, and what it does not believe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_sync.auth.authority import Authority, DeviceKey
from cloud_sync.auth.ca import PkiFiles, create_ca
from cloud_sync.auth.rotation import introduce, switch
from cloud_sync.auth.x509_parts import issuer_of, key_pem
from edge_agent.enrol import renewal as renewal_module
from edge_agent.enrol.identity import Identity
from edge_agent.enrol.trust import TrustFile
from edge_agent.errors import AgentError, CredentialsRejected, LinkDown
from edge_agent.outbox.recorder import Recorder
from tests.unit.cloud_sync.gateway import connect, hello
from tests.unit.cloud_sync.grpc_api.test_server import Cloud, issue, serving
from tests.unit.edge_agent.enrol.test_enrolment import Device, make_token
from tests.unit.edge_agent.enrol.test_enrolment import device as device  # noqa: PLC0414 - fixtures
from tests.unit.edge_agent.enrol.test_renewal import hurry as hurry  # noqa: PLC0414
from tests.unit.edge_agent.enrol.test_renewal import renewing, serial
from tests.unit.edge_agent.sync.test_grpc_transport import recorder as recorder  # noqa: PLC0414
from tests.unit.edge_agent.sync.test_grpc_transport import take, until
from wire.trust import BUNDLE_BYTES_MAX, bundle_digest


class Rotation:
    """A cloud whose new CA signs, and what came of the old one."""

    def __init__(self, folder: Path) -> None:
        self.files = PkiFiles(folder / "pki")
        self.files.folder.mkdir()
        create_ca(self.files, [])
        self.old_ca = self.files.ca.read_bytes()
        self.old = Authority.load(self.files.ca, self.files.ca_key)
        self.old_keys = issue(self.files, "gw-file", folder / "gw-file")
        introduce(self.files)
        switch(self.files)
        self.bundle = self.files.ca.read_bytes()
        self.new = Authority.load(self.files.ca, self.files.ca_key)

    def put_back(self, cloud: Cloud, identity: Identity) -> None:
        """The gateway is as it was before: it has a certificate of the old CA, and knows no other."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self.old.sign(key.public_key(), identity.facts.gateway, datetime.now(UTC), 90)
        cloud.catalog.access.register(identity.facts.gateway, DeviceKey(key.public_key()).sha256, issued)
        identity.device.write_bytes(key_pem(key) + issued.pem)
        identity.ca.write_bytes(self.old_ca)


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    return Rotation(tmp_path)


@pytest.fixture
async def cloud(rotation: Rotation, tmp_path: Path) -> AsyncIterator[Cloud]:
    async with serving(tmp_path, rotation.files) as made:
        yield made


async def test_a_running_gateway_trusts_the_new_ca_and_gets_a_certificate_of_it(
    rotation: Rotation,
    cloud: Cloud,
    device: Device,
    recorder: Recorder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(renewal_module, "ASKED_S_MAX", 0.2)
    identity = await device.join(make_token(cloud))
    assert identity.ca.read_bytes() == rotation.bundle, "who joins now knows both"
    rotation.put_back(cloud, identity)
    before = serial(cloud)
    take(recorder, 0, 10)
    async with renewing(cloud, device, recorder, tmp_path, trust=TrustFile(identity.ca)):
        await until(lambda: identity.ca.read_bytes() == rotation.bundle)
        await until(lambda: serial(cloud) != before)
        await until(lambda: bool(cloud.stored("gw-new", recorder.view().offers()[-1].epoch)))
        await until(lambda: cloud.ended("done") + cloud.ended("link") >= 1)
        after = serial(cloud)
        await asyncio.sleep(0.5)  # some looks later
        assert serial(cloud) == after, "once"
    certificate = x509.load_pem_x509_certificate(device.identity.device.read_bytes())
    assert issuer_of(certificate) == rotation.new.key_identifier
    assert "the CAs of the cloud have changed" in caplog.text


@pytest.mark.parametrize("seen", ["other", "same", "none"])
async def test_who_is_told(rotation: Rotation, cloud: Cloud, seen: str) -> None:
    """Only who knows another bundle, and could change it: a gateway whose files people put there says 0."""
    digest = {"other": 1, "same": bundle_digest(rotation.bundle), "none": 0}[seen]
    async with connect(cloud.address, rotation.old_keys) as client:
        welcome = await client.open(replace(hello(), ca_bundle=digest))
    assert welcome.ca_bundle == (rotation.bundle if seen == "other" else b"")
    assert welcome.renew


async def test_clones_are_not_asked_to_renew(rotation: Rotation, cloud: Cloud) -> None:
    """The first to renew would shut out the other, whose data is taken."""
    asked = []
    for machine in (b"original", b"copy", b"original"):
        async with connect(cloud.address, rotation.old_keys) as client:
            asked.append((await client.open(replace(hello(), machine=machine))).renew)
    assert asked == [True, False, False]


async def test_what_would_shut_the_gateway_out_is_not_believed(
    rotation: Rotation, cloud: Cloud, tmp_path: Path
) -> None:
    other = PkiFiles(tmp_path / "other")
    other.folder.mkdir()
    create_ca(other, [])
    path = tmp_path / "ca.pem"
    path.write_bytes(rotation.old_ca)
    file, port = TrustFile(path), int(cloud.address.rpartition(":")[2])
    wrong: list[tuple[bytes, int, type[AgentError]]] = [
        (other.ca.read_bytes(), port, CredentialsRejected),
        (b"no PEM", port, CredentialsRejected),
        (b"", port, CredentialsRejected),
        (rotation.bundle + b"#" * BUNDLE_BYTES_MAX, port, CredentialsRejected),
        (rotation.bundle, 1, LinkDown),
    ]
    for bundle, at, error in wrong:
        with pytest.raises(error):
            await asyncio.to_thread(file.replace, bundle, "127.0.0.1", at, "127.0.0.1")
        assert path.read_bytes() == rotation.old_ca
    assert file.digest() == bundle_digest(rotation.old_ca)
    await asyncio.to_thread(file.replace, rotation.bundle, "127.0.0.1", port, "127.0.0.1")
    assert path.read_bytes() == rotation.bundle
    assert not path.with_name("ca.pem.offered").exists()
    path.unlink()
    assert file.digest() == 0
