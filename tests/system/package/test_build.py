"""What `make deb` gives: the same bytes each time, nothing that lintian minds, and libraries of the right machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.package.bench import OLD, Bench
from tests.system.package.plant import BUILD, build

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_the_same_source_gives_the_same_bytes(bench: Bench) -> None:
    (bench.folder / "again").mkdir()
    again = build(bench.folder / "again", "edge-agent/amd64", OLD)
    assert again.read_bytes() == bench.old.read_bytes()


def test_lintian_finds_nothing(bench: Bench) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed. Try: apt-get install lintian")
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", str(bench.old)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_library_for_another_machine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "native.so").write_bytes(b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little"))  # x86-64
    program = "import tree; from pathlib import Path; tree.check_libraries(Path({!r}), {!r})"
    for arch, code in (("amd64", 0), ("arm64", 1)):
        command = [sys.executable, "-c", program.format(str(tmp_path), arch)]
        done = subprocess.run(command, cwd=Path(BUILD[1]).parent, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert "native.so: ELF machine 62, arm64 has 183" in done.stderr


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    command = [*BUILD, "--out", str(tmp_path), "--only", "edge-agent/sparc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "edge-agent/arm64" in done.stderr
