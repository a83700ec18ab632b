"""The running agent: does it answer, and what does it say of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.asking import SOCKET_NAME, RequestRefused, ask
from edge_agent.doctor.finding import SUDO, Finding, failed, ok, skipped, warning
from edge_agent.errors import NotRunning

IDS = ("agent.running", "agent.healthy")


@dataclass(frozen=True, slots=True)
class Agent:
    """What came of asking it. `status` as `edge-agent status --json` prints it; None when nobody answers here."""

    status: dict[str, Any] | None
    refused: str = ""  # why it does not tell this user
    control: Path | None = None  # its socket, when it answered


def ask_agent(runtime_dir: Path) -> Agent:
    """One question, bounded in time by `control.ask`."""
    try:
        return Agent(ask(runtime_dir, {"op": "status"}), control=runtime_dir / SOCKET_NAME)
    except NotRunning:
        return Agent(None)
    except RequestRefused as error:
        return Agent(None, refused=str(error).partition(" Try: ")[0])


def check_agent(agent: Agent, start: str) -> Iterator[Finding]:
    """`start`: the command that starts it here."""
    if agent.status is None:
        if agent.refused:
            yield from (skipped(check, agent.refused, SUDO) for check in IDS)
            return
        yield warning("agent.running", "no agent runs with this configuration: nothing is read", start)
        yield skipped("agent.healthy", "the agent does not run")
        return
    yield ok("agent.running", f"{agent.status['agent']['name']} runs, version {agent.status['agent']['version']}")
    reasons = agent.status["reasons"]
    if not reasons:
        yield ok("agent.healthy", "the agent is healthy")
        return
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    yield failed("agent.healthy", f"{reasons[0]}{more}", "edge-agent status")
