from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from edge_agent.config.drivers import BUILT_IN, GROUP, OWN, DriverLoadFailed, Drivers
from edge_agent.version import VERSION

ROOT = Path(__file__).parents[3]


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drivers:
    """A distribution of somebody else's, installed beside ours."""
    (tmp_path / "theirs-1.dist-info").mkdir()
    (tmp_path / "theirs-1.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (tmp_path / "theirs-1.dist-info" / "entry_points.txt").write_text(
        f"[{GROUP}]\ntheirs = tg_theirs:Theirs\nbroken = tg_theirs:Missing\nwrong = tg_theirs:number\n"
    )
    (tmp_path / "tg_theirs.py").write_text(
        '"""Their part."""\nfrom hardware.driver import Driver\nnumber = 3\nclass Theirs(Driver):\n    pass\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tg_theirs", raising=False)
    return Drivers()


def test_our_own_drivers_are_the_entry_points_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == OWN


def test_anyones_driver_is_found_and_loaded(others: Drivers) -> None:
    assert "theirs" in others
    assert "nobodys" not in others
    assert others.names() == sorted([*BUILT_IN, *OWN, "broken", "theirs", "wrong"])
    assert others.load("theirs").__name__ == "Theirs"


@pytest.mark.parametrize(("name", "said"), [("broken", "cannot be loaded"), ("wrong", "is not a hardware.driver")])
def test_a_driver_that_is_broken_says_where_it_comes_from(others: Drivers, name: str, said: str) -> None:
    with pytest.raises(DriverLoadFailed, match=rf"tg_theirs:\w+\) {said}"):
        others.load(name)


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert VERSION in (project["version"], "0+checkout")
