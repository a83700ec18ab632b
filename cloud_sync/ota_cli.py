"""The `edge-ota` command: keys, releases, copies for gateways without a network. Heavy imports are inside."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud_sync.cli_options import EXIT_CONFIG, data_option, json_option, store_option
from cloud_sync.errors import CloudError, ConfigInvalid
from wire.release import ReleaseInvalid

if TYPE_CHECKING:
    from cloud_sync.rollout.keyring import Keyring
    from cloud_sync.rollout.repository import Repository

VARIABLE = "EDGE_OTA_PASSPHRASE"
ONLINE = ("snapshot", "timestamp", "director")
folder = click.Path(file_okay=False, path_type=Path)
keys_option = click.option("--keys", required=True, type=folder, help="Folder of the offline keys.")
threshold_option = click.option(
    "--threshold", default=2, show_default=True, type=click.IntRange(1, 16), help="Keys that must sign."
)
count_option = click.option("--of", "count", default=3, show_default=True, type=click.IntRange(1, 16), help="Keys.")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (CloudError, ReleaseInvalid) as error:
        click.echo(f"edge-ota: {error}", err=True)
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigInvalid) else 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Signs and publishes models for gateways. Keys stay with you; the service can sign no release."""


@main.group()
def key() -> None:
    """Keys and who may sign what."""


@key.command("init")
@keys_option
@data_option
@store_option
@click.option("--family", "families", multiple=True, help="A model family, named as its models. Repeatable.")
@threshold_option
@count_option
def key_init(keys: Path, data: Path, store: str | None, families: tuple[str, ...], threshold: int, count: int) -> None:
    """Begin a repository of releases, or add families to it. Keys are sealed by one passphrase, never overwritten.

    Writes root.json into the folder of keys: it goes to every gateway, once.
    """
    from cloud_sync.rollout.ceremony import Ceremony
    from cloud_sync.rollout.keys import create_key
    from cloud_sync.rollout.online import online_key
    from wire.clock import SystemClock

    with _one_line_errors():
        repository, online = _opened(data, store)
        ring = _keyring(keys, confirm=True)
        ceremony = Ceremony(repository, SystemClock())
        if "root" not in repository.versions():
            quorums = [ring.create(role, count, threshold) for role in ("root", "targets")]
            signers = {role: create_key(online_key(online, role), None) for role in ONLINE}
            (keys / "root.json").write_bytes(ceremony.begin(quorums[0], quorums[1], signers))
            click.echo(f"{keys}: {threshold} of {count} keys of root and of targets; root.json for the gateways")
            click.echo(f"{online}: the service's keys of snapshot, timestamp and director")
        elif not families:
            raise ConfigInvalid("there is a repository already. Try: --family NAME, or edge-ota key rotate")
        for family in families:
            ceremony.add_family(family, ring.create(family, count, threshold), ring.load("targets"))
            click.echo(f"{keys}: {threshold} of {count} keys of family {family}")
        _sign_online(repository, online)


@key.command("rotate")
@click.argument("role")
@keys_option
@click.option("--new", type=folder, help="Folder for the new keys; not for the service's own.")
@data_option
@store_option
@threshold_option
@count_option
def key_rotate(
    role: str, keys: Path, new: Path | None, data: Path, store: str | None, threshold: int, count: int
) -> None:
    """Give ROLE other keys, signed by those above it from --keys.

    ROLE is root, targets, snapshot, timestamp, director or a family.
    """
    from cloud_sync.rollout.ceremony import Ceremony, Quorum
    from cloud_sync.rollout.keys import create_key
    from cloud_sync.rollout.online import online_key
    from wire.clock import SystemClock

    with _one_line_errors():
        repository, online = _opened(data, store)
        repository.require()
        ring = _keyring(keys, confirm=False)
        ceremony = Ceremony(repository, SystemClock())
        if role in ONLINE:
            path = online_key(online, role)
            beside = path.with_suffix(".next")
            beside.unlink(missing_ok=True)
            ceremony.rotate(role, Quorum([create_key(beside, None)], 1), ring.load("root"))
            beside.rename(path)
        elif new is None:
            raise ConfigInvalid(f"--new is missing: the folder for the new keys of {role}")
        else:
            fresh = ring.beside(new)
            if role in {"root", "targets"}:
                ceremony.rotate(role, fresh.create(role, count, threshold), ring.load("root"))
            else:
                ceremony.releases(role)
                ceremony.add_family(role, fresh.create(role, count, threshold), ring.load("targets"))
        _sign_online(repository, online)
        click.echo(f"{role} has new keys; gateways take them with their next refresh")


@main.group()
def model() -> None:
    """Releases of models."""


@model.command("push")
@click.argument("source", type=click.Path(file_okay=False, exists=True, path_type=Path))
@keys_option
@data_option
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

    with _one_line_errors():
        repository, online = _opened(data, store)
        repository.require()
        ceremony = Ceremony(repository, SystemClock())
        family = declared_of(source)["name"]
        counter = ceremony.releases(family).counter_next
        wishes = Wishes(hardware or ("*",), agent_min, runtime_min, p95_ms, memory_mib)
        release, files = read_model(source, counter, wishes)
        team = _keyring(keys, confirm=False).load(family)
        with click.progressbar(length=sum(map(len, files.values())), label=release.name, file=sys.stderr) as bar:
            ceremony.release(release, files, team, bar.update)
        _sign_online(repository, online)
        told = release_table(release)
        click.echo(json.dumps({"schema_version": 1, **told}, indent=1) if as_json else f"{release.name} is published")


@model.command("list")
@data_option
@store_option
@json_option
def model_list(data: Path, store: str | None, as_json: bool) -> None:
    """Every family and its releases."""
    from cloud_sync.rollout.ceremony import families_of

    with _one_line_errors():
        repository, _ = _opened(data, store)
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

    with _one_line_errors():
        repository, _ = _opened(data, store)
        family, _, counter = release.partition("/")
        if not counter.isdigit():
            raise ConfigInvalid(f"{release!r} is not FAMILY/COUNTER, as in value-novelty/3")
        told = release_table(release_of(repository, family, int(counter)))
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

    with _one_line_errors():
        repository, _ = _opened(data, store)
        repository.require()
        found = list(problems(repository, read_root(root), now_of(SystemClock())))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "problems": found}, indent=1))
    else:
        click.echo("\n".join(found) or "good")
    sys.exit(1 if found else 0)


@main.command("export")
@click.option("--usb", required=True, type=folder, help="Empty folder to write to.")
@click.option("--family", "families", multiple=True, help="Only this family. Repeatable.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 180), help="How long it is good.")
@data_option
@store_option
def export_usb(usb: Path, families: tuple[str, ...], days: int, data: Path, store: str | None) -> None:
    """Write a copy of the repository for gateways without a network; there: edge-agent model import DIR."""
    from cloud_sync.rollout.export import export
    from cloud_sync.rollout.online import load_online_keys
    from wire.clock import SystemClock

    with _one_line_errors():
        repository, online = _opened(data, store)
        repository.require()
        written: list[int] = []
        count = export(repository, load_online_keys(online), SystemClock(), usb, families, days, written.append)
        click.echo(f"{usb}: {count} files, {sum(written)} bytes, good for {days} days")


def _opened(data: Path, store: str | None) -> tuple[Repository, Path]:
    """The repository, and the folder of the service's keys. Raises ConfigInvalid, StoreDown."""
    from cloud_sync.data_folder import DataFolder
    from cloud_sync.rollout.repository import Repository

    there = DataFolder(data, None, store)
    if store is None and not there.objects.is_dir():
        raise ConfigInvalid(f"{there.objects} is missing. Try: cloud-sync init --data {data}")
    return Repository(there.open_store()), there.ota_keys


def _sign_online(repository: Repository, online: Path) -> None:
    """Take the change into snapshot and timestamp now, if the service's keys lie here; else it does so in a minute."""
    from cloud_sync.rollout.online import OnlineRoles, load_online_keys, online_key
    from wire.clock import SystemClock

    if not online_key(online, "timestamp").exists():
        click.echo("the service takes it in within a minute", err=True)
        return
    for role, why in OnlineRoles(repository, load_online_keys(online), SystemClock()).tick().refused.items():
        click.echo(f"edge-ota: {role}: {why}", err=True)


def _keyring(keys: Path, *, confirm: bool) -> Keyring:
    from cloud_sync.rollout.keyring import Keyring

    passphrase = os.environ.get(VARIABLE)
    if passphrase is None and sys.stdin.isatty():
        passphrase = click.prompt("passphrase of the keys", hide_input=True, confirmation_prompt=confirm, err=True)
    return Keyring(keys, passphrase)


if __name__ == "__main__":
    main(prog_name="edge-ota")
