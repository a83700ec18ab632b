"""What ends an agent, in this process."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from edge_agent.app import Agent
from edge_agent.config.load import load
from edge_agent.errors import OutboxCorrupt, StateBusy
from edge_agent.outbox.recorder import Recorder
from wire.clock import SystemClock, boot_id, machine_id

CONFIG = """
[agent]
interval = "20ms"
state_dir = "state"
runtime_dir = "run"
[buffer]
commit_interval = "1h"
[[sensor]]
id = "oven"
driver = "csv-replay"
path = "{folder}/oven.csv"
loop = true
columns = [{{ name = "heat", unit = "Cel", resolution = 0.01 }}]
"""


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    (tmp_path / "oven.csv").write_text("heat\n20.01\n20.02\n")
    file = tmp_path / "agent.toml"
    file.write_text(CONFIG.format(folder=tmp_path))
    return Agent(load(file), SystemClock())


async def test_a_damaged_outbox_ends_the_agent_with_its_error_and_keeps_the_journal(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step() -> float:
        raise OutboxCorrupt("page 7")

    monkeypatch.setattr(agent._writer, "step", step)
    with pytest.raises(OutboxCorrupt, match="page 7"):
        await agent.run()
    assert not (tmp_path / "run" / "control.sock").exists()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("bus", "writer", "sources"))]
    recorder = Recorder.open(tmp_path / "state", tmp_path / "run", SystemClock(), boot_id(), machine_id())
    waiting = recorder.stats().journal_ticks
    recorder.close()
    assert waiting > 0


async def test_a_second_agent_leaves_the_first_alone(agent: Agent, tmp_path: Path) -> None:
    with pytest.raises(StateBusy):
        Agent(load(tmp_path / "agent.toml"), SystemClock())
    agent._writer.failure = OutboxCorrupt("done")
    with pytest.raises(OutboxCorrupt):
        await agent.run()


def test_a_runtime_directory_that_another_agent_uses_frees_the_state(agent: Agent, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text((tmp_path / "agent.toml").read_text().replace('"state"', '"state2"'))
    with pytest.raises(StateBusy):
        Agent(load(other), SystemClock())
    Recorder.open(tmp_path / "state2", tmp_path / "run2", SystemClock(), boot_id(), machine_id()).close()
    agent._close()
    assert agent._control._listener is not None
    agent._control._listener.close()
