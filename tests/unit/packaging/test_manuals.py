"""Manuals are made of the commands themselves: each has one that roff takes, and says what the command's help says."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = {"edge-agent": "edge_agent.cli", "cloud-sync": "cloud_sync.cli", "edge-ota": "cloud_sync.ota_cli"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the builder puts into the packages, by a Python that has click and no other library."""
    folder = tmp_path_factory.mktemp("manuals")
    libraries = tmp_path_factory.mktemp("libraries")
    shutil.copytree(Path(click.__file__).parent, libraries / "click")
    environment = {**os.environ, "PYTHONPATH": f"{libraries}:{ROOT}"}
    for command, module in COMMANDS.items():
        program = [sys.executable, "-S", str(ROOT / "packaging/deb/manuals.py")]
        subprocess.run([*program, command, module, "1.2.3", str(folder)], check=True, env=environment)
    return folder


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for child, each in command.commands.items():
            yield from walk(each, f"{name}-{child}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_stands_on_a_page(tree: Path, command: str) -> None:
    for name, each in walk(import_module(COMMANDS[command]).main, command):
        page = gzip.decompress((tree / "usr/share/man/man1" / f"{name}.1.gz").read_bytes()).decode()
        said = page.replace("\\-", "-")
        assert f"{command} 1.2.3" in page
        for parameter in each.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[0] in said, (name, parameter.opts)
        if isinstance(each, click.Group):
            for child in each.commands:
                assert f"{name}-{child}" in said


def test_no_page_makes_roff_complain(tree: Path) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed. Try: apt-get install groff-base")
    for page in sorted((tree / "usr/share/man/man1").iterdir()):
        groff = ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-z"]
        done = subprocess.run(groff, input=gzip.decompress(page.read_bytes()), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), page.name


@pytest.mark.parametrize("command", COMMANDS)
def test_completion_is_a_script_that_the_shell_takes(tree: Path, command: str) -> None:
    script = tree / f"usr/share/bash-completion/completions/{command}"
    subprocess.run(["bash", "-n", str(script)], check=True)
    for place in (f"zsh/vendor-completions/_{command}", f"fish/vendor_completions.d/{command}.fish"):
        assert command in (tree / "usr/share" / place).read_text()
