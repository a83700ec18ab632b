"""The unit's confinement: what is shipped is what is asked for, and a weaker one is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_agent.doctor.finding import Finding, Result
from edge_agent.doctor.unit import SHIPPED, check_unit, compare
from tests.unit.edge_agent.doctor.parts import assert_found

SERVICE = Path(__file__).parents[4] / "packaging/deb/edge-agent/edge-agent.service"


def systemctl(folder: Path, says: str, code: int = 0) -> None:
    """A program of that name, first on the path."""
    (folder / "said").write_text(says)
    program = folder / "systemctl"
    program.write_text(f"#!/bin/sh\n[ {code} = 0 ] || exec >&2\ncat {folder}/said\nexit {code}\n")
    program.chmod(0o755)


def found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Finding:
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    (only,) = check_unit()
    return only


def test_the_shipped_unit_says_what_is_asked_for() -> None:
    said = dict(re.findall(r"^(\w+)=(.*)$", SERVICE.read_text(), re.MULTILINE))
    assert {name: said.get(name) for name in SHIPPED} == SHIPPED
    assert compare({"LoadState": "loaded", **SHIPPED}).result is Result.OK


def test_a_drop_in_that_weakens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weak = {"LoadState": "loaded", **SHIPPED, "ProtectSystem": "no", "NoNewPrivileges": "no"}
    systemctl(tmp_path, "".join(f"{name}={value}\n" for name, value in weak.items()))
    assert_found(found(tmp_path, monkeypatch), "NoNewPrivileges=no, ProtectSystem=no", result=Result.WARNING)


def test_no_unit_no_systemd_no_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemctl(tmp_path, "LoadState=not-found\n")
    assert found(tmp_path, monkeypatch).result is Result.SKIPPED
    systemctl(tmp_path, "System has not been booted with systemd\n", 1)
    assert "not been booted" in found(tmp_path, monkeypatch).text
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (only,) = check_unit()
    assert "no systemctl" in only.text
