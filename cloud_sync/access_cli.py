"""`cloud-sync token`, `gateway` and `audit`: who may connect, and who changed that."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cloud_sync.cli_options import catalog_option, data_option, json_option, opened_catalog
from cloud_sync.cli_tables import print_rows, time_text


@click.group()
def token() -> None:
    """Tokens that devices join with."""


@token.command("create")
@data_option
@catalog_option
@click.option("--uses", default=1, show_default=True, type=click.IntRange(1, 100_000), help="How many devices.")
@click.option("--ttl", default="24h", show_default=True, help="How long it is good: 30m, 24h, 7d; at most 365d.")
@click.option("--gateway", default="", help="Only for this id; the device then takes that gateway's place.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Given to each gateway. Repeatable.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file that each gateway starts with: sensors, buses, models.",
)
@click.option("--approve", is_flag=True, help="Each device waits until you approve it: cloud-sync gateway approve.")
@click.option(
    "--address",
    metavar="HOST[:PORT]",
    help="Where devices find the enrolment port.  [default: the first --host of init]",
)
@json_option
def token_create(
    data: Path,
    catalog: str | None,
    uses: int,
    ttl: str,
    gateway: str,
    labels: tuple[str, ...],
    config: Path | None,
    approve: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Print a token, once: only its hash is kept. Whoever has it can join."""
    from cloud_sync.auth.tokens import make_token, terms_of
    from cloud_sync.data_folder import DataFolder

    with opened_catalog(data, catalog) as opened:
        terms = terms_of(uses=uses, ttl=ttl, gateway=gateway, approve=approve, labels=labels, config=config)
        made = make_token(DataFolder(data), address)
        opened.join_tokens.create(made, terms)
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "id": made.id, "token": str(made), "ttl_s": terms.ttl_s}))
            return
        click.echo(str(made))
        uses_text = "one device" if uses == 1 else f"{uses} devices"
        click.echo(f"good for {uses_text} within {ttl}. On the gateway: sudo edge-agent join TOKEN", err=True)


@token.command("list")
@data_option
@catalog_option
@json_option
def token_list(data: Path, catalog: str | None, as_json: bool) -> None:
    """Show every token; secrets are not kept."""
    with opened_catalog(data, catalog) as opened:
        rows = [
            {
                "id": row.id,
                "state": row.state,
                "uses": row.uses,
                "uses_max": row.uses_max,
                "expires": time_text(row.expires_us),
                "gateway": row.gateway,
                "approval": not row.approved,
                "labels": row.labels,
            }
            for row in opened.join_tokens.all()
        ]
        print_rows(rows, "tokens", as_json, "no tokens. Try: cloud-sync token create")


@token.command("revoke")
@click.argument("token_id")
@data_option
@catalog_option
def token_revoke(token_id: str, data: Path, catalog: str | None) -> None:
    """Let nobody join with this token any more; gateways that joined stay."""
    with opened_catalog(data, catalog) as opened:
        opened.join_tokens.revoke(token_id)
        click.echo(f"token {token_id} is revoked")


@click.group()
def gateway() -> None:
    """Gateways: who waits, who is in, who is out."""


@gateway.command("list")
@data_option
@catalog_option
@json_option
def gateway_list(data: Path, catalog: str | None, as_json: bool) -> None:
    """Show every gateway that joined, waits for approval, left or was revoked."""
    with opened_catalog(data, catalog) as opened:
        rows = [
            {
                "id": row.gateway,
                "state": row.state,
                "code": row.code,
                "since": time_text(row.since_us),
                "certificate_ends": time_text(row.not_after_us) if row.not_after_us else "",
                "labels": row.labels,
                "reason": row.reason,
            }
            for row in opened.access.identities()
        ]
        print_rows(rows, "gateways", as_json, "no gateway has joined. Try: cloud-sync token create")


@gateway.command("approve")
@click.argument("code_or_id")
@data_option
@catalog_option
def gateway_approve(code_or_id: str, data: Path, catalog: str | None) -> None:
    """Let a device in that shows this code; compare it with the device's screen."""
    with opened_catalog(data, catalog) as opened:
        click.echo(f"gateway {opened.access.approve(code_or_id)} may join; it asks every few seconds")


@gateway.command("revoke")
@click.argument("gateway_id")
@data_option
@catalog_option
@click.option("--reason", default="", help="Kept with the gateway, shown by list.")
def gateway_revoke(gateway_id: str, data: Path, catalog: str | None, reason: str) -> None:
    """Refuse a gateway from now on, also one that waits. Its readings stay."""
    with opened_catalog(data, catalog) as opened:
        opened.access.revoke(gateway_id, reason)
        click.echo(f"gateway {gateway_id} is revoked; open streams end within a second or two")
        click.echo(f"to let it in again: cloud-sync token create --gateway {gateway_id} --data {data}")


@click.command()
@data_option
@catalog_option
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, newest first.")
@json_option
def audit(data: Path, catalog: str | None, limit: int, as_json: bool) -> None:
    """Show who changed what, and whether a row was tampered with. Exit 1 if so."""
    with opened_catalog(data, catalog) as opened:
        rows = [
            {
                "id": row.id,
                "at": time_text(row.at_us),
                "actor": row.actor,
                "action": row.action,
                "subject": row.subject,
                "detail": row.detail,
            }
            for row in opened.audit.rows(limit)
        ]
        broken = opened.audit.first_broken()
        print_rows(rows, "changes", as_json, "nothing was changed yet")
        if broken is not None:
            click.echo(
                f"cloud-sync: audit row {broken} is not as it was written. Try: a backup of the catalog", err=True
            )
            raise SystemExit(1)
