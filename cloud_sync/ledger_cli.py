"""`cloud-sync ledger` and `machine`: where every reading is, and which machines answer for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cloud_sync.cli_options import catalog_option, data_option, json_option, opened_catalog
from cloud_sync.errors import ConfigInvalid

EXIT_LOST = 3  # `ledger --check`


@click.command()
@click.argument("gateway_id", required=False)
@data_option
@catalog_option
@json_option
@click.option("--check", is_flag=True, help=f"Exit {EXIT_LOST} when a reading is lost, given up or in a gap.")
def ledger(gateway_id: str | None, data: Path, catalog: str | None, as_json: bool, check: bool) -> None:
    """Show what became of all that a gateway has taken: stored, given up, still there; of the fleet without an id."""
    from cloud_sync.ledger_view import fleet_document, fleet_table, ledger_document, ledger_table

    with opened_catalog(data, catalog) as found:
        document = fleet_document(found) if gateway_id is None else ledger_document(found, gateway_id)
        text = fleet_table(document) if gateway_id is None else ledger_table(document)
        click.echo(json.dumps(document, indent=1) if as_json else text)
    if check and document["lost"]:
        sys.exit(EXIT_LOST)


@click.group()
def machine() -> None:
    """Machines that use a gateway's certificate."""


@machine.command("list")
@click.argument("gateway_id")
@data_option
@catalog_option
@json_option
def list_machines(gateway_id: str, data: Path, catalog: str | None, as_json: bool) -> None:
    """Show them; two in use are clones of one card."""
    from cloud_sync.ledger_view import ledger_document, machines_table

    with opened_catalog(data, catalog) as found:
        document = ledger_document(found, gateway_id)
        click.echo(json.dumps(document["machines"], indent=1) if as_json else machines_table(document))


@machine.command()
@click.argument("gateway_id")
@click.argument("machine_id", metavar="MACHINE")
@data_option
@catalog_option
def retire(gateway_id: str, machine_id: str, data: Path, catalog: str | None) -> None:
    """Say that a machine will not come back. What only it had is a gap from then on; a Hello of it undoes this."""
    from cloud_sync.ledger_view import ledger_document

    with opened_catalog(data, catalog) as found:
        in_use = [each["machine"] for each in ledger_document(found, gateway_id)["machines"] if not each["retired"]]
        if machine_id not in in_use:
            raise ConfigInvalid(
                f"machine {machine_id!r} does not use the certificate of {gateway_id}; those that do: "
                f"{', '.join(in_use) or 'none'}"
            )
        found.retire_machine(gateway_id, bytes.fromhex(machine_id))
        click.echo(f"{gateway_id}: machine {machine_id} is retired")
