"""`edge-agent join` and `leave` as people and units run them: token files, another user's folder, links in it, logs."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent import exits
from edge_agent.enrol.identity import BEGUN, FOLDER, identity_of
from simulator.lab.processes import command
from tests.unit.cloud_sync.grpc_api.test_server import Cloud
from tests.unit.cloud_sync.grpc_api.test_server import cloud as cloud  # noqa: PLC0414 - a fixture
from tests.unit.edge_agent.enrol.test_enrolment import make_token

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who joins for another user")


class Card:
    """A configuration, a state directory and a boot partition."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.config = folder / "agent.toml"
        self.config.write_text(f'[agent]\nstate_dir = "{self.state}"\n')
        self.token_file = folder / "edge-join.txt"

    async def run(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        words = command("edge-agent", name, *options, "-c", str(self.config))
        return await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False)

    async def join(self) -> subprocess.CompletedProcess[str]:
        return await self.run("join", "--file", str(self.token_file), "--name", "gw-new")

    def kinds(self) -> dict[str, tuple[int, int]]:
        """Owner and mode of everything in the state directory."""
        found = {path.name: path.stat() for path in self.state.rglob("*")}
        return {name: (status.st_uid, stat.S_IMODE(status.st_mode)) for name, status in found.items()}


@pytest.fixture
def card() -> Iterator[Card]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for parent in Path(folder).parents:
            if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
        yield Card(Path(folder))


@pytest.mark.parametrize("form", ["plain", "crlf", "bom", "utf-16"])
async def test_a_token_file_of_any_editor_is_used_and_erased(cloud: Cloud, card: Card, form: str) -> None:
    line = f"{make_token(cloud)}\r\n"
    made = {"plain": line.strip().encode(), "crlf": line.encode(), "bom": line.encode("utf-8-sig")}
    card.token_file.write_bytes(made.get(form) or line.encode("utf-16"))
    done = await card.join()
    assert done.returncode == exits.OK, done.stderr
    assert not card.token_file.exists()
    assert set(card.kinds().values()) == {(os.geteuid(), 0o600), (os.geteuid(), 0o700)}


async def test_a_cut_before_the_erasure_leaves_no_token_for_ever(cloud: Cloud, card: Card) -> None:
    """The next boot runs the unit again: the token that was joined with is erased, another one is kept and told."""
    token = make_token(cloud, uses_max=5)
    card.token_file.write_text(str(token))
    assert (await card.join()).returncode == exits.OK
    card.token_file.write_text(str(token))
    done = await card.join()
    assert done.returncode == exits.OK, done.stderr
    assert not card.token_file.exists()
    assert cloud.catalog.join_tokens.all()[0].uses == 1
    card.token_file.write_text(str(make_token(cloud)))
    done = await card.join()
    assert (done.returncode, "is gateway gw-new of 127.0.0.1 already" in done.stderr) == (exits.FAILED, True)
    assert card.token_file.exists()


async def test_what_is_no_token_file(cloud: Cloud, card: Card) -> None:
    secret = card.state.parent / "shadow"
    secret.write_text(str(make_token(cloud)))
    card.token_file.symlink_to(secret)
    done = await card.join()
    assert (done.returncode, "Try: the file itself, not a link" in done.stderr) == (exits.FAILED, True)
    assert secret.exists()
    card.token_file.unlink()
    os.mkfifo(card.token_file)
    done = await card.join()
    assert (done.returncode, "is no file" in done.stderr) == (exits.FAILED, True)
    card.token_file.unlink()
    wrong = {b"\xff\x00\x81": "is no text", b"tg1.": "no join token", bytes(100_000): "no join token"}
    for data, words in wrong.items():
        card.token_file.write_bytes(data)
        done = await card.join()
        assert (done.returncode, words in done.stderr) == (exits.FAILED, True), done.stderr
        assert len(done.stderr.splitlines()) == 1
    card.token_file.write_text(secret.read_text())
    assert (await card.join()).returncode == exits.OK


@as_root
async def test_what_root_makes_is_the_owners(cloud: Cloud, card: Card) -> None:
    os.chown(card.state, NOBODY.pw_uid, NOBODY.pw_gid)
    card.token_file.write_text(str(make_token(cloud, config='[agent]\ninterval = "5s"\n')))
    card.token_file.chmod(0o600)
    done = await card.join()
    assert done.returncode == exits.OK, done.stderr
    owner = NOBODY.pw_uid
    assert card.kinds() == {
        FOLDER: (owner, 0o700),
        "assigned.toml": (owner, 0o640),
        **dict.fromkeys(("ca.pem", "device.pem", "join.json"), (owner, 0o600)),
    }
    assert not card.token_file.exists(), "root's own file"
    done = await card.run("renew")
    assert done.returncode == exits.OK, done.stderr
    assert {uid for uid, _ in card.kinds().values()} == {owner}


@as_root
@pytest.mark.parametrize("name", ["join", "leave"])
async def test_links_in_the_owners_folder_lead_root_nowhere(cloud: Cloud, card: Card, name: str) -> None:
    """Whoever is the agent's user may put links there; root erases and writes nothing through them."""
    target = card.state.parent / "etc"
    target.mkdir(mode=0o755)
    (target / "shadow").write_text("precious")
    os.chown(card.state, NOBODY.pw_uid, NOBODY.pw_gid)
    if name == "join":
        (card.state / BEGUN).symlink_to(target)
        card.token_file.write_text(str(make_token(cloud)))
        done = await card.join()
        assert (done.returncode, "cannot be written" in done.stderr) == (exits.FAILED, True), done.stderr
        (card.state / BEGUN).unlink()
        assert (await card.join()).returncode == exits.OK
    else:
        card.token_file.write_text(str(make_token(cloud)))
        assert (await card.join()).returncode == exits.OK
        (card.state / FOLDER / "extra").symlink_to(target / "shadow")
        done = await card.run("leave")
        assert done.returncode == exits.OK, done.stderr
        assert identity_of(card.state) is None
    assert [path.name for path in target.iterdir()] == ["shadow"]
    assert (target / "shadow").read_text() == "precious"


async def test_no_secret_is_said_or_logged(cloud: Cloud, card: Card, caplog: pytest.LogCaptureFixture) -> None:
    """Through a whole life: wrong secret, join, renewal, leaving; on both ends."""
    caplog.set_level(logging.DEBUG)
    said = []
    token = make_token(cloud)
    wrong = replace(token, secret="a" * 32)
    for each in (wrong, token):
        card.token_file.write_text(str(each))
        said.append(await card.join())
    keys = [(card.state / FOLDER / "device.pem").read_text()]
    said.append(await card.run("renew"))
    keys.append((card.state / FOLDER / "device.pem").read_text())
    said += [await card.run("leave"), await card.run("leave")]
    assert [done.returncode for done in said] == [exits.FAILED, exits.OK, exits.OK, exits.OK, exits.NOT_JOINED]
    text = caplog.text + "".join(done.stdout + done.stderr for done in said)
    text += "".join(f"{row.subject} {row.detail}" for row in cloud.catalog.audit.rows(50))
    assert token.id in text
    for secret in (token.secret, wrong.secret, "PRIVATE KEY", *(key.splitlines()[1] for key in keys)):
        assert secret not in text
    shutil.rmtree(card.state)
