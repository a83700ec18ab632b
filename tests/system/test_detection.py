"""The agent with a model and an alarm, killed in the middle: what it found against one run over what it took."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.footprint import cloud
from edge_agent.config.load import load
from edge_agent.detect.assembly import Grid, assemble
from edge_agent.outbox.alarm_rows import ALARM_COLUMNS, alarm_of
from edge_agent.outbox.texts import set_of
from tests.unit.edge_agent.test_agent import end, running, status
from wire.alarm import Alarm, Phase
from wire.clock import boot_id
from wire.codec import decode
from wire.reading import Tick
from wire.segment import SCORE_NONE
from wire.series import SeriesSet, content_id

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

KILLS = 3
CLOUD = '[cloud]\nurl = "https://{address}"\nca = "keys/ca.pem"\ncert = "keys/cert.pem"\nkey = "keys/key.pem"\n'
CONFIG = """
[agent]
interval = "20ms"
state_dir = "state"
runtime_dir = "run"
{cloud}
[buffer]
commit_interval = "{commit}"
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "oven.csv"
loop = true
columns = [{{ name = "heat", unit = "Cel", resolution = 0.01 }}, {{ name = "load", unit = "%", resolution = 0.1 }}]
[sensor.channel.heat]
alarm = {{ high = 60, hysteresis = 1, severity = "critical" }}
[[model]]
id = "odd"
name = "value-novelty"
inputs = ["oven"]
calibration = 104
"""


def write(folder: Path, *, commit: str, address: str = "") -> Path:
    """A configuration, and a file of 8 s of noise, with a spike in each second of its second half."""
    chance = random.Random(5)
    rows = [
        f"{(70 if row > 200 and row % 50 == 0 else 20) + chance.gauss(0, 0.2):.2f},{chance.gauss(50, 1):.1f}"
        for row in range(400)
    ]
    (folder / "oven.csv").write_text("heat,load\n" + "\n".join(rows) + "\n")
    config = folder / "agent.toml"
    table = CLOUD.format(address=address) if address else ""
    config.write_text(CONFIG.format(folder=folder, cloud=table, commit=commit))
    return config


def kill_in_the_middle(config: Path, environment: dict[str, str]) -> None:
    chance = random.Random(9)
    for _ in range(KILLS):
        with running(config, **environment) as agent:
            deadline = time.monotonic() + 20
            while any(model["state"] == "loading" for model in status(config)["models"]):
                assert time.monotonic() < deadline
            time.sleep(chance.uniform(1.0, 3.0))
            os.kill(agent.pid, signal.SIGKILL)
            agent.wait(10)
    with running(config, **environment) as agent:
        deadline = time.monotonic() + 30
        while rules_told(config.parent / "state") < 2:  # the bound and the model
            assert time.monotonic() < deadline
            time.sleep(0.2)
        end(agent)


def rules_told(state: Path) -> int:
    """How many rules have alarms in the outbox, in a copy: the file is the agent's alone while it runs. A spike lasts
    20 ms: `status` would seldom meet it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("outbox.db", "outbox.db-wal"):
            shutil.copy(state / name, folder)
        with closing(sqlite3.connect(Path(folder) / "outbox.db")) as database:
            try:
                return int(database.execute("SELECT count(DISTINCT rule) FROM alarms").fetchone()[0])
            except sqlite3.DatabaseError:  # copied in the middle of a checkpoint: the next look will see it
                return 0


def kept(state: Path) -> tuple[SeriesSet, list[Tick], list[bytes | None], list[Alarm]]:
    """What the outbox holds: the set, ticks in the order they were taken, a tick's scores, and alarms."""
    database = sqlite3.connect(state / "outbox.db")
    sets = [set_of(row[0]) for row in database.execute("SELECT definition FROM series_sets")]
    atoms = [decode(row[0]) for row in database.execute("SELECT data FROM atoms ORDER BY id & (1 << 42) - 1")]
    alarms = [alarm_of(row)[1] for row in database.execute(f"SELECT {ALARM_COLUMNS} FROM alarms ORDER BY number")]
    database.close()
    (series_set,) = sets
    ticks, codes = [], []
    for atom in atoms:
        for block in atom.blocks:
            for row, stamp in enumerate(block.stamps.tolist()):
                states = None if block.states is None else bytes(int(column[row]) for column in block.states)
                ticks.append(Tick(block.set_id, stamp, tuple(int(column[row]) for column in block.columns), states))
                told = None if block.scores is None else bytes(int(column[row]) for column in block.scores)
                codes.append(None if told is None or set(told) == {SCORE_NONE} else told)
    return series_set, ticks, codes, alarms


def test_killed_it_finds_what_an_unbroken_run_finds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folders = {name: str(home / name) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    for folder in folders.values():
        Path(folder).mkdir(parents=True)
    config = write(tmp_path, commit="1s")
    kill_in_the_middle(config, folders)
    series_set, ticks, codes, alarms = kept(tmp_path / "state")
    whole = assemble(load(config), [Grid(series_set, 0.02)], content_id(boot_id().encode()))
    assert whole.refused == {}
    found = [whole.detector.step(tick) for tick in ticks]
    assert [each.codes for each in found] == codes
    assert [alarm.key for alarm in alarms] == [alarm.key for each in found for alarm in each.alarms]
    assert {alarm.rule for alarm in alarms} == {"high 60", "odd value-novelty/1"}
    assert [path for path in home.rglob("*") if path.is_file()] == []  # no telemetry: no file


def test_models_bring_no_socket_and_no_thread_to_the_running_agent(tmp_path: Path) -> None:
    config = write(tmp_path, commit="1s")
    seen = {}
    for name in ("with", "without"):
        if name == "without":
            text = config.read_text()
            config.write_text(text[: text.index("[sensor.channel.heat]")])
        with running(config) as agent:
            deadline = time.monotonic() + 20
            while (models := status(config)["models"]) and models[0]["state"] in ("loading", "calibrating"):
                assert time.monotonic() < deadline
            links = [os.readlink(path) for path in Path(f"/proc/{agent.pid}/fd").iterdir() if path.is_symlink()]
            seen[name] = (
                sum(link.startswith("socket:") for link in links),
                len(os.listdir(f"/proc/{agent.pid}/task")),
            )
            end(agent)
    assert seen["with"] == seen["without"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("cloud")
    with cloud(folder) as address:
        yield address, folder


def test_an_alarm_is_in_the_cloud_at_once_and_once(tmp_path: Path, served: tuple[str, Path]) -> None:
    address, folder = served
    shutil.copytree(folder / "keys", tmp_path / "keys")
    config = write(tmp_path, commit="1h", address=address)  # only alarms commit
    with running(config) as agent:
        deadline = time.monotonic() + 40
        while len(told := catalogued(folder)) < 4:
            assert time.monotonic() < deadline, told
            time.sleep(0.1)
        os.kill(agent.pid, signal.SIGKILL)
        agent.wait(10)
    with running(config) as agent:
        time.sleep(1)
        end(agent)
    told = catalogued(folder)
    assert max(Counter(told).values()) == 1
    assert {phase for _, phase, _ in told} >= {Phase.RAISED, Phase.CLEARED}
    left = sqlite3.connect(tmp_path / "state" / "outbox.db")
    assert left.execute("SELECT count(*) FROM alarms").fetchone() == (0,)
    left.close()


def catalogued(folder: Path) -> list[tuple[int, int, int]]:
    database = sqlite3.connect(f"file:{folder}/cloud/catalog.sqlite?mode=ro", uri=True)
    try:
        return list(database.execute("SELECT alarm_id, phase, stamp_us FROM alarm"))
    finally:
        database.close()
