"""What the commands of `edge-ota` share: options, errors, and how repository and keys are opened."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud_sync.cli_options import EXIT_CONFIG, opened_catalog
from cloud_sync.errors import CloudError, ConfigInvalid, KeyUnusable
from wire.release import ReleaseInvalid

if TYPE_CHECKING:
    from cloud_sync.catalog.sql_catalog import SqlCatalog
    from cloud_sync.rollout.keyring import Keyring
    from cloud_sync.rollout.repository import Repository

VARIABLE = "EDGE_OTA_PASSPHRASE"
PIN_VARIABLE = "EDGE_OTA_PIN"
ONLINE = ("snapshot", "timestamp", "director")
folder = click.Path(file_okay=False, path_type=Path)
keys_option = click.option("--keys", required=True, type=folder, help="Folder of the offline keys.")
threshold_option = click.option(
    "--threshold", default=2, show_default=True, type=click.IntRange(1, 16), help="Keys that must sign."
)
count_option = click.option("--of", "count", default=3, show_default=True, type=click.IntRange(1, 16), help="Keys.")


@contextmanager
def told_errors() -> Iterator[None]:
    """Expected failures end as one line on stderr: exit 78 for a wrong setting, 1 for the rest."""
    try:
        yield
    except (CloudError, ReleaseInvalid) as error:
        click.echo(f"edge-ota: {error}", err=True)
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigInvalid) else 1)


@contextmanager
def fleet_catalog(data: Path, url: str | None) -> Iterator[SqlCatalog]:
    """The catalog, for one command of `edge-ota`."""
    with opened_catalog(data, url) as opened, told_errors():
        yield opened


def opened_repository(data: Path, store: str | None) -> tuple[Repository, Path]:
    """The repository, and the folder of the service's keys. Raises ConfigInvalid, StoreDown."""
    from cloud_sync.data_folder import DataFolder
    from cloud_sync.rollout.repository import Repository

    there = DataFolder(data, None, store)
    if store is None and not there.objects.is_dir():
        raise ConfigInvalid(f"{there.objects} is missing. Try: cloud-sync init --data {data}")
    return Repository(there.open_store()), there.ota_keys


def sign_online(repository: Repository, data: Path, catalog: str | None) -> None:
    """Take the change into audit, snapshot and timestamp now, if the service's keys and its catalog can be had here;
    else the service does so in a minute."""
    from cloud_sync.data_folder import DataFolder
    from cloud_sync.rollout.online import OnlineRoles, load_online_keys, online_key
    from cloud_sync.rollout.signings import Signings
    from wire.clock import SystemClock

    there, clock = DataFolder(data, catalog), SystemClock()
    if not online_key(there.ota_keys, "timestamp").exists() or (catalog is None and not there.catalog.exists()):
        click.echo("the service takes it in within a minute", err=True)
        return
    with closing(there.open_catalog(clock)) as opened:
        note = Signings(opened.audit).note
        done = OnlineRoles(repository, load_online_keys(there.ota_keys), clock, note).tick()
    for role, why in done.refused.items():
        click.echo(f"edge-ota: {role}: {why}", err=True)


def keyring_of(keys: Path, *, confirm: bool) -> Keyring:
    """The folder of keys with its passphrase, from the environment or asked for."""
    from cloud_sync.rollout.keyring import Keyring

    passphrase = os.environ.get(VARIABLE)
    if passphrase is None and sys.stdin.isatty():
        passphrase = click.prompt("passphrase of the keys", hide_input=True, confirmation_prompt=confirm, err=True)
    return Keyring(keys, passphrase, pin_of)


def pin_of(what: str) -> str:
    """The PIN of a token, from the environment or asked for. Raises KeyUnusable."""
    pin = os.environ.get(PIN_VARIABLE)
    if pin is None and sys.stdin.isatty():
        pin = click.prompt(f"PIN of {what}", hide_input=True, err=True)
    if pin is None:
        raise KeyUnusable(f"{what}: a PIN is needed. Try: {PIN_VARIABLE}, or a terminal that can be asked")
    return pin


def release_named(name: str) -> tuple[str, int]:
    """`FAMILY/COUNTER` in its parts. Raises ConfigInvalid."""
    family, _, counter = name.partition("/")
    if not counter.isdigit():
        raise ConfigInvalid(f"{name!r} is not FAMILY/COUNTER, as in value-novelty/3")
    return family, int(counter)
