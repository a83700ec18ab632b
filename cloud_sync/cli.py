"""The `cloud-sync` command. Commands are thin; heavy libraries are imported inside them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cloud_sync.access_cli import audit, gateway, token
from cloud_sync.ca_cli import ca
from cloud_sync.cli_options import catalog_option, data_option, json_option, one_line_errors, store_option
from cloud_sync.ledger_cli import ledger, machine
from cloud_sync.people_cli import admin_link, api_token
from cloud_sync.webhook_cli import webhook


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
    from cloud_sync.auth.links import DEFAULT_URL, login_url
    from cloud_sync.data_folder import DataFolder, initialise
    from wire.clock import SystemClock

    with one_line_errors():
        link = initialise(DataFolder(data, catalog, store), hosts, SystemClock())
        click.echo(f"{data} is ready. Next: cloud-sync serve --data {data}")
        click.echo(f"     then, once, within a day: {login_url(DEFAULT_URL, link)}")
        click.echo(f"           (another link: cloud-sync admin-link --data {data})")
        click.echo(f"     and for each gateway: cloud-sync token create --data {data}")


@main.command()
@data_option
@click.option("--grpc", default="0.0.0.0:8443", show_default=True, help="HOST:PORT for gateways (mutual TLS).")
@click.option("--enrol", help="HOST:PORT for devices that join.  [default: --grpc's host, the port after its port]")
@click.option(
    "--http", default="127.0.0.1:8080", show_default=True, help="HOST:PORT for API and console; plain on loopback only."
)
@click.option("--http-tls", is_flag=True, help="HTTPS with the service's own certificate; browsers need its ca.pem.")
@click.option(
    "--http-cert",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTTPS with this certificate and its chain, PEM.",
)
@click.option("--http-key", type=click.Path(dir_okay=False, path_type=Path), help="Its key, PEM, without a password.")
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least level of log lines on stderr.",
)
@catalog_option
@store_option
def serve(
    data: Path,
    grpc: str,
    enrol: str | None,
    http: str,
    http_tls: bool,
    http_cert: Path | None,
    http_key: Path | None,
    log_level: str,
    catalog: str | None,
    store: str | None,
) -> None:
    """Run the service. Prints one line on stdout when ready; port 0 takes any free port."""
    from cloud_sync.grpc_api.handshakes import Handshakes
    from cloud_sync.log import log_to_stderr

    log_to_stderr(log_level)
    handshakes = Handshakes()
    handshakes.read_core()

    from cloud_sync.app import Address, Options, certificate_files
    from cloud_sync.app import serve as run
    from cloud_sync.data_folder import DataFolder

    with one_line_errors():
        for_gateways = Address.parse(grpc, "--grpc")
        for_devices = Address.parse(enrol, "--enrol") if enrol else for_gateways.next()
        folder = DataFolder(data, catalog, store)
        tls = certificate_files(folder, http_tls, http_cert, http_key)
        options = Options(folder, for_gateways, Address.parse(http, "--http"), for_devices, tls)
        run(options, handshakes)


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
@catalog_option
def issue(gateway_id: str, data: Path, out: Path, days: int, catalog: str | None) -> None:
    """Make key and certificate for a gateway that cannot join by token. Never overwrites files; ends older ones."""
    from cloud_sync.data_folder import DataFolder, issue_certificate
    from wire.clock import SystemClock

    with one_line_errors():
        issue_certificate(DataFolder(data, catalog), gateway_id, out, days, SystemClock())
        click.echo(f"{out}: ca.pem, cert.pem and key.pem for gateway {gateway_id}, valid {days} days")


@cert.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def show(file: Path, as_json: bool) -> None:
    """Show what a certificate says."""
    from cloud_sync.auth.ca import read_certificate

    with one_line_errors():
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
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def pack(file: Path, as_json: bool) -> None:
    """Show which messages a pack file holds."""
    from cloud_sync.pack_view import pack_document, pack_table

    with one_line_errors():
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

    with one_line_errors():
        generation, found = begin_generation(DataFolder(data, catalog, store), SystemClock())
        click.echo(f"generation {generation:016x}")
        click.echo(f"{found.messages} messages of {found.packs} packs, which the catalog did not name, are in it again")


for group in (token, gateway, audit, ledger, machine, ca, admin_link, api_token, webhook):
    main.add_command(group)


if __name__ == "__main__":
    main(prog_name="cloud-sync")
