"""Real agents on machines whose clocks are wrong: the wall clock and the kernel's word of it are another machine's."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from simulator.lab.cloud import LabCloud
from simulator.lab.counter import CHANNELS, SENSOR
from tests.system import other_machine
from tests.system.boxes import NAME, Box, site, values, wait, wait_for_more
from wire.reading import Quality

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.skipif(other_machine.compiler() is None, reason="no C compiler. Try: apt-get install gcc libc6-dev"),
]

YEAR_S = 365.25 * 86_400
SERIES = f"{SENSOR}/{next(iter(CHANNELS))}"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_machine.build(tmp_path_factory.mktemp("library"))


def error_at(moment: datetime) -> float:
    """How wrong a clock is that shows this moment now, in seconds."""
    return (moment - datetime.now(UTC)).total_seconds()


def rows(cloud: LabCloud, start: str, end: str) -> list[tuple[int, float, int]]:
    """Time, value and quality of one series' values, as the API tells them."""
    found: list[tuple[int, float, int]] = []
    token = ""
    while True:
        page = cloud.get("/v1/query", gateway=NAME, series=SERIES, start=start, end=end, page_token=token)
        (series,) = page["series"]
        cells = zip(series["times"], series["values"], series["quality"])
        found += [cell for cell in cells if cell[1] is not None]  # a read that came too late on a busy machine is a gap
        token = page["next_page_token"]
        if not token:
            return found


def recent(cloud: LabCloud) -> list[tuple[int, float, int]]:
    return rows(cloud, "-10m", "now")


def require_timeline(cloud: LabCloud, box: Box, taken: set[int]) -> None:
    """Everything once, at the time at which it was taken, in the order in which it was taken."""
    found = values(cloud)
    assert set(found) == {float(number) for number in taken}
    assert set(found.values()) == {1}
    told = recent(cloud)
    assert len(told) == len(found) / len(CHANNELS), "all of it within the last minutes"
    assert [value for _, value, _ in told] == sorted(value for _, value, _ in told), "no reorder"
    times = [time for time, _, _ in told]
    assert all(later > earlier for earlier, later in pairwise(times)), "no two readings at one instant"
    assert not any(quality & Quality.CLOCK_UNSURE for _, _, quality in told)


@pytest.mark.parametrize("year", [1970, 2023], ids=["no-clock", "image-build-time"])
def test_a_clock_that_is_set_late(tmp_path: Path, library: Path, year: int) -> None:
    """Connects all the same; what was taken before is dated right as soon as the clock is, and shown unsure before."""
    with site(tmp_path, library, 1) as (cloud, [box]):
        box.machine.reboot(error_at(datetime(year, 1, 2, tzinfo=UTC)), synchronised=False)
        box.start()
        wait_for_more(cloud)
        assert recent(cloud) == []
        wrong = rows(cloud, f"{year}-01-02T00:00:00Z", f"{year}-01-03T00:00:00Z")
        assert len(wrong) >= 10
        assert all(quality & Quality.CLOCK_UNSURE for _, _, quality in wrong)
        (epoch,) = cloud.get(f"/v1/gateways/{NAME}/ledger")["epochs"]
        assert epoch["synchronised"] is False
        box.machine.set_clock(0.0, synchronised=True)  # NTP
        wait_for_more(cloud)
        wait(cloud, lambda: len(recent(cloud)) > len(wrong))
        assert rows(cloud, f"{year}-01-01T00:00:00Z", f"{year}-02-01T00:00:00Z") == []
        require_timeline(cloud, box, box.finish())


def test_steps_of_ten_years(tmp_path: Path, library: Path) -> None:
    """Ahead and behind, believed by the kernel or not; nothing waiting is deleted for its age."""
    with site(tmp_path, library, 1) as (cloud, [box]):
        box.start()
        wait_for_more(cloud)
        for years, believed in ((10, False), (-10, False), (10, True), (-10, True)):
            cloud.stop()
            box.machine.set_clock(years * YEAR_S, synchronised=believed)
            before = box.look()
            wait(cloud, lambda before=before: len(box.look()) > len(before) + 60)  # type: ignore[misc]
            status = box.status()
            assert status is not None
            assert status["losses"] == {}
            cloud.start()
            box.restart(cloud)
            wait_for_more(cloud)
        box.machine.set_clock(0.0, synchronised=True)
        wait_for_more(cloud)
        require_timeline(cloud, box, box.finish())


def test_a_leap_second(tmp_path: Path, library: Path) -> None:
    """The kernel repeats a second: no reading twice, none at another's instant; see the decision record."""
    with site(tmp_path, library, 1) as (cloud, [box]):
        box.machine.set_clock(1.0, synchronised=True)
        box.start()
        wait_for_more(cloud)
        box.machine.set_clock(0.0, synchronised=True)
        wait_for_more(cloud)
        require_timeline(cloud, box, box.finish())
