"""`edge-agent model import | activate | rollback | explain`: releases that lie here, and those on a stick."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent import exits
from edge_agent.commands.options import file_option, json_option
from edge_agent.errors import AgentError
from edge_agent.ota.root import ROOT_FILE, trusted_root

if TYPE_CHECKING:
    from edge_agent.config.model import Config
    from edge_agent.ota.records import Record, Ref
    from edge_agent.ota.slots import Slots

FINE = frozenset({"", "active", "no_release"})


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except AgentError as error:
        raise SystemExit(exits.fail(error)) from error


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--family", "families", multiple=True, help="Only this family. Repeatable.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help=f"root.json of the key ceremony. Default: {ROOT_FILE}, or the one that was trusted before.",
)
@file_option
@json_option
def import_models(folder: Path, families: tuple[str, ...], root: Path | None, file: Path, as_json: bool) -> None:
    """Install the newest releases from FOLDER, a copy that `edge-ota export` made. Exit 1 when one is refused."""
    from edge_agent.ota.client import TufClient
    from edge_agent.ota.folder import METADATA, TARGETS, FolderFetcher
    from edge_agent.ota.installer import Installer
    from wire.clock import SystemClock

    with _told():
        config, slots = _slots(file)
        client = TufClient(slots.folder / "metadata", METADATA, TARGETS, FolderFetcher(folder), SystemClock())
        if (trusted := trusted_root(root)) is not None:
            client.init(trusted)
        outcomes = Installer(client, slots, _progress).install(families)
        if any(not outcome.reason for outcome in outcomes):
            _reload(config)
    rows: list[dict[str, Any]] = [
        {"family": one.family, "release": one.release, "reason": one.reason, "text": one.text} for one in outcomes
    ]
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "outcomes": rows}, indent=2))
    else:
        for one in outcomes:
            click.echo(f"{one.release}  {f'{one.reason}: ' if one.reason else 'runs now, on probation: '}{one.text}")
    raise SystemExit(exits.OK if all(one.reason in FINE for one in outcomes) else exits.FAILED)


@click.command("trust")
@click.argument("root", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@file_option
def trust_root(root: Path, file: Path) -> None:
    """Trust releases by ROOT, the root.json of the key ceremony, from now on; a newer one that is trusted stays."""
    from edge_agent.ota.client import TufClient
    from edge_agent.ota.folder import METADATA, TARGETS, FolderFetcher
    from wire.clock import SystemClock

    with _told():
        _, slots = _slots(file)
        given = trusted_root(root)
        assert given is not None
        TufClient(slots.folder / "metadata", METADATA, TARGETS, FolderFetcher(root.parent), SystemClock()).init(given)
        click.echo(f"{root} is trusted; the cloud may assign what its keys signed")


@click.command("activate")
@click.argument("release", metavar="FAMILY/COUNTER")
@file_option
def activate_model(release: str, file: Path) -> None:
    """Run a release that lies here instead of the active one: the previous one, as `model explain` shows it."""
    from edge_agent.ota.errors import OtaError

    with _told():
        config, slots = _slots(file)
        family = release.partition("/")[0]
        _require(slots, family)
        with slots.changing():
            previous = slots.record(family).previous
            if previous is None or previous.name != release:
                there = previous.name if previous else "no previous release"
                raise OtaError(f"{release} does not lie here; there is {there}", "not_here")
            slots.activate(previous)
        _reload(config)
        click.echo(f"{release} runs now, on probation")


@click.command("rollback")
@click.argument("family")
@file_option
def rollback_model(family: str, file: Path) -> None:
    """Run the previous release of FAMILY again, or the one of the package. The active one is not tried again."""
    with _told():
        config, slots = _slots(file)
        _require(slots, family)
        with slots.changing():
            target = slots.roll_back(family, "operator", "asked for on the command line")
        _reload(config)
        click.echo(f"{target.name if target else 'the factory model'} of {family} runs now")


@click.command("explain")
@click.argument("family", required=False)
@file_option
@json_option
def explain_model(family: str | None, file: Path, as_json: bool) -> None:
    """Say which release of FAMILY (or of all) runs, how it came to that, and what is not tried again."""
    with _told():
        _, slots = _slots(file)
        if family is not None:
            _require(slots, family)
        records = {name: slots.record(name) for name in ([family] if family else slots.families())}
    if as_json:
        told = {name: _document(record) for name, record in records.items()}
        click.echo(json.dumps({"schema_version": 1, "families": told}, indent=2))
        return
    for name, record in records.items():
        click.echo(f"{name}: {_name(record.active)}{f', {record.stage}' if record.active and record.stage else ''}")
        click.echo(f"  previous  {record.previous.name if record.previous else 'none'}")
        for event in record.events[-10:]:
            why = ": ".join(part for part in (event.reason, event.text) if part)
            click.echo(f"  {event.at}  {event.release}  {event.stage}{f'  {why}' if why else ''}")
    if not records:
        click.echo("every model is the package's; nothing was installed. Try: edge-agent model import FOLDER", err=True)


def _slots(file: Path) -> tuple[Config, Slots]:
    """Raises ConfigInvalid."""
    from edge_agent.config.load import load
    from edge_agent.ota.slots import Slots
    from wire.clock import SystemClock

    config = load(file)
    return config, Slots(config.state_dir, SystemClock())


def _require(slots: Slots, family: str) -> None:
    from edge_agent.ota.errors import OtaError

    if family not in slots.families():
        known = ", ".join(slots.families()) or "none"
        raise OtaError(f"nothing of {family!r} was ever installed; there is {known}", "not_here")


def _reload(config: Config) -> None:
    """Tell the running agent, where one runs; the next start takes it over anyway."""
    from edge_agent.asking import RequestRefused, ask
    from edge_agent.errors import NotRunning

    with suppress(NotRunning, RequestRefused):
        ask(config.runtime_dir, {"op": "load-models"})


def _progress(family: str, count: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"{family}: {count} bytes", err=True)


def _name(ref: Ref | None) -> str:
    return ref.name if ref else "the factory model"


def _document(record: Record) -> dict[str, Any]:
    return {
        "active": record.active.name if record.active else None,
        "previous": record.previous.name if record.previous else None,
        "stage": record.stage.value if record.stage else None,
        "attempts": record.attempts,
        "quarantine": record.quarantine,
        "events": [
            {"at": one.at, "release": one.release, "stage": one.stage.value, "reason": one.reason, "text": one.text}
            for one in record.events
        ],
    }
