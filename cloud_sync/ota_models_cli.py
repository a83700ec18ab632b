"""`edge-ota model`: releases, from a model's folder to what gateways will read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cloud_sync.cli_options import catalog_option, data_option, json_option, store_option
from cloud_sync.ota_options import keyring_of, keys_option, opened_repository, release_named, sign_online, told_errors


@click.group()
def model() -> None:
    """Releases of models."""


@model.command("push")
@click.argument("source", type=click.Path(file_okay=False, exists=True, path_type=Path))
@keys_option
@data_option
@catalog_option
@store_option
@click.option("--hardware", multiple=True, help="Machine it is for, as uname -m says. Repeatable; default: any.")
@click.option("--agent-min", default="0.1.0", show_default=True, help="Least version of edge-agent.")
@click.option("--runtime-min", default="1.22", show_default=True, help="Least version of onnxruntime.")
@click.option("--p95-ms", default=50.0, show_default=True, help="Budget of a run on the gateway, milliseconds.")
@click.option("--memory-mib", default=64.0, show_default=True, help="Budget of memory on the gateway, MiB.")
@json_option
def model_push(
    *,
    source: Path,
    keys: Path,
    data: Path,
    catalog: str | None,
    store: str | None,
    hardware: tuple[str, ...],
    agent_min: str,
    runtime_min: str,
    p95_ms: float,
    memory_mib: float,
    as_json: bool,
) -> None:
    """Sign the model in SOURCE (.../NAME/VERSION) as the next release of its family, and publish it."""
    from cloud_sync.rollout.ceremony import Ceremony
    from cloud_sync.rollout.publish import Wishes, declared_of, read_model, release_table
    from wire.clock import SystemClock

    with told_errors():
        repository, _ = opened_repository(data, store)
        repository.require()
        ceremony = Ceremony(repository, SystemClock())
        family = declared_of(source)["name"]
        counter = ceremony.releases(family).counter_next
        wishes = Wishes(hardware or ("*",), agent_min, runtime_min, p95_ms, memory_mib)
        release, files = read_model(source, counter, wishes)
        team = keyring_of(keys, confirm=False).load(family)
        with click.progressbar(length=sum(map(len, files.values())), label=release.name, file=sys.stderr) as bar:
            ceremony.release(release, files, team, bar.update)
        sign_online(repository, data, catalog)
        told = release_table(release)
        click.echo(json.dumps({"schema_version": 1, **told}, indent=1) if as_json else f"{release.name} is published")


@model.command("list")
@data_option
@store_option
@json_option
def model_list(data: Path, store: str | None, as_json: bool) -> None:
    """Every family and its releases."""
    from cloud_sync.rollout.ceremony import families_of

    with told_errors():
        repository, _ = opened_repository(data, store)
        repository.require()
        rows = [
            {"family": one.family, "releases": one.counters, "expires": one.targets.expires.isoformat()}
            for one in families_of(repository)
        ]
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "families": rows}, indent=1))
            return
        for row in rows:
            click.echo(
                f"{row['family']}  {', '.join(map(str, row['releases'])) or 'none'}  until {row['expires'][:10]}"
            )
        if not rows:
            click.echo("no families. Try: edge-ota key init --family NAME", err=True)


@model.command("show")
@click.argument("release", metavar="FAMILY/COUNTER")
@data_option
@store_option
@json_option
def model_show(release: str, data: Path, store: str | None, as_json: bool) -> None:
    """What a release holds, and what it needs of a gateway."""
    from cloud_sync.rollout.publish import release_of, release_table

    with told_errors():
        repository, _ = opened_repository(data, store)
        told = release_table(release_of(repository, *release_named(release)))
        if as_json:
            click.echo(json.dumps({"schema_version": 1, **told}, indent=1))
            return
        for name, value in told.items():
            if isinstance(value, dict):
                for inner, one in value.items():
                    text = f"{one['length']:>9} bytes  {one['sha256']}" if isinstance(one, dict) else f"{one:g}"
                    click.echo(f"{inner:<12} {text}")
            else:
                click.echo(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


@model.command("verify")
@click.option(
    "--root", required=True, type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Trusted root."
)
@data_option
@store_option
@json_option
def model_verify(root: Path, data: Path, store: str | None, as_json: bool) -> None:
    """Check every signature, expiry and file of the repository as a gateway would. Exit 1 when something is wrong."""
    from cloud_sync.rollout.repository import now_of
    from cloud_sync.rollout.verify import problems, read_root
    from wire.clock import SystemClock

    with told_errors():
        repository, _ = opened_repository(data, store)
        repository.require()
        found = list(problems(repository, read_root(root), now_of(SystemClock())))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "problems": found}, indent=1))
    else:
        click.echo("\n".join(found) or "good")
    sys.exit(1 if found else 0)
