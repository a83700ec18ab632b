"""A device's own words against the real service: joining, renewing, leaving, and everything that may go wrong."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_sync import refusals
from cloud_sync.auth.authority import RECOVERY_DAYS_MAX, Authority, DeviceKey
from cloud_sync.auth.ca import create_ca
from cloud_sync.auth.x509_parts import key_pem
from cloud_sync.catalog.join_tokens import TokenTerms
from cloud_sync.grpc_api import enrol as desk
from edge_agent.enrol import join as join_module
from edge_agent.enrol.client import Place, _call
from edge_agent.enrol.identity import FOLDER, Identity, identity_of
from edge_agent.enrol.join import Wish, join, leave
from edge_agent.enrol.keys import DeviceKey as OwnKey
from edge_agent.enrol.renew import renew
from edge_agent.errors import AgentError, CredentialsRejected, JoinRefused, LinkDown, StateUnusable
from edge_agent.sync.channel import REASON_LOST
from edge_agent.sync.credentials import Credentials
from tests.unit.cloud_sync.gateway import connect
from tests.unit.cloud_sync.grpc_api.test_server import Cloud, refusal
from tests.unit.cloud_sync.grpc_api.test_server import cloud as cloud  # noqa: PLC0414 - a fixture
from tests.unit.edge_agent.parts import ManualClock
from wire.clock import SystemClock
from wire.join import JOIN_METHOD, RECOVER_METHOD, RENEW_METHOD, JoinToken, join_address

CONFIG = '[[sensor]]\nid = "x"\n'


def make_token(cloud: Cloud, *, port: int | None = None, ca: bytes = b"", **terms: object) -> JoinToken:
    first = x509.load_pem_x509_certificate(cloud.files.ca.read_bytes())
    der = ca or first.public_bytes(serialization.Encoding.DER)
    token = JoinToken.new(der, join_address("127.0.0.1", port or cloud.enrol_port))
    usual = TokenTerms(3600, 1, "", True, {"site": "oslo"}, "")
    cloud.catalog.join_tokens.create(token, replace(usual, **terms))  # type: ignore[arg-type]
    return token


class Device:
    """A state directory, and what was said to its user."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.said: list[str] = []
        self.problems: list[str] = []
        self.clock: SystemClock | ManualClock = SystemClock()

    async def join(self, token: JoinToken, name: str = "gw-new", wait_s: float = 30.0, cloud: str = "") -> Identity:
        wish = Wish(token, name, cloud, "", wait_s)
        return await asyncio.to_thread(join, self.state, wish, lambda _: self.problems, self.clock, self.said.append)

    @property
    def identity(self) -> Identity:
        found = identity_of(self.state)
        assert found is not None
        return found

    async def renew(self, cloud: Cloud) -> Identity:
        host, _, port = cloud.address.rpartition(":")
        return await asyncio.to_thread(renew, self.identity, host, int(port))


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(join_module, "ASK_AGAIN_S", 0.05)
    return Device(tmp_path / "state")


def keys_of(identity: Identity, folder: Path) -> Path:
    """The files as `connect` wants them."""
    folder.mkdir()
    for name, path in (("ca.pem", identity.ca), ("cert.pem", identity.device), ("key.pem", identity.device)):
        shutil.copy(path, folder / name)
    return folder


async def may_sync(cloud: Cloud, identity: Identity, folder: Path) -> tuple[object, str] | None:
    """None when the cloud welcomes the gateway, else how it was refused.

    A write that meets the end of the stream puts the library's words over the server's (grpc issue 36066): once
    more, as the agent does."""
    keys = keys_of(identity, folder)
    while True:
        async with connect(cloud.address, keys) as client:
            try:
                await client.open()
            except Exception:
                refused = await refusal(client)
                if refused[1] == REASON_LOST:
                    continue
                return refused
        return None


async def test_a_device_joins_and_syncs(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    identity = await device.join(make_token(cloud, config=CONFIG))
    assert identity == device.identity
    assert identity.facts.gateway == "gw-new"
    assert identity.facts.labels == {"site": "oslo"}
    assert identity.url == f"https://{cloud.address}"
    assert identity.assigned.read_text() == CONFIG
    days = (identity.facts.valid_until_s - identity.facts.valid_from_s) / 86_400
    assert 90 <= days < 90.1
    assert {stat.S_IMODE(path.stat().st_mode) for path in (identity.device, identity.ca)} == {0o600}
    assert stat.S_IMODE(identity.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in device.state.rglob("*")) == sorted(
        [FOLDER, "assigned.toml", "ca.pem", "device.pem", "join.json"]
    )
    Credentials(identity.ca, identity.device, identity.device).read()
    assert await may_sync(cloud, identity, tmp_path / "keys") is None
    with pytest.raises(JoinRefused, match="already"):
        await device.join(make_token(cloud))


async def test_a_configuration_that_the_agent_cannot_use_is_left_out(cloud: Cloud, device: Device) -> None:
    device.problems = ['assigned.toml:1 sensor "x": "driver" is missing']
    identity = await device.join(make_token(cloud, config=CONFIG))
    assert not identity.assigned.exists()
    assert device.said == [f"the cloud's first configuration is not used: {device.problems[0]}"]


async def test_nothing_is_said_to_another_cloud(cloud: Cloud, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    monkeypatch.setattr(desk.EnrolServer, "_answer", lambda *arguments: asked.append(b""))
    with pytest.raises(CredentialsRejected, match="Nothing was sent"):
        await device.join(make_token(cloud, ca=b"another cloud's CA"))
    assert asked == []
    assert not device.state.exists()


async def test_a_server_that_only_shows_the_right_ca(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    """Its certificate is not of that CA: the secret is not sent, and the second try, at the right place, succeeds."""
    foreign = type(cloud.files)(tmp_path / "foreign")
    foreign.folder.mkdir()
    create_ca(foreign, [])
    credentials = desk.Credentials(
        cloud.files.ca.read_bytes(), foreign.server.read_bytes(), foreign.server_key.read_bytes()
    )
    asked: list[bytes] = []

    async def answer(data: bytes) -> bytes:
        asked.append(data)
        return b""

    liar = desk.EnrolServer(credentials, {desk.JOIN_METHOD: answer}, SystemClock(), cloud.metrics)
    token = make_token(cloud)
    try:
        port = await liar.start("127.0.0.1", 0)
        with pytest.raises((CredentialsRejected, LinkDown)):
            await device.join(token, cloud=f"127.0.0.1:{port}")
    finally:
        await liar.stop()
    assert asked == []
    assert (await device.join(token)).facts.gateway == "gw-new"


async def test_tokens_that_are_not_good(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    used = make_token(cloud)
    await Device(tmp_path / "first").join(used, "gw-first")
    revoked = make_token(cloud)
    cloud.catalog.join_tokens.revoke(revoked.id)
    expired = make_token(cloud, ttl_s=0)
    wrong = replace(make_token(cloud), secret="a" * 32)
    for token, words in ((used, "used 1 times of 1"), (revoked, "revoked"), (expired, "expired"), (wrong, "no such")):
        with pytest.raises(JoinRefused, match=words) as told:
            await device.join(token)
        assert "Try: " in str(told.value)
    with pytest.raises(JoinRefused, match="gw-first is taken"):
        await device.join(make_token(cloud), "gw-first")
    with pytest.raises(JoinRefused, match="gateway id"):
        await device.join(make_token(cloud), "Not An Id")
    assert (await device.join(make_token(cloud))).facts.gateway == "gw-new"


async def test_nobody_answers(cloud: Cloud, device: Device) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        token = make_token(cloud, port=unused.getsockname()[1])
        with pytest.raises(LinkDown, match="does not answer: Connection refused"):
            await device.join(token)
    with pytest.raises(LinkDown, match="no such name"):
        await device.join(token, cloud="no-such-host.invalid")
    with pytest.raises(JoinRefused, match="--cloud HOST:PORT"):
        await device.join(replace(token, address=""))
    assert (await device.join(token, cloud=f"127.0.0.1:{cloud.enrol_port}")).facts.gateway == "gw-new"


async def test_waiting_for_somebody_to_compare_the_code(cloud: Cloud, device: Device) -> None:
    token = make_token(cloud, approved=False)
    with pytest.raises(LinkDown, match="nobody approved") as told:
        await device.join(token, wait_s=0.2)
    (waiting,) = cloud.catalog.access.identities()
    assert (waiting.gateway, waiting.state) == ("gw-new", "pending")
    assert waiting.code in str(told.value)
    assert waiting.code in device.said[0]
    going = asyncio.create_task(device.join(token))  # the same command again goes on with the same key
    await asyncio.sleep(0.2)
    cloud.catalog.access.approve(waiting.code)
    assert (await going).facts.gateway == "gw-new"
    assert cloud.catalog.join_tokens.all()[0].uses == 1


@pytest.mark.parametrize("days", [-8000, 9000])
async def test_a_clock_that_is_years_off(cloud: Cloud, device: Device, days: int) -> None:
    """Only the check of the year looks at it here; the system tests set the clock of the whole machine."""
    device.clock = ManualClock()
    device.clock.now_ns = days * 86_400 * 10**9
    assert (await device.join(make_token(cloud))).facts.gateway == "gw-new"


async def test_a_clock_outside_of_every_certificate(cloud: Cloud, device: Device) -> None:
    device.clock = ManualClock(2_600_000_000 * 10**9)
    with pytest.raises(CredentialsRejected, match=r"this clock says 2106-.*sudo date"):
        await device.join(make_token(cloud))


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full but for 12 KiB."""
    mount = tmp_path / "card"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tidegate-test", str(mount)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no small file system: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


@pytest.mark.parametrize("room", [0, 4096, 12288])
async def test_the_disk_is_full_and_a_second_try_succeeds(cloud: Cloud, card: Path, room: int) -> None:
    device = Device(card / "state")
    token = make_token(cloud)
    filler = card / "filler"
    filler.write_bytes(bytes(64 * 1024 - 4096 - room))
    with pytest.raises(StateUnusable, match="No space left on device"):
        await device.join(token)
    assert identity_of(device.state) is None
    filler.unlink()
    assert (await device.join(token)).facts.gateway == "gw-new"
    assert cloud.catalog.join_tokens.all()[0].uses == 1


async def test_renewal_and_a_lost_answer(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    await device.join(make_token(cloud))
    before = device.identity.device.read_bytes()
    await device.renew(cloud)
    after = device.identity.device.read_bytes()
    assert OwnKey.load(before).code != OwnKey.load(after).code
    assert not device.identity.next_key.exists()
    device.identity.device.write_bytes(before)  # as if the cut had come before the file was written
    device.identity.next_key.write_bytes(OwnKey.load(after).pem)
    await device.renew(cloud)
    assert device.identity.device.read_bytes() == after
    assert await may_sync(cloud, device.identity, tmp_path / "keys") is None
    device.identity.device.write_bytes(before)
    refused = await may_sync(cloud, device.identity, tmp_path / "old")
    assert refused is not None
    assert "replaced by a newer one" in refused[1]


async def test_a_copied_card_is_noticed(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    await device.join(make_token(cloud))
    shutil.copytree(device.state, tmp_path / "copy")
    copy = Device(tmp_path / "copy")
    await device.renew(cloud)
    with pytest.raises(JoinRefused, match="another device has it"):
        await copy.renew(cloud)


def age(cloud: Cloud, identity: Identity, days: int) -> None:
    """Let the identity's certificate have ended so many days ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = Authority.load(cloud.files.ca, cloud.files.ca_key)
    begin = datetime.now(UTC) - timedelta(days=days + 90)
    issued = authority.sign(key.public_key(), identity.facts.gateway, begin, 90)
    cloud.catalog.access.register(identity.facts.gateway, DeviceKey(key.public_key()).sha256, issued)
    identity.device.write_bytes(key_pem(key) + issued.pem)


async def test_back_after_months_on_a_shelf(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    identity = await device.join(make_token(cloud))
    age(cloud, identity, days=300)
    assert (await may_sync(cloud, identity, tmp_path / "old")) is not None
    await device.renew(cloud)
    assert await may_sync(cloud, device.identity, tmp_path / "new") is None


async def test_what_does_not_come_back(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    identity = await device.join(make_token(cloud))
    age(cloud, identity, days=RECOVERY_DAYS_MAX + 2)
    with pytest.raises(JoinRefused, match=f"at most {RECOVERY_DAYS_MAX} can be bridged"):
        await device.renew(cloud)
    age(cloud, identity, days=30)
    shutil.copytree(device.state, tmp_path / "thief")
    thief = Device(tmp_path / "thief")
    thief.identity.device.write_bytes(
        OwnKey.new().pem + identity.device.read_bytes().partition(b"-----END PRIVATE KEY-----\n")[2]
    )
    with pytest.raises(AgentError):
        await thief.renew(cloud)
    cloud.catalog.access.revoke("gw-new", "stolen")
    with pytest.raises(JoinRefused, match="was revoked"):
        await device.renew(cloud)


async def test_revocation_ends_open_streams(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    identity = await device.join(make_token(cloud))
    async with (
        connect(cloud.address, keys_of(identity, tmp_path / "keys")) as client,
        connect(cloud.address, cloud.keys) as other,
    ):
        await client.open()
        await other.open()
        cloud.catalog.access.revoke("gw-new", "stolen")
        async with asyncio.timeout(20):
            code, detail = await refusal(client)
        assert "was revoked" in detail
        assert "cloud-sync token create --gateway gw-new" in detail
        assert code is not None
        cloud.catalog.access.revoke("gw-a", "came by file")
        async with asyncio.timeout(20):
            assert "was revoked" in (await refusal(other))[1]


async def test_leaving(cloud: Cloud, device: Device, tmp_path: Path) -> None:
    identity = await device.join(make_token(cloud))
    (device.state / "outbox.db").write_text("readings")
    shutil.copytree(device.state, tmp_path / "copy")
    await asyncio.to_thread(leave, identity, device.said.append, force=False)
    assert [path.name for path in device.state.iterdir()] == ["outbox.db"]
    copy = identity_of(tmp_path / "copy")
    assert copy is not None
    refused = await may_sync(cloud, copy, tmp_path / "keys")
    assert refused is not None
    assert "has left" in refused[1]
    bound = make_token(cloud, gateway="gw-new")
    assert (await device.join(bound, "anything")).facts.gateway == "gw-new"
    await cloud.server.stop()
    with pytest.raises(LinkDown, match="edge-agent leave --force"):
        await asyncio.to_thread(leave, device.identity, device.said.append, force=False)
    await asyncio.to_thread(leave, device.identity, device.said.append, force=True)
    assert "cloud-sync gateway revoke gw-new" in device.said[-1]
    assert identity_of(device.state) is None


async def test_a_damaged_identity_is_named(device: Device) -> None:
    (device.state / FOLDER).mkdir(parents=True)
    for text in ("", "{", "[]", json.dumps({"labels": 1}), json.dumps({"gateway": 1, "labels": {}})):
        (device.state / FOLDER / "join.json").write_text(text)
        with pytest.raises(StateUnusable, match=r"damaged.*Try: edge-agent leave --force"):
            identity_of(device.state)


async def test_who_is_refused_often_has_to_wait(cloud: Cloud, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "REFUSALS_BURST", 3.0)
    monkeypatch.setattr(refusals, "REFUSALS_PER_S", 1e-6)
    wrong = replace(make_token(cloud), secret="a" * 32)
    said = []
    for _ in range(5):
        with pytest.raises(AgentError) as told:
            await device.join(wrong)
        said.append("no such token" in str(told.value))
    assert said == [True, True, True, False, False]
    assert "too many enrolment calls" in str(told.value)


@pytest.mark.parametrize(
    ("peer", "pays"),
    [
        ("ipv4:192.0.2.7:4711", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4711", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::9]:1", "2001:db8:1:2::/64"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:4711", "192.0.2.7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "fe80::/64"),
        ("unix:/run/some", "unix"),
        ("", ""),
    ],
)
def test_whose_share_a_refusal_costs(peer: str, pays: str) -> None:
    """An IPv6 host has 2^64 addresses to guess from."""
    assert desk.who_pays(peer) == pays


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"", b"\x22\x01\x00" * 3000])
async def test_calls_that_are_none(cloud: Cloud, device: Device, data: bytes) -> None:
    place = Place("127.0.0.1", cloud.enrol_port, cloud.files.ca.read_bytes())
    for method in (JOIN_METHOD, RECOVER_METHOD, RENEW_METHOD):
        with pytest.raises(JoinRefused):
            await _call(place, method, data)
    with pytest.raises(LinkDown, match="larger than max"):
        await _call(place, JOIN_METHOD, bytes(100_000))
