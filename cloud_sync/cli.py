"""The `cloud-sync` command. Commands are thin; heavy libraries are imported inside them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cloud_sync.errors import CloudError, ConfigInvalid

EXIT_CONFIG = 78  # sysexits(3) EX_CONFIG: a supervisor should not restart

data_option = click.option(
    "--data",
    "data",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the service: catalog, objects, keys.",
)
catalog_option = click.option(
    "--catalog",
    envvar="CLOUD_SYNC_CATALOG",
    metavar="URL",
    help="postgresql://USER@HOST/DATABASE instead of SQLite in the folder; password in PGPASSWORD or PGPASSFILE.",
)
store_option = click.option(
    "--object-store",
    "store",
    envvar="CLOUD_SYNC_OBJECT_STORE",
    metavar="URL",
    help="s3://BUCKET/PREFIX?endpoint=URL&region=NAME instead of the folder; keys in AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY or ~/.aws/credentials.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON with stable fields.")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Expected failures end as one line on stderr: exit 78 for a wrong setting, 1 for the rest."""
    try:
        yield
    except CloudError as error:
        click.echo(f"cloud-sync: {error}", err=True)
        sys.exit(EXIT_CONFIG if isinstance(error, ConfigInvalid) else 1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Tidegate's cloud service: takes readings from gateways, keeps them, shows them."""


@main.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    click.echo(f"cloud-sync {installed('tidegate')}")


@main.command()
@data_option
@click.option(
    "--host", "hosts", multiple=True, help="Another name or address gateways reach this service by. Repeatable."
)
@catalog_option
@store_option
def init(data: Path, hosts: tuple[str, ...], catalog: str | None, store: str | None) -> None:
    """Make the folder: a CA, the server's certificate, an empty catalog and object store. Never overwrites."""
    from cloud_sync.data_folder import DataFolder, initialise
    from wire.clock import SystemClock

    with _one_line_errors():
        initialise(DataFolder(data, catalog, store), hosts, SystemClock())
        click.echo(f"{data} is ready. Next: cloud-sync cert issue GATEWAY_ID --data {data} --out DIR")
        click.echo(f"           then: cloud-sync serve --data {data}")


@main.command()
@data_option
@click.option("--grpc", default="0.0.0.0:8443", show_default=True, help="HOST:PORT for gateways (mutual TLS).")
@click.option(
    "--http", default="127.0.0.1:8080", show_default=True, help="HOST:PORT for API and console; loopback only."
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least level of log lines on stderr.",
)
@catalog_option
@store_option
def serve(data: Path, grpc: str, http: str, log_level: str, catalog: str | None, store: str | None) -> None:
    """Run the service. Prints one line on stdout when ready; port 0 takes any free port."""
    from cloud_sync.log import log_to_stderr

    log_to_stderr(log_level)

    from cloud_sync.app import Address, Options
    from cloud_sync.app import serve as run
    from cloud_sync.data_folder import DataFolder

    with _one_line_errors():
        run(Options(DataFolder(data, catalog, store), Address.parse(grpc, "--grpc"), Address.parse(http, "--http")))


@main.group()
def cert() -> None:
    """Certificates of gateways."""


@cert.command()
@click.argument("gateway_id")
@data_option
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for ca.pem, cert.pem, key.pem.",
)
@click.option(
    "--days", default=90, show_default=True, type=click.IntRange(1, 3650), help="Days the certificate is valid."
)
def issue(gateway_id: str, data: Path, out: Path, days: int) -> None:
    """Issue a gateway's certificate. Never overwrites."""
    from cloud_sync.data_folder import DataFolder, issue_certificate
    from wire.clock import SystemClock

    with _one_line_errors():
        issue_certificate(DataFolder(data), gateway_id, out, days, SystemClock())
        click.echo(f"{out}: ca.pem, cert.pem and key.pem for gateway {gateway_id}, valid {days} days")


@cert.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what a certificate says."""
    from cloud_sync.auth.ca import read_certificate

    with _one_line_errors():
        facts = read_certificate(file)
    document = {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": list(facts.names),
        "valid_from": facts.valid_from.isoformat(),
        "valid_until": facts.valid_until.isoformat(),
        "sha256": facts.sha256,
        "authority": facts.authority,
    }
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        for name, value in document.items():
            click.echo(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


@main.command()
@click.argument("gateway_id")
@data_option
@catalog_option
@json_option
def ledger(gateway_id: str, data: Path, catalog: str | None, as_json: bool) -> None:
    """Show what became of all that a gateway has taken: stored, given up, still there."""
    from cloud_sync.data_folder import DataFolder
    from cloud_sync.ledger_view import ledger_document, ledger_table
    from wire.clock import SystemClock

    with _one_line_errors():
        document = ledger_document(DataFolder(data, catalog), gateway_id, SystemClock())
        click.echo(json.dumps(document, indent=1) if as_json else ledger_table(document))


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def pack(file: Path, as_json: bool) -> None:
    """Show which messages a pack file holds."""
    from cloud_sync.pack_view import pack_document, pack_table

    with _one_line_errors():
        document = pack_document(file)
        click.echo(json.dumps(document, indent=1) if as_json else pack_table(document))


@main.command()
@data_option
@catalog_option
@store_option
def restored(data: Path, catalog: str | None, store: str | None) -> None:
    """Say that the folder or a part of it came from a backup: gateways then offer again what they still have.

    The service (each replica of it) must not be running. Starts a new generation of catalog and object store, and
    takes in again the packs that an older catalog does not name.
    """
    from cloud_sync.data_folder import DataFolder, begin_generation
    from wire.clock import SystemClock

    with _one_line_errors():
        generation, found = begin_generation(DataFolder(data, catalog, store), SystemClock())
        click.echo(f"generation {generation:016x}")
        click.echo(f"{found.messages} messages of {found.packs} packs, which the catalog did not name, are in it again")
