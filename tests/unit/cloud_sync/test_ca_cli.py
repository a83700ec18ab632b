"""`cloud-sync ca`: what it prints, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

from cloud_sync.cli_options import EXIT_CONFIG
from tests.unit.cloud_sync.test_cli import data as data  # noqa: PLC0414 - a fixture
from tests.unit.cloud_sync.test_cli import fails, run


def step(data: Path, name: str, *options: str) -> str:
    result = run("ca", name, "--data", data, *options)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_steps_and_who_is_behind(data: Path, tmp_path: Path) -> None:
    assert "step     settled" in step(data, "show")
    assert "Try: cloud-sync ca introduce" in fails(EXIT_CONFIG, "ca", "retire", "--data", data)
    for number in range(12):
        run("cert", "issue", f"gw-{number:02}", "--data", data, "--out", tmp_path / f"gw-{number}")
    assert "restart the service" in step(data, "introduce")
    step(data, "switch")
    run("cert", "issue", "gw-11", "--data", data, "--out", tmp_path / "again")
    assert "behind   gw-00, gw-01" in step(data, "show")
    shown = json.loads(step(data, "show", "--json"))
    assert (shown["step"], len(shown["trusted"])) == ("switched", 2)
    assert shown["behind"] == [f"gw-{number:02}" for number in range(11)]
    assert "gw-09 and 1 more" in fails(EXIT_CONFIG, "ca", "retire", "--data", data)
    run("gateway", "revoke", "gw-00", "--data", data)
    assert "gw-00" not in step(data, "show")
    assert "they need a token" in step(data, "retire", "--force")
    assert "step     settled" in step(data, "show")
    actions = [row["action"] for row in json.loads(run("audit", "--data", data, "--json").output)["changes"]]
    assert [action for action in actions if action.startswith("ca.")] == ["ca.retire", "ca.switch", "ca.introduce"]


def test_where_the_cas_key_is_not(data: Path) -> None:
    (data / "pki/ca.key").unlink()
    assert "ca.key cannot be read" in fails(EXIT_CONFIG, "ca", "introduce", "--data", data)
