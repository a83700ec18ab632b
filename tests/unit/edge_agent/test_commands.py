"""What the commands say to people: notes, and the fix in the message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click import Context, Group
from click.testing import CliRunner, Result

from edge_agent import exits
from edge_agent.__main__ import file_to_run
from edge_agent.asking import runtime_dir_of
from edge_agent.cli import main
from edge_agent.commands.place import FILE, VARIABLE
from edge_agent.config.load import load

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


@pytest.mark.parametrize(
    ("main_file", "other", "expected"),
    [
        ("", None, "/run/edge-agent"),
        ('[agent]\nruntime_dir = "run"\n', None, "run"),
        ('[agent]\nname = "x"\n', '[agent]\nruntime_dir = "run"\n', "conf.d/run"),
        ('[agent]\nruntime_dir = "/a"\n', "[agent]\n", "/a"),
    ],
)
def test_the_agent_is_asked_where_the_configuration_says(
    file: Path, main_file: str, other: str | None, expected: str
) -> None:
    file.write_text(main_file)
    if other is not None:
        (file.parent / "conf.d").mkdir()
        (file.parent / "conf.d/more.toml").write_text(other)
    assert runtime_dir_of(file) == load(file).runtime_dir == file.parent / expected


@pytest.mark.parametrize("text", ["[agent", "agent = 1\n[agent]", "[agent]\nruntime_dir = 7\n", None])
def test_status_with_a_broken_configuration_says_what_is_wrong_with_it(file: Path, text: str | None) -> None:
    if text is not None:
        file.write_text(text)
    result = run("status", "-c", file)
    assert result.exit_code == exits.CONFIG
    assert str(file.name) in result.stderr


def test_what_only_asks_imports_little() -> None:
    """A cold start costs CPU that the smallest gateway notices: `benchmarks.footprint` measures it."""
    code = "import sys, edge_agent.cli, edge_agent.commands.status; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"asyncio", "msgspec", "numpy", "grpc", "ssl", "sqlite3", "onnxruntime", "edge_agent.app"} & set(out)


def test_status_without_an_agent(file: Path) -> None:
    file.write_text(f'[agent]\nruntime_dir = "{file.parent}"\n')
    result = run("status", "-c", file)
    assert result.exit_code == exits.NOT_RUNNING
    assert result.stderr == (
        f"edge-agent: no agent answers at {file.parent}/control.sock: No such file or directory. "
        "Start one: edge-agent run\n"
    )


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["run"], FILE),
        (["run", "-c", "a.toml"], Path("a.toml")),
        (["run", "--config", "a.toml"], Path("a.toml")),
        (["run", "-c"], None),
        (["run", "a.toml"], None),
        (["run", "-h", "a.toml"], None),
        (["run", "-c", "/"], None),
        (["status"], None),
        ([], None),
    ],
)
def test_only_a_plain_run_goes_without_the_command_line(
    words: list[str], file: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert file_to_run(words) == file
    monkeypatch.setenv(VARIABLE, "b.toml")
    assert file_to_run(words) == (Path("b.toml") if words == ["run"] else file)


def test_a_plain_run_says_what_the_command_line_would_say(file: Path) -> None:
    file.write_text("[agent]\nnmae = 1\n")
    plain, whole = (
        subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        for arguments in (
            ["-X", "importtime", "-m", "edge_agent", "run", "-c", str(file)],
            ["-m", "edge_agent.cli", "run", "-c", str(file)],
        )
    )
    said = [line for line in plain.stderr.splitlines(keepends=True) if not line.startswith("import time:")]
    assert "".join(said) == whole.stderr
    assert whole.stderr.startswith("agent.toml:2 ")
    assert plain.returncode == whole.returncode == exits.CONFIG
    assert "msgspec" in plain.stderr
    assert "click" not in plain.stderr


def test_a_command_imports_no_other_and_help_knows_them_all(file: Path) -> None:
    code = (
        "import sys; from edge_agent.cli import main\n"
        f"main(['config', 'check', '-c', {str(file)!r}], standalone_mode=False)"
    )
    file.write_text(SENSOR)
    probe = f"import atexit, sys; atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr))\n{code}"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert "edge_agent.commands.config" in done.stderr
    for other in ("buffer", "doctor", "join", "model", "model_slots", "sync"):
        assert f"'edge_agent.commands.{other}'" not in done.stderr
    group = main.commands["model"]
    assert isinstance(group, Group)
    for whole, words in ((main, run("--help").output), (group, run("model", "--help").output)):
        assert whole.list_commands(Context(whole)) == sorted(whole.commands)
        for name, command in whole.commands.items():
            assert command.name == name
            assert f"  {name} " in words


def test_what_show_prints_of_the_sections_is_a_configuration(file: Path, tmp_path: Path) -> None:
    serial = '[bus.rs485]\nkind = "serial"\nport = "/dev/ttyUSB0"\n'
    file.write_text(f'[agent]\ninterval = "1500ms"\n[buffer]\nmax_size = "64 MiB"\n{serial}{CLOUD}{SENSOR}')
    shown = run("config", "show", "-c", file)
    assert shown.exit_code == exits.OK
    sections, _, sensors = shown.stdout.rpartition("\n\n")
    assert sensors.startswith("climate: bme280 on i2c-1 every 1.5s: temperature [Cel]")
    again = tmp_path / "again.toml"
    again.write_text(sections)
    first, second = load(file), load(again)
    assert (second.agent, second.cloud, second.buffer, second.buses) == (
        first.agent, first.cloud, first.buffer, first.buses,
    )  # fmt: skip
