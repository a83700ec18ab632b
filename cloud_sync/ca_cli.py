"""`cloud-sync ca`: replacing the CA step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloud_sync.cli_options import catalog_option, data_option, json_option, one_line_errors

if TYPE_CHECKING:
    from cloud_sync.auth.rotation import Standing
    from cloud_sync.data_folder import DataFolder

NAMED_MAX = 10  # gateways in a message
force_option = click.option("--force", is_flag=True, help="Also though some gateways are not ready; they are named.")


@click.group()
def ca() -> None:
    """The CA, and how another takes its place: introduce, switch, retire, with a restart of the service after each."""


@ca.command()
@data_option
@catalog_option
@json_option
def show(data: Path, catalog: str | None, as_json: bool) -> None:
    """Show whom gateways trust, who signs, and which gateways have no certificate of the newest CA."""
    from cloud_sync.auth.rotation import fingerprint, standing

    with one_line_errors():
        folder = _folder(data, catalog)
        now = standing(folder.pki)
        late = _behind(folder, now)
    document = {
        "schema_version": 1,
        "step": now.step.value,
        "trusted": [{"name": each.subject.rfc4514_string(), "sha256": fingerprint(each)} for each in now.trusted],
        "behind": late,
    }
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    click.echo(f"step     {now.step.value}")
    for each in now.trusted:
        click.echo(f"trusted  {each.subject.rfc4514_string()}  {fingerprint(each)}")
    if len(now.trusted) > 1:
        click.echo(f"behind   {_named(late)}")


@ca.command()
@data_option
@catalog_option
def introduce(data: Path, catalog: str | None) -> None:
    """Make a new CA that is trusted beside the old one; gateways hear of it when they connect."""
    from cloud_sync.auth.rotation import introduce as step

    with one_line_errors():
        folder = _folder(data, catalog)
        with _noting(folder, "introduce") as note:
            now = note(step(folder.pki))
        click.echo(f"{now.new.subject.rfc4514_string()} is trusted from the next start on: restart the service")
        click.echo(f"to other replicas: {folder.pki.ca}. Next: cloud-sync ca switch --data {data}")


@ca.command()
@data_option
@catalog_option
def switch(data: Path, catalog: str | None) -> None:
    """Let the new CA sign gateways' certificates; those that connect are asked to renew theirs."""
    from cloud_sync.auth.rotation import switch as step

    with one_line_errors():
        folder = _folder(data, catalog)
        with _noting(folder, "switch") as note:
            now = note(step(folder.pki))
        click.echo(f"{now.new.subject.rfc4514_string()} signs from the next start on: restart the service")
        click.echo(f"who has renewed: cloud-sync ca show --data {data}. At the end: cloud-sync ca retire --data {data}")


@ca.command()
@data_option
@catalog_option
@force_option
def retire(data: Path, catalog: str | None, force: bool) -> None:
    """Trust the old CA no more, and give the server a certificate of the new one.

    Gateways that have no certificate of the new CA could not connect any more: they need a token.
    """
    from cloud_sync.auth.rotation import Step, standing
    from cloud_sync.auth.rotation import retire as step
    from cloud_sync.errors import ConfigInvalid

    with one_line_errors():
        folder = _folder(data, catalog)
        before = standing(folder.pki)
        late = _behind(folder, before) if before.step is Step.SWITCHED else []
        if late and not force:
            raise ConfigInvalid(
                f"no certificate of the new CA yet: {_named(late)}. They get one when they connect. Try: wait; "
                "cloud-sync gateway revoke ID for those that are gone; or --force, and a token for each"
            )
        with _noting(folder, "retire") as note:
            now = note(step(folder.pki))
        click.echo(f"{now.new.subject.rfc4514_string()} alone is trusted from the next start on: restart the service")
        click.echo(f"to other replicas: {folder.pki.ca}, {folder.pki.server}, {folder.pki.server_key}")
        click.echo("join tokens that were made before are for the old CA: make new ones")
        if late:
            click.echo(f"they need a token (cloud-sync token create --gateway ID): {_named(late)}")


def _folder(data: Path, catalog: str | None) -> DataFolder:
    from cloud_sync.data_folder import DataFolder

    folder = DataFolder(data, catalog)
    folder.require_initialised()
    return folder


def _behind(folder: DataFolder, now: Standing) -> list[str]:
    from cloud_sync.auth.rotation import behind
    from wire.clock import SystemClock

    with closing(folder.open_catalog(SystemClock())) as catalog:
        return sorted(behind(now, catalog.access.certificates()))


@contextmanager
def _noting(folder: DataFolder, step: str) -> Iterator[Callable[[Standing], Standing]]:
    """Writes the step down; without a catalog that answers, it is not begun."""
    from cloud_sync.auth.rotation import fingerprint
    from cloud_sync.catalog.actors import ACTOR_LOCAL
    from wire.clock import SystemClock

    def note(now: Standing) -> Standing:
        catalog.audit.record(ACTOR_LOCAL, f"ca.{step}", fingerprint(now.new))
        return now

    with closing(folder.open_catalog(SystemClock())) as catalog:
        yield note


def _named(gateways: list[str]) -> str:
    """So many that a screen holds them."""
    more = f" and {len(gateways) - NAMED_MAX} more" if len(gateways) > NAMED_MAX else ""
    return (", ".join(gateways[:NAMED_MAX]) or "none") + more
