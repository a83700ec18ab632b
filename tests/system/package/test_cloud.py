"""The cloud's Debian package, installed and begun word for word as docs/operating/install.md says; and piuparts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.package import machine as machines
from tests.system.package.machine import NEWCOMER, Machine
from tests.system.package.plant import build

pytestmark = [pytest.mark.system, pytest.mark.nightly, pytest.mark.timeout(1800)]

TARGETS = ("edge-agent/amd64", "cloud-sync/amd64")
PAGE = Path(__file__).resolve().parents[3] / "docs/operating/install.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := machines.missing():
        pytest.skip(reason)
    return tmp_path_factory.mktemp("cloud")


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return machines.make_base(folder)


@pytest.fixture(scope="module")
def packages(folder: Path) -> dict[str, Path]:
    return {target: build(folder, target, "0.1.0") for target in TARGETS}


@pytest.fixture
def machine(base: Path, tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(base, tmp_path, "tgcloud")
    try:
        machine.boot()
        yield machine
    finally:
        machine.close()


def commands() -> list[str]:
    """What the manual has one type, in order."""
    return PAGE.read_text(encoding="utf-8").split("## The cloud\n```\n")[1].split("```")[0].splitlines()


def test_the_manual_leads_to_a_service_that_is_ready(machine: Machine, packages: dict[str, Path]) -> None:
    shutil.copy(packages["cloud-sync/amd64"], machine.root / "home" / NEWCOMER)
    outputs = [machine.sudoer(command) for command in commands()]
    (token,) = [line for line in outputs[-1].splitlines() if line.startswith("tg1.")]
    assert token.endswith("@cloud.example.org:8444")
    audit = machine.sudoer("sudo -u cloud-sync cloud-sync audit --data /var/lib/cloud-sync")
    assert f"command line ({NEWCOMER} as cloud-sync)" in audit
    ready = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/ready').status)\""
    machine.wait(lambda: machine.run(ready, check=False).stdout.strip() == "200", "a service that is ready")
    report = machine.run("systemd-analyze security --no-pager cloud-sync").stdout
    assert float(report.rpartition("cloud-sync.service:")[2].split()[0]) <= 2.0
    machine.run("apt-get purge -y cloud-sync")
    assert machine.run("ls -A /var/lib/cloud-sync /etc/cloud-sync", check=False).stdout == ""


@pytest.mark.parametrize("target", TARGETS)
def test_piuparts_finds_nothing(base: Path, packages: dict[str, Path], target: str) -> None:
    if shutil.which("piuparts") is None:
        pytest.skip("piuparts is not installed. Try: apt-get install piuparts")
    command = ["piuparts", "--existing-chroot", str(base), "--no-upgrade-test", "--distribution", "bookworm"]
    done = subprocess.run([*command, str(packages[target])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
