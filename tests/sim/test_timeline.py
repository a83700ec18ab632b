"""Clocks that are wrong, set late, stepped and leap: every reading ends at the time at which it was taken."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from simulator.disk import watching
from simulator.lab.verdict import judge
from simulator.virtual.cloud import VirtualCloud
from simulator.virtual.gateway import VirtualGateway
from simulator.virtual.link import Link
from simulator.virtual.world import WALL_START_NS, World, seeded_entropy
from wire.clock import NS_PER_S
from wire.reading import LossReason

DECADE_S = 315_576_000.0
AT_1970_S = -WALL_START_NS / NS_PER_S
SCENE_S = 30.0
Step = tuple[float, bool]  # how wrong the wall clock is from now on, and whether the kernel believes it
STORIES: dict[str, list[Step]] = {
    "no battery clock, set late": [(AT_1970_S, False), (AT_1970_S, False), (0.0, True)],
    "image build time, set late": [(-DECADE_S / 10, False), (0.0, True)],
    "ten years ahead, believed": [(0.0, True), (DECADE_S, True), (0.0, True)],
    "ten years behind, believed": [(0.0, True), (-DECADE_S, True), (0.0, True)],
    "steps by hand": [(0.0, True), (DECADE_S, False), (-DECADE_S, False), (60.0, False), (0.0, True)],
    "leap second by a step": [(1.0, True), (0.0, True)],
}


class Stage:
    """One gateway and its cloud."""

    def __init__(self, folder: Path, make_disk: Callable[..., object]) -> None:
        rng = random.Random(1)
        self.world = World()
        self.cloud = VirtualCloud(self.world, folder / "cloud", rng, make_disk)  # type: ignore[arg-type]
        self.link = Link(self.world, random.Random(2))
        self.box = VirtualGateway(
            self.world, "gw", folder / "box", self.link, self.cloud, random.Random(3), make_disk, numbers=[0]  # type: ignore[arg-type]
        )  # fmt: skip
        self.booted: dict[int, int] = {}  # by epoch: the true wall clock at its boot, microseconds

    def play(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)
        self.note_boot()

    def note_boot(self) -> None:
        for machine in self.cloud.catalog.machines("gw"):
            since_boot_us = self.box.clock.boottime_ns() // 1000
            self.booted[machine.epoch] = WALL_START_NS // 1000 + round(self.world.now * 1e6) - since_boot_us

    def finish(self) -> None:
        self.box.sampling = False
        self.link.heal()
        self.world.run(self.world.now + 300.0, done=self.box.drained)
        assert self.box.drained()
        self.note_boot()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with watching() as make_disk, seeded_entropy(random.Random(4)):
        made = Stage(tmp_path, make_disk)
        yield made
        made.box.end()
        made.cloud.catalog.close()


@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
@pytest.mark.parametrize("story", STORIES)
def test_a_reading_ends_where_it_was_taken(stage: Stage, story: str, online: bool) -> None:
    for error_s, believed in STORIES[story]:
        stage.box.step_clock(error_s, synchronised=believed)
        stage.play(SCENE_S)
        if not online:
            stage.link.cut(SCENE_S)
    stage.link.heal()
    stage.play(SCENE_S)
    stage.finish()
    require_true_time(stage)


@pytest.mark.parametrize(
    ("hours", "ppm"), [(24.0, 1e6 / 86_400), (2000 / 3600, 500.0)], ids=["24 h linear", "500 ppm, the most of adjtimex"]
)
def test_a_smeared_leap_second(stage: Stage, hours: float, ppm: float) -> None:
    """Wall and boot clock are slewed alike: one offset dates all of the boot, from before the smear to after it."""
    stage.play(SCENE_S)
    before = offsets(stage)
    stage.box.clock.slew(ppm)
    part_s = hours * 3600 / 3
    for _ in range(3):  # its begin, middle and end; nothing is read between
        stage.box.sampling = True
        stage.play(SCENE_S)
        stage.box.sampling = False
        stage.play(part_s - SCENE_S)
    stage.box.clock.slew(0.0)
    stage.box.sampling = True
    stage.play(SCENE_S)
    stage.finish()
    assert offsets(stage) == before, "no look at the clocks gave another offset"
    require_whole_and_in_order(stage)


def offsets(stage: Stage) -> dict[int, tuple[int, int]]:
    """By epoch, the offset in force and which version of it that is."""
    lines = stage.cloud.catalog.ledger("gw")
    return {line.epoch: (line.anchor.offset_us, line.offset_version) for line in lines if line.anchor is not None}


def test_a_boot_that_is_never_set_right_is_shown_unsure(stage: Stage) -> None:
    stage.box.step_clock(AT_1970_S, synchronised=False)
    stage.play(SCENE_S)
    stage.finish()
    (line,) = stage.cloud.catalog.ledger("gw")
    assert line.anchor is not None
    assert not line.anchor.synchronised
    sets = [one.id for one in stage.cloud.catalog.series_sets("gw")]
    assert not any(row.synchronised for row in stage.cloud.catalog.messages("gw", sets, -(1 << 62), 1 << 62))


def test_ten_years_ahead_delete_nothing(stage: Stage) -> None:
    stage.link.cut(1000.0)
    stage.play(2 * SCENE_S)
    held = {epoch: ranges.count for epoch, ranges in stage.box.held().items()}
    for error_s in (DECADE_S, -DECADE_S):
        stage.box.step_clock(error_s, synchronised=True)
        stage.play(SCENE_S)
        now = {epoch: ranges.count for epoch, ranges in stage.box.held().items()}
        assert all(now[epoch] >= count for epoch, count in held.items())
    stage.box.step_clock(0.0, synchronised=True)
    stage.play(SCENE_S)
    stage.finish()
    assert sum(line.tombstoned for line in stage.cloud.catalog.ledger("gw")) == 0
    require_true_time(stage)


def require_true_time(stage: Stage) -> None:
    """Nothing lost or doubled; offsets are those of the true time to a millisecond; no reorder within a series."""
    for line in stage.cloud.catalog.ledger("gw"):
        assert line.anchor is not None
        assert line.anchor.synchronised
        assert abs(line.anchor.offset_us - stage.booted[line.epoch]) <= 1000
    require_whole_and_in_order(stage)


def require_whole_and_in_order(stage: Stage) -> None:
    found = stage.cloud.stored("gw")
    ledger = stage.cloud.catalog.ledger("gw")
    verdict = judge("gw", stage.box.taken, stage.box.excused, found, ledger, set[LossReason]())
    assert verdict.broken == []
    in_order = sorted(found.points, key=lambda point: (point.epoch, point.series, point.value))
    for _, points in groupby(in_order, lambda point: (point.epoch, point.series)):
        stamps = [point.stamp_us for point in points]
        assert stamps == sorted(set(stamps)), "values go up: so must their times"
