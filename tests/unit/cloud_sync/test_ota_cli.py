"""`edge-ota`: every command of the operating page, in its order, and what users see when they go wrong."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.cli import main as cloud_sync
from cloud_sync.ota_cli import main as edge_ota
from cloud_sync.rollout.ceremony import DIRECTOR
from cloud_sync.rollout.keys import load_key
from cloud_sync.rollout.repository import Repository
from cloud_sync.rollout.resigning import keep_current
from cloud_sync.rollout.signings import Signing, Signings
from cloud_sync.storage.local_store import LocalStore
from edge_agent.cli import main as edge_agent
from edge_agent.ota.__main__ import main as edge_agent_ota
from wire.clock import SystemClock

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/operating/ota.md"
PASSPHRASE = "correct horse"
PROGRAMS: dict[str, click.Command] = {
    "edge-ota": edge_ota,
    "python": edge_agent_ota,
    "edge-agent": edge_agent,
    "cloud-sync": cloud_sync,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the service's data and the shipped model, as the page assumes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_OTA_PASSPHRASE", PASSPHRASE)
    assert CliRunner().invoke(cloud_sync, ["init", "--data", "data"]).exit_code == 0
    (tmp_path / "agent.toml").write_text('[agent]\nstate_dir = "state"\nruntime_dir = "run"\n')
    monkeypatch.setenv("EDGE_AGENT_CONFIG", str(tmp_path / "agent.toml"))
    shutil.copytree(ROOT / "models/value-novelty", tmp_path / "models/value-novelty")
    issue = ["cert", "issue", "kiln-7", "--data", "data", "--out", "kiln-7"]
    assert CliRunner().invoke(cloud_sync, issue).exit_code == 0
    return tmp_path


def run(line: str, code: int = 0) -> Result:
    program, *arguments = shlex.split(line.replace("-m edge_agent.ota ", ""))
    result = CliRunner().invoke(PROGRAMS[program], arguments)
    assert result.exit_code == code, (line, result.output, result.exception)
    return result


def commands() -> list[str]:
    """The lines of the page's code blocks that are for our programs."""
    blocks = re.findall(r"```\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [
        line for block in blocks for line in block.splitlines() if line.split(" ")[0] in PROGRAMS and "DIR" not in line
    ]


def test_the_page_from_top_to_bottom(place: Path) -> None:
    lines = commands()
    assert len(lines) >= 10
    for line in lines:
        run(line)
    assert run("edge-ota model verify --root keys/root.json --data data").output == "good\n"
    assert (place / "stick/metadata/timestamp.json").exists()


def test_the_service_holds_no_key_that_can_install(place: Path) -> None:
    """No file of the service's folder is, or opens to, a key that root, targets or a family names."""
    run("edge-ota key init --keys keys --data data --family value-novelty")
    run("edge-ota model push models/value-novelty/1 --keys keys --data data")
    repository = Repository(LocalStore(place / "data/objects"))
    root, targets = repository.root().signed, repository.targets().signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    powerful = {*root.roles["root"].keyids, *root.roles["targets"].keyids}
    powerful |= {keyid for role in targets.delegations.roles.values() for keyid in role.keyids}
    assert len(powerful) == 9
    held = {
        load_key(path, None).public_key.keyid for path in (place / "data").rglob("*.key") if path.parent.name == "ota"
    }
    online = {*root.roles["snapshot"].keyids, *root.roles["timestamp"].keyids, *root.unrecognized_fields[DIRECTOR]}
    assert held == online
    assert not held & powerful
    assert held & powerful == set()
    secrets = [load_key(path, PASSPHRASE).private_bytes for path in (place / "keys").glob("*.key")]
    everything = [path.read_bytes() for path in (place / "data").rglob("*") if path.is_file()]
    assert len(secrets) == 9
    for secret in secrets:
        assert not any(secret in data or secret.hex().encode() in data for data in everything)
    assert {path.stat().st_mode & 0o777 for path in (place / "data/ota").iterdir()} == {0o600}


def test_what_is_told_as_json(place: Path) -> None:
    run("edge-ota key init --keys keys --data data --family value-novelty")
    pushed = json.loads(run("edge-ota model push models/value-novelty/1 --keys keys --data data --json").stdout)
    shown = json.loads(run("edge-ota model show value-novelty/1 --data data --json").stdout)
    assert pushed == shown
    assert set(shown["files"]) == {"model.onnx", "model.json", "golden.npz"}
    listed = json.loads(run("edge-ota model list --data data --json").stdout)
    assert [(row["family"], row["releases"]) for row in listed["families"]] == [("value-novelty", [1])]
    told = json.loads(run("edge-ota model verify --root keys/root.json --data data --json").stdout)
    assert told == {"schema_version": 1, "problems": []}


@pytest.mark.parametrize(
    ("line", "code", "told"),
    [
        ("edge-ota model list --data nowhere", 78, "Try: cloud-sync init --data nowhere"),
        ("edge-ota model list --data data", 1, "Try: edge-ota key init"),
        ("edge-ota export --usb stick --data data", 1, "Try: edge-ota key init"),
        ("edge-ota model push models/value-novelty/1 --keys keys --data data", 1, "Try: edge-ota key init"),
        ("edge-ota key rotate root --keys keys --new keys2 --data data", 1, "Try: edge-ota key init"),
        ("edge-ota key init --keys keys --data data --family ../x", 1, "family '../x'"),
        ("edge-ota key init --keys keys --data data --threshold 4", 1, "a threshold of 4 with 3 keys"),
    ],
)
def test_before_there_is_a_repository(place: Path, line: str, code: int, told: str) -> None:
    result = run(line, code)
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_mistakes_are_told_with_what_helps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("edge-ota key init --keys keys --data data --family value-novelty")
    push = "edge-ota model push models/value-novelty/1 --keys"
    for line, code, told in (
        ("edge-ota key init --keys keys --data data", 78, "edge-ota key rotate"),
        ("edge-ota key init --keys keys --data data --family value-novelty", 1, "is there already"),
        (f"{push} other --data data", 1, "a key of value-novelty is needed"),
        ("edge-ota model show value-novelty --data data", 78, "is not FAMILY/COUNTER"),
        ("edge-ota model show value-novelty/1 --data data", 1, "there is no release value-novelty/1"),
        ("edge-ota key rotate nobody --keys keys --new more --data data", 1, "no family 'nobody'"),
        ("edge-ota key rotate root --keys keys --data data", 78, "--new is missing"),
        ("edge-ota model verify --root keys/root-1.key --data data", 78, "is no root"),
    ):
        assert told in run(line, code).stderr
    (place / "models/value-novelty/1/model.onnx").write_bytes(b"other")
    assert "model.json says" in run(f"{push} keys --data data", 1).stderr
    monkeypatch.setenv("EDGE_OTA_PASSPHRASE", "wrong passphrase")
    assert "the passphrase does not open it" in run("edge-ota key rotate timestamp --keys keys --data data", 1).stderr
    monkeypatch.delenv("EDGE_OTA_PASSPHRASE")
    assert "is sealed" in run("edge-ota key rotate timestamp --keys keys --data data", 1).stderr


def test_without_the_service_s_keys_the_service_takes_it_in(place: Path) -> None:
    run("edge-ota key init --keys keys --data data --family value-novelty")
    (place / "data/ota").rename(place / "elsewhere")
    told = run("edge-ota model push models/value-novelty/1 --keys keys --data data")
    assert "within a minute" in told.stderr
    repository = Repository(LocalStore(place / "data/objects"))
    assert repository.snapshot().signed.meta["value-novelty.json"].version == 1
    (place / "elsewhere").rename(place / "data/ota")
    run("edge-ota key init --keys keys --data data --family other --of 1 --threshold 1")
    assert repository.snapshot().signed.meta["value-novelty.json"].version == 2


async def until(done: Callable[[], bool]) -> None:
    for _ in range(3000):
        if done():
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


async def test_the_service_takes_in_what_was_pushed_elsewhere(place: Path) -> None:
    run("edge-ota key init --keys keys --data data --family value-novelty")
    (place / "data/ota").rename(place / "elsewhere")
    run("edge-ota model push models/value-novelty/1 --keys keys --data data")
    (place / "elsewhere").rename(place / "data/ota")
    store = LocalStore(place / "data/objects")
    with closing(SqlCatalog.open(place / "data/catalog.sqlite", SystemClock())) as catalog:
        before = catalog.audit.rows(1)[0]
        signings = Signings(catalog.audit)
        task = asyncio.create_task(keep_current(place / "data/ota", store, SystemClock(), signings))
        await until(lambda: Repository(store).timestamp().signed.snapshot_meta.version == 2)
        task.cancel()
        assert Repository(store).snapshot().signed.meta["value-novelty.json"].version == 2
        (noted,) = [row for row in catalog.audit.rows(9) if row.id > before.id]
        assert (noted.action, noted.subject) == ("ota.publish", "value-novelty")
        assert noted.detail == "version 2: up to value-novelty/1"
        signings.note(Signing("value-novelty", 2, ["k"], "up to value-novelty/1"))
        Signings(catalog.audit).note(Signing("value-novelty", 2, ["k"], "up to value-novelty/1"))
        assert catalog.audit.rows(1)[0] == noted, "each version is noted once, by whomever"


async def test_a_service_without_a_repository_waits(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = LocalStore(place / "data/objects")
    for folder, told in (("data/ota", ""), ("broken", "is no key file")):
        (place / "broken").mkdir(exist_ok=True)
        (place / "broken/timestamp.key").write_text("{}")
        (place / "broken/snapshot.key").write_text("{}")
        with closing(SqlCatalog.open(place / "data/catalog.sqlite", SystemClock())) as catalog:
            signings = Signings(catalog.audit)
            task = asyncio.create_task(keep_current(place / folder, store, SystemClock(), signings))
            await until(lambda told=told: told in caplog.text)
            task.cancel()
    assert caplog.text.count("WARNING") == 1


def published(version: int) -> None:
    """The shipped model as a release, and a stick with it."""
    run("edge-ota model push models/value-novelty/1 --keys keys --data data")
    run(f"edge-ota export --usb stick{version} --data data")


@pytest.mark.usefixtures("place")
def test_a_gateway_s_slots_from_sticks() -> None:
    run("edge-ota key init --keys keys --data data --family value-novelty --threshold 1 --of 1")
    assert "init comes first" in run("edge-agent model import models", 1).stderr
    assert "nothing was installed" in run("edge-agent model explain").stderr
    assert "nothing of 'value-novelty'" in run("edge-agent model rollback value-novelty", 1).stderr
    for counter in (1, 2):
        published(counter)
        root = "--root keys/root.json" if counter == 1 else ""
        told = json.loads(run(f"edge-agent model import stick{counter} {root} --json").stdout)
        assert [(one["release"], one["reason"]) for one in told["outcomes"]] == [(f"value-novelty/{counter}", "")]
    assert "it runs already" in run("edge-agent model import stick2 --family value-novelty").stdout
    run("edge-agent model activate value-novelty/1")
    assert "does not lie here; there is value-novelty/2" in run("edge-agent model activate value-novelty/9", 1).stderr
    explained = json.loads(run("edge-agent model explain --json").stdout)["families"]["value-novelty"]
    assert (explained["active"], explained["previous"]) == ("value-novelty/1", "value-novelty/2")
    assert run("edge-agent model rollback value-novelty").stdout == "value-novelty/2 of value-novelty runs now\n"
    assert run("edge-agent model rollback value-novelty").stdout == "the factory model of value-novelty runs now\n"
    shown = run("edge-agent model explain value-novelty").stdout
    assert shown.startswith("value-novelty: the factory model\n  previous  none\n")
    assert "rolled_back  operator: asked for on the command line" in shown
    told = json.loads(run("edge-agent model import stick2 --json", 1).stdout)
    assert told["outcomes"][0]["reason"] == "quarantined"


def test_a_stick_of_strangers_is_refused(place: Path) -> None:
    run("edge-ota key init --keys keys --data data --family value-novelty --threshold 1 --of 1")
    published(1)
    run("edge-agent model import stick1 --root keys/root.json")
    shutil.copytree(place / "stick1", place / "bad")
    file = next((place / "bad/targets/models/value-novelty/1").glob("*.model.onnx"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert run("edge-agent model import bad").exit_code == 0  # it runs already, by its hash
    assert run("cloud-sync init --data data2", 0)
    run("edge-ota key init --keys keys2 --data data2 --family value-novelty --threshold 1 --of 1")
    run("edge-ota model push models/value-novelty/1 --keys keys2 --data data2")
    run("edge-ota export --usb foreign --data data2")
    assert "is signed by 0 of 1 keys" in run("edge-agent model import foreign", 1).stderr
