"""Every installed driver stands the same checks: `hardware.drivers.testing`."""

from importlib.metadata import entry_points
from pathlib import Path

import pytest

from edge_agent.config.senml import UNITS
from hardware.drivers import testing

GOLDEN = Path(__file__).parent / "drivers"
DRIVERS = {point.name: point for point in entry_points(group="edge_agent.drivers")}


def test_every_driver_has_a_golden_case_and_no_case_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.toml")} == set(DRIVERS)


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_driver(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    testing.check_all(DRIVERS[name].load(), testing.Golden.load(GOLDEN / f"{name}.toml"), UNITS)
