"""How long offline: what is foretold against what the file really grows by."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from edge_agent.autonomy import Autonomy
from edge_agent.config.values import show_span
from edge_agent.outbox.database import PAGE_BYTES
from edge_agent.outbox.keys import key
from edge_agent.outbox.options import OutboxOptions
from edge_agent.outbox.pages import growth_of
from edge_agent.outbox.recorder import Recorder
from simulator.virtual.world import MachineClock, World
from wire.reading import Tick
from wire.series import SeriesDef, SeriesSet


@pytest.mark.parametrize("channels", [20, 60])
def test_the_budget_lasts_about_as_long_as_is_foretold(tmp_path: Path, channels: int) -> None:
    """Readings are taken until the first one is given up; the forecast is made when a tenth of the budget is used."""
    world = World()
    clock = MachineClock(world)
    options = OutboxOptions(commit_interval_s=5.0, bytes_max=2 << 20, wal_bytes=256 << 10, journal_bytes=1 << 20)
    recorder = Recorder.open(tmp_path / "state", tmp_path / "run", clock, "boot", "machine", options)
    series = SeriesSet(tuple(SeriesDef("s", f"c{n}", "Cel") for n in range(channels)))
    recorder.register(series)
    autonomy = Autonomy(tmp_path, clock)
    rng = random.Random(channels)
    rows = 400 // channels + 3
    foretold: list[tuple[float, float]] = []
    while True:
        stamp = clock.boottime_ns() // 1_000_000
        ticks = [Tick(series.id, stamp + n, tuple(rng.getrandbits(20) for _ in range(channels))) for n in range(rows)]
        recorder.take(ticks)
        recorder.commit()
        world.now += 5.0
        stats = recorder.stats()
        if stats.losses:  # thinning made room: from here on a forecast is of the next loss
            break
        autonomy.look(stats)
        seconds = autonomy.seconds(stats)
        if seconds is not None:
            foretold.append((world.now, world.now + seconds))
    recorder.abandon()
    early = foretold[len(foretold) // 10]
    assert early[1] == pytest.approx(world.now, rel=0.25)
    assert foretold[-1][1] == pytest.approx(world.now, rel=0.1)


@pytest.mark.parametrize("size", [60, 300, 470, 930, 980, 1000, 1100, 2000, 2600, 5000, 100_000])
def test_pages_are_counted_as_sqlite_takes_them(size: int) -> None:
    database = sqlite3.connect(":memory:")
    database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    database.execute("CREATE TABLE atoms (id INTEGER PRIMARY KEY, epoch, count, first, last, data BLOB)")
    (before,) = database.execute("PRAGMA page_count").fetchone()
    rows = 400
    first = key(7, 1, 1 << 20)
    for number in range(rows):
        values = (first + 2500 * number, 1 << 61, 2500, 10**12, 10**12 + 5, bytes(size))
        database.execute("INSERT INTO atoms VALUES (?, ?, ?, ?, ?, ?)", values)
    (after,) = database.execute("PRAGMA page_count").fetchone()
    database.close()
    assert growth_of(size) * rows == pytest.approx((after - before) * PAGE_BYTES, rel=0.05)


def test_nothing_taken_has_no_forecast(tmp_path: Path) -> None:
    world = World()
    clock = MachineClock(world)
    recorder = Recorder.open(tmp_path / "state", tmp_path / "run", clock, "boot", "machine", OutboxOptions())
    autonomy = Autonomy(tmp_path, clock)
    assert autonomy.seconds(recorder.stats()) is None
    for _ in range(10):
        autonomy.look(recorder.stats())
        world.now += 20.0
    assert autonomy.seconds(recorder.stats()) is None
    recorder.abandon()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(533_000, "6 d 4 h"), (90, "1 min 30 s"), (86_400, "1 d"), (86_410, "1 d"), (0.2, "0 s"), (3600, "1 h")],
)
def test_spans_as_people_say_them(seconds: float, said: str) -> None:
    assert show_span(seconds) == said
