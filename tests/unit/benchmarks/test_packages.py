"""How exposed the shipped units are, without a booted system."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.packages import PACKAGING, exposure

BOUNDS = {"edge-agent.service": 2.0, "edge-agent-join.service": 2.7, "cloud-sync.service": 2.0}
UNITS = sorted(PACKAGING.glob("*/*.service"))

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def test_every_unit_has_a_bound() -> None:
    assert {unit.name for unit in UNITS} == BOUNDS.keys()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_no_more_exposed_than_its_bound(unit: Path) -> None:
    assert exposure(unit) <= BOUNDS[unit.name]


def test_one_line_less_is_seen(tmp_path: Path) -> None:
    unit = PACKAGING / "edge-agent/edge-agent.service"
    weaker = tmp_path / unit.name
    weaker.write_text(unit.read_text().replace("NoNewPrivileges=yes\n", "NoNewPrivileges=no\n"))
    assert exposure(weaker) > exposure(unit)
