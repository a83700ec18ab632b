"""`cloud-sync admin-link` and `api-token`: who may ask over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cloud_sync.cli_options import catalog_option, data_option, json_option, opened_catalog
from cloud_sync.cli_tables import print_rows, time_text

ROLES = ("readonly", "operator", "admin")


@click.command("admin-link")
@data_option
@catalog_option
@click.option("--ttl", default="24h", show_default=True, help="How long it is good: 30m, 24h; at most 7d.")
@click.option("--url", metavar="URL", help="Where people reach the console.  [default: where the service listens]")
def admin_link(data: Path, catalog: str | None, ttl: str, url: str | None) -> None:
    """Print a link that logs one browser in as admin, once."""
    from cloud_sync.auth.links import LINK_S_MAX, console_url, login_url, ttl_seconds
    from cloud_sync.data_folder import DataFolder

    with opened_catalog(data, catalog) as opened:
        ttl_s = ttl_seconds(ttl, LINK_S_MAX)
        base = console_url(DataFolder(data), url)
        click.echo(login_url(base, opened.people.create_link(ttl_s)))
        click.echo(f"good for one browser within {ttl}. Open it there", err=True)


@click.group("api-token")
def api_token() -> None:
    """Tokens for programs, and for people who are no admins; and the sessions in browsers."""


@api_token.command("create")
@click.argument("name")
@data_option
@catalog_option
@click.option(
    "--role",
    default="readonly",
    show_default=True,
    type=click.Choice(ROLES),
    help="readonly looks; operator acts on the fleet; admin also reads the audit.",
)
@click.option("--ttl", default="90d", show_default=True, help="How long it is good: 12h, 90d; at most 3650d.")
@json_option
def create(name: str, data: Path, catalog: str | None, role: str, ttl: str, as_json: bool) -> None:
    """Print a token, once: only its hash is kept. NAME says whose it is."""
    from cloud_sync.auth.links import TOKEN_S_MAX, checked_name, ttl_seconds
    from cloud_sync.auth.roles import Role

    with opened_catalog(data, catalog) as opened:
        ttl_s = ttl_seconds(ttl, TOKEN_S_MAX)
        made = opened.people.create_token(checked_name(name), Role[role.upper()], ttl_s)
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "id": made.id, "token": str(made), "ttl_s": ttl_s}))
            return
        click.echo(str(made))
        click.echo(f"{role}, good for {ttl}. Programs send it as: Authorization: Bearer TOKEN", err=True)


@api_token.command("list")
@data_option
@catalog_option
@json_option
def list_(data: Path, catalog: str | None, as_json: bool) -> None:
    """Show tokens, links and sessions; secrets are not kept."""
    with opened_catalog(data, catalog) as opened:
        rows = [
            {
                "id": row.id,
                "kind": row.kind,
                "name": row.name,
                "role": row.role.word,
                "state": row.state,
                "expires": time_text(row.expires_us),
                "last_seen": time_text(row.seen_us) if row.seen_us else "",
                "parent": row.parent,
            }
            for row in opened.people.all()
        ]
        print_rows(rows, "credentials", as_json, "none. Try: cloud-sync admin-link, or cloud-sync api-token create")


@api_token.command("revoke")
@click.argument("credential_id", metavar="ID")
@data_option
@catalog_option
def revoke(credential_id: str, data: Path, catalog: str | None) -> None:
    """End a token with every session it opened, one session, or a link that nobody has used."""
    with opened_catalog(data, catalog) as opened:
        kind = opened.people.end(credential_id)
        click.echo(f"{kind} {credential_id} is ended; the service refuses it within two seconds")
