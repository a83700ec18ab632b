"""`edge-agent buffer stats | export | verify | prune`: what is kept here, whether the agent runs or not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent import exits
from edge_agent.commands.options import file_option, json_option

if TYPE_CHECKING:
    from edge_agent.buffer.source import Source


@click.group()
def buffer() -> None:
    """Look at the readings that are kept here, export, check and prune them. The agent may run or not."""


@buffer.command()
@file_option
@json_option
def stats(file: Path, as_json: bool) -> None:
    """Show what waits for the cloud, what is kept as history, and what was lost, by boot and class."""
    with _source(file) as source:
        document = source.ask({"op": "buffer-stats"}) | {"agent_running": source.running}
        click.echo(json.dumps(document, indent=2) if as_json else stats_text(document))


@buffer.command()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file, which must not exist."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "jsonl"]),
    default="csv",
    show_default=True,
    help="jsonl: a JSON object per line.",
)
@click.option(
    "--series", "series", multiple=True, metavar="PATTERN", help='As in "climate/*". Repeatable; default: all.'
)
@click.option(
    "--from", "from_", metavar="TIME", help="RFC 3339, as in 2026-11-28T06:00:00Z; local time without a zone."
)
@click.option("--to", metavar="TIME", help="Up to, not including.")
@click.option(
    "--which",
    type=click.Choice(["all", "waiting", "history"]),
    default="all",
    show_default=True,
    help="waiting: what the cloud does not have; history: what it has.",
)
@file_option
def export(
    out: Path | None, format_: str, series: tuple[str, ...], from_: str | None, to: str | None, which: str, file: Path
) -> None:
    """Print readings as CSV or JSON lines: those that wait for the cloud, and the history it has. Changes nothing."""
    from edge_agent.buffer.export import Choice, export

    choice = Choice(series, _time(from_, "--from"), _time(to, "--to"), which != "history", which != "waiting")
    with _source(file) as source:
        try:
            target = sys.stdout if out is None else out.open("x", encoding="utf-8", newline="")
            try:
                done = export(source, choice, target, as_json=format_ == "jsonl")
                target.flush()
            finally:
                if out is not None:
                    target.close()
        except BrokenPipeError:
            sys.stdout = None  # `head` has enough: nothing is left to flush
            raise SystemExit(exits.OK) from None
        except OSError as error:
            click.echo(f"edge-agent: {out or 'stdout'}: {error.strerror}", err=True)
            raise SystemExit(exits.FAILED) from error
    click.echo(f"readings: {done.rows}", err=True)
    if done.damaged:
        click.echo(f"edge-agent: {done.damaged} damaged atoms were left out. Try: edge-agent buffer verify", err=True)
        raise SystemExit(exits.FAILED)


@buffer.command()
@file_option
@json_option
def verify(file: Path, as_json: bool) -> None:
    """Decode every reading here and compare it with the records about it. Exit 1 when something is wrong."""
    from edge_agent.buffer.verify import verify

    with _source(file) as source:
        verdict = verify(source)
    if as_json:
        click.echo(json.dumps(verdict.document(), indent=2))
    else:
        whole = "and every page" if verdict.pages else "(pages: only while the agent is stopped)"
        click.echo(f"looked at {verdict.atoms} atoms, {verdict.cells} readings {whole}")
        for problem in verdict.problems:
            click.echo(f"wrong: {problem}")
        if verdict.problems_count:
            click.echo(f"wrong in all: {verdict.problems_count}. The agent's next start saves what is whole")
    raise SystemExit(exits.FAILED if verdict.problems_count else exits.OK)


@buffer.command()
@click.option("--history", is_flag=True, help="Readings that the cloud has.")
@click.option("--keep", metavar="SIZE", help='Of the history so much stays, the newest: "50 MB".')
@click.option("--set-aside", is_flag=True, help="Atoms that the cloud refused; the last 100 are kept for people.")
@click.option("--damaged", is_flag=True, help="The copy of a damaged outbox.")
@file_option
@json_option
def prune(history: bool, keep: str | None, set_aside: bool, damaged: bool, file: Path, as_json: bool) -> None:
    """Delete what the cloud has, and what is kept for people. Nothing that the cloud does not have is ever pruned."""
    from edge_agent.config.values import parse_size

    if not (history or keep or set_aside or damaged):
        raise click.UsageError("say what shall go: --history, --keep SIZE, --set-aside, --damaged")
    try:
        history_bytes = parse_size(keep) if keep is not None else 0 if history else None
    except ValueError as error:
        raise click.BadParameter(f'"{keep}" {error}', param_hint="--keep") from error
    request = {"op": "buffer-prune", "history_bytes_max": history_bytes, "set_aside": set_aside, "damaged": damaged}
    done = {"schema_version": 1, "history": 0, "set_aside": 0, "damaged": False}
    with _source(file) as source:
        more = True
        while more:
            pruned = source.ask(request)
            done |= {name: done[name] + pruned[name] for name in ("history", "set_aside")}
            done["damaged"] = bool(done["damaged"] or pruned["damaged"])
            more = pruned["more"]
    if as_json:
        click.echo(json.dumps(done, indent=2))
    else:
        copy = "the copy of a damaged outbox" if done["damaged"] else "no copy of a damaged outbox"
        click.echo(f"deleted: {done['history']} atoms of history, {done['set_aside']} refused atoms, {copy}")


def stats_text(document: dict[str, Any]) -> str:
    """For people."""
    from edge_agent.config.values import show_size

    waiting, history = document["waiting"], document["history"]
    lines = [
        f"{document['path']}  {show_size(sum(document['files'].values()))}",
        f"waiting  {waiting['cells']:,} readings in {waiting['atoms']:,} atoms, {show_size(waiting['bytes'])}",
        f"history  {history['atoms']:,} atoms, {show_size(history['bytes'])}",
    ]
    for name, part in (document["classes"] or {}).items():
        lines.append(f"  {name:7} {part['cells']:,} readings in {part['atoms']:,} atoms, {show_size(part['bytes'])}")
    for epoch in document["epochs"]:
        if epoch["waiting"]["atoms"] or epoch["history"]["atoms"]:
            since = "" if epoch["oldest_us"] is None else f", the oldest of {_wall(epoch)}"
            lines.append(
                f"  boot {epoch['number']} {epoch['epoch']}: {epoch['waiting']['cells']:,} readings wait{since}"
            )
    losses = ", ".join(f"{count:,} {reason}" for reason, count in document["losses"].items())
    lines.append(f"lost     {losses or 'nothing'}")
    if document["tombstones_waiting"]:
        lines.append(f"         {document['tombstones_waiting']:,} records of it wait for the cloud")
    if document["set_aside"]:
        lines.append(f"refused  {document['set_aside']} atoms by the cloud, kept for people")
    return "\n".join(lines)


def _wall(epoch: dict[str, Any]) -> str:
    from datetime import UTC, timedelta

    if epoch["offset_us"] is None:
        return "a time that is not known"
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=epoch["oldest_us"] + epoch["offset_us"])
    except OverflowError:
        return "a time that no calendar has"
    return at.isoformat(timespec="seconds") + ("" if epoch["synchronised"] else " by a clock that was not set")


def _time(text: str | None, option: str) -> int | None:
    """Microseconds of the wall clock."""
    if text is None:
        return None
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(f'"{text}" is no time: write it as 2026-11-28T06:00:00Z', param_hint=option) from error


@contextmanager
def _source(file: Path) -> Iterator[Source]:
    from edge_agent.asking import RequestRefused
    from edge_agent.buffer.source import open_source
    from edge_agent.config.load import load
    from edge_agent.errors import AgentError

    try:
        with open_source(load(file)) as source:
            yield source
    except AgentError as error:
        raise SystemExit(exits.fail(error)) from error
    except RequestRefused as error:
        click.echo(f"edge-agent: {error}", err=True)
        raise SystemExit(exits.FAILED) from error
