"""`edge-agent sync now | pause | resume | explain`: asks the running agent through its control socket."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edge_agent import exits
from edge_agent.commands.options import file_option, json_option


@click.group()
def sync() -> None:
    """Sync with the cloud: at once, paused, and why nothing is moving."""


@sync.command()
@file_option
@json_option
def now(file: Path, as_json: bool) -> None:
    """Connect and send what waits at once, outside of sync windows too. Data plans and pauses still hold."""
    raise SystemExit(_ask(file, as_json, {"op": "sync-now"}))


@sync.command()
@click.option("--for", "lasts", metavar="DURATION", help='How long, as in "2h"; without it until `sync resume`.')
@click.option("--alarms", is_flag=True, help="Alarms wait too; without it they go.")
@file_option
@json_option
def pause(lasts: str | None, alarms: bool, file: Path, as_json: bool) -> None:
    """Send no readings until `sync resume`; they are kept. Outlives restarts of the agent and of the machine."""
    from edge_agent.config.values import parse_duration

    try:
        for_s = None if lasts is None else parse_duration(lasts)
    except ValueError as error:
        raise click.BadParameter(f'"{lasts}" {error}', param_hint="--for") from error
    raise SystemExit(_ask(file, as_json, {"op": "sync-pause", "for_s": for_s, "alarms": alarms}))


@sync.command()
@file_option
@json_option
def resume(file: Path, as_json: bool) -> None:
    """End a pause."""
    raise SystemExit(_ask(file, as_json, {"op": "sync-resume"}))


@sync.command()
@file_option
@json_option
def explain(file: Path, as_json: bool) -> None:
    """Say in plain words why nothing is moving, and what to do."""
    raise SystemExit(_ask(file, as_json, {"op": "sync-explain"}))


def _ask(file: Path, as_json: bool, request: dict[str, object]) -> int:
    from edge_agent.asking import RequestRefused, ask
    from edge_agent.config.load import load
    from edge_agent.errors import AgentError

    try:
        document = ask(load(file).runtime_dir, request)
    except AgentError as error:
        return exits.fail(error)
    except RequestRefused as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        return exits.FAILED
    print(json.dumps(document, indent=2) if as_json else as_text(document))
    return exits.OK


def as_text(document: dict[str, Any]) -> str:
    """For people: each finding, what to do under it, and what data plans have left."""
    from edge_agent.config.values import show_size

    lines = []
    for finding in document["findings"]:
        lines.append(f"- {finding['text']}")
        if finding["advice"]:
            lines.append(f"    {finding['advice']}")
    for plan in document["plans"]:
        left = (
            f"{show_size(plan['left_for_readings'])} left for readings, {show_size(plan['left_for_alarms'])} for alarms"
        )
        used = f"{show_size(plan['used_bytes'])} of {show_size(plan['limit_bytes'])}"
        renews = f", begins anew on {plan['renews']}" if plan["renews"] else ""
        lines.append(f"plan {plan['interface']}, {plan['limit']}: {used} used, {left}{renews}")
    return "\n".join(lines)
