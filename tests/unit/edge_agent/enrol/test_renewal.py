"""A running gateway keeps its certificate fresh, by the command in a process of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config.load import load
from edge_agent.enrol import renewal as renewal_module
from edge_agent.enrol.identity import Identity, facts_json
from edge_agent.enrol.renewal import Renewal
from edge_agent.enrol.trust import TrustFile
from edge_agent.outbox.recorder import Recorder
from edge_agent.sync import grpc_transport
from tests.unit.cloud_sync.grpc_api.test_server import Cloud
from tests.unit.cloud_sync.grpc_api.test_server import cloud as cloud  # noqa: PLC0414 - fixtures
from tests.unit.edge_agent.enrol.test_enrolment import Device, age, make_token
from tests.unit.edge_agent.enrol.test_enrolment import device as device  # noqa: PLC0414
from tests.unit.edge_agent.sync.test_grpc_transport import recorder as recorder  # noqa: PLC0414
from tests.unit.edge_agent.sync.test_grpc_transport import syncing, take, until


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal_module, "FIRST_LOOK_S", (0.0, 0.0))
    monkeypatch.setattr(renewal_module, "LOOK_S", 0.05)
    monkeypatch.setattr(renewal_module, "RETRY_S_MIN", 0.05)
    monkeypatch.setattr(grpc_transport, "REJECTED_S_MIN", 0.05)


@asynccontextmanager
async def renewing(
    cloud: Cloud, device: Device, recorder: Recorder, folder: Path, trust: TrustFile | None = None
) -> AsyncIterator[None]:
    """The sync client of a joined gateway, with what renews its certificate."""
    (folder / "agent.toml").write_text(f'[agent]\nstate_dir = "{device.state}"\n')
    config = load(folder / "agent.toml")
    assert config.is_by_identity
    assert config.cloud is not None
    for name, path in (("ca.pem", config.cloud.ca), ("cert.pem", config.cloud.cert), ("key.pem", config.cloud.key)):
        (folder / name).symlink_to(path)
    async with syncing(recorder, cloud.address, folder, trust=trust) as sync:
        task = asyncio.create_task(Renewal(device.state, config.file, sync, random.Random(1)).run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def serial(cloud: Cloud) -> str:
    return cloud.catalog.access.identities()[0].serial


def set_due(identity: Identity) -> None:
    facts = replace(identity.facts, valid_from_s=0, valid_until_s=1)
    (identity.folder / "join.json").write_bytes(facts_json(facts))


async def test_at_two_thirds_of_its_life(
    cloud: Cloud, device: Device, recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    identity = await device.join(make_token(cloud))
    first = serial(cloud)
    take(recorder, 0, 10)
    async with renewing(cloud, device, recorder, tmp_path):
        await until(lambda: bool(cloud.stored("gw-new", recorder.view().offers()[-1].epoch)))
        assert serial(cloud) == first
        set_due(identity)
        await until(lambda: serial(cloud) != first)
        await until(lambda: "connected to" in caplog.text and " again" in caplog.text)
    assert "the certificate is renewed" in caplog.text
    assert device.identity.facts.valid_until_s > 1
    assert cloud.catalog.audit.rows(1)[0].action == "gateway.renew"


async def test_after_its_end(cloud: Cloud, device: Device, recorder: Recorder, tmp_path: Path) -> None:
    age(cloud, await device.join(make_token(cloud)), days=200)
    take(recorder, 0, 10)
    async with renewing(cloud, device, recorder, tmp_path):
        await until(lambda: bool(cloud.stored("gw-new", recorder.view().offers()[-1].epoch)))


async def test_what_does_not_work_is_said_once(
    cloud: Cloud, device: Device, recorder: Recorder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    identity = await device.join(make_token(cloud))
    cloud.catalog.access.revoke("gw-new", "stolen")
    set_due(identity)
    async with renewing(cloud, device, recorder, tmp_path):
        await until(lambda: "not renewed" in caplog.text)
        await asyncio.sleep(1)
    assert caplog.text.count("the certificate is not renewed") == 1
    assert "the cloud says: gateway gw-new was revoked" in caplog.text
