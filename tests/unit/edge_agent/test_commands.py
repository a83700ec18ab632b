"""What the commands say to people: notes, and the fix in the message."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_agent import exits
from edge_agent.cli import main

CLOUD = '[cloud]\nurl = "https://localhost:8443"\nca = "ca.pem"\ncert = "cert.pem"\nkey = "key.pem"\n'
SENSOR = '[bus.i2c-1]\nkind = "i2c"\n[[sensor]]\nid = "climate"\ndriver = "bme280"\nbus = "i2c-1"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_check_names_files_that_are_not_here(file: Path) -> None:
    file.write_text(CLOUD + SENSOR)
    for name in ("ca.pem", "key.pem"):
        (file.parent / name).touch()
    result = run("config", "check", "-c", file)
    assert result.exit_code == exits.OK
    assert result.stdout.startswith(f"{file}: good; sensors: 1, channels: 3, version ")
    missing = file.parent / "cert.pem"
    said = f'note: [cloud] cert = "{missing}": no such file on this machine; `edge-agent join` makes them\n'
    assert result.stderr == said


def test_check_says_what_an_empty_file_leaves_out(file: Path) -> None:
    file.touch()
    result = run("config", "check", "-c", file)
    assert result.exit_code == exits.OK
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == [" no [[sensor]]", " not joined"]


def test_init_does_not_overwrite(file: Path) -> None:
    assert run("config", "init", file).exit_code == exits.OK
    text = file.read_text()
    result = run("config", "init", file)
    assert result.exit_code == exits.FAILED
    assert "File exists; it was not written. Try: another TARGET" in result.stderr
    assert file.read_text() == text


def test_status_without_an_agent(file: Path) -> None:
    file.write_text(f'[agent]\nruntime_dir = "{file.parent}"\n')
    result = run("status", "-c", file)
    assert result.exit_code == exits.NOT_RUNNING
    assert result.stderr == (
        f"edge-agent: no agent answers at {file.parent}/control.sock: No such file or directory. "
        "Start one: edge-agent run\n"
    )
