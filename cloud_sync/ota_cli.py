"""The `edge-ota` command: keys, releases, which gateway runs what, copies for gateways without a network.

Heavy imports are inside.
"""

from __future__ import annotations

from pathlib import Path

import click

from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.cli_options import catalog_option, data_option, store_option
from cloud_sync.errors import ConfigInvalid
from cloud_sync.ota_fleet_cli import COMMANDS
from cloud_sync.ota_models_cli import model
from cloud_sync.ota_options import (
    ONLINE,
    count_option,
    fleet_catalog,
    folder,
    keyring_of,
    keys_option,
    opened_repository,
    pin_of,
    sign_online,
    threshold_option,
    told_errors,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Signs and publishes models for gateways. Keys stay with you; the service can sign no release."""


@main.group()
def key() -> None:
    """Keys and who may sign what."""


@key.command("init")
@keys_option
@data_option
@catalog_option
@store_option
@click.option("--family", "families", multiple=True, help="A model family, named as its models. Repeatable.")
@threshold_option
@count_option
def key_init(
    *,
    keys: Path,
    data: Path,
    catalog: str | None,
    store: str | None,
    families: tuple[str, ...],
    threshold: int,
    count: int,
) -> None:
    """Begin a repository of releases, or add families to it. Keys are sealed by one passphrase, never overwritten.

    Writes root.json into the folder of keys: it goes to every gateway, once.
    """
    from cloud_sync.rollout.ceremony import Ceremony
    from cloud_sync.rollout.keys import create_key
    from cloud_sync.rollout.online import online_key
    from wire.clock import SystemClock

    with told_errors():
        repository, online = opened_repository(data, store)
        ring = keyring_of(keys, confirm=True)
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
        sign_online(repository, data, catalog)


@key.command("token")
@click.argument("role")
@keys_option
@click.option("--module", required=True, type=click.Path(path_type=Path), help="PKCS#11 module of the token (.so).")
@click.option("--id", "key_id", default=2, show_default=True, type=click.IntRange(0, 1 << 31), help="Key on the token.")
@click.option("--label", help="Label of the token.  [default: the only one]")
def key_token(role: str, keys: Path, module: Path, key_id: int, label: str | None) -> None:
    """Write down a key on a PKCS#11 token as the next key of ROLE: `key init` and `key rotate` then use it.

    The key (ECDSA, P-256 or P-384) is made by the token's own tool and never leaves it.
    """
    from cloud_sync.rollout.keyring import Keyring

    with told_errors():
        path = Keyring(keys, None, pin_of).note_token(role, module, key_id, label)
        click.echo(f"{path}: key {key_id} on {label or 'the token'}")


@key.command("rotate")
@click.argument("role")
@keys_option
@click.option("--new", type=folder, help="Folder for the new keys; not for the service's own.")
@data_option
@catalog_option
@store_option
@threshold_option
@count_option
def key_rotate(
    *,
    role: str,
    keys: Path,
    new: Path | None,
    data: Path,
    catalog: str | None,
    store: str | None,
    threshold: int,
    count: int,
) -> None:
    """Give ROLE other keys, signed by those above it from --keys.

    ROLE is root, targets, snapshot, timestamp, director or a family.
    """
    from cloud_sync.rollout.ceremony import Ceremony, Quorum
    from cloud_sync.rollout.keys import create_key
    from cloud_sync.rollout.online import online_key
    from wire.clock import SystemClock

    with told_errors():
        repository, online = opened_repository(data, store)
        repository.require()
        ring = keyring_of(keys, confirm=False)
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
        sign_online(repository, data, catalog)
        click.echo(f"{role} has new keys; gateways take them with their next refresh")


@main.command("export")
@click.option("--usb", required=True, type=folder, help="Empty folder to write to.")
@click.option("--family", "families", multiple=True, help="Only this family. Repeatable.")
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 180), help="How long it is good.")
@data_option
@catalog_option
@store_option
def export_usb(
    usb: Path, families: tuple[str, ...], days: int, data: Path, catalog: str | None, store: str | None
) -> None:
    """Write a copy of the repository for gateways without a network; there: edge-agent model import DIR."""
    from cloud_sync.rollout.export import export
    from cloud_sync.rollout.online import load_online_keys
    from wire.clock import SystemClock

    with fleet_catalog(data, catalog) as opened:
        repository, online = opened_repository(data, store)
        repository.require()
        written: list[int] = []
        count = export(repository, load_online_keys(online), SystemClock(), usb, families, days, written.append)
        opened.audit.record(ACTOR_LOCAL, "ota.export", ", ".join(families) or "all families", f"good for {days} days")
        click.echo(f"{usb}: {count} files, {sum(written)} bytes, good for {days} days")


for command in (model, *COMMANDS):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="edge-ota")
