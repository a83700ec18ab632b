"""`cloud-sync webhook`: who is told of alarms, silent gateways and gaps."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cloud_sync.cli_options import catalog_option, data_option, json_option, opened_catalog
from cloud_sync.cli_tables import print_rows, time_text

EVENT_NAMES = ("alarm", "silence", "gap")


@click.group()
def webhook() -> None:
    """Receivers that are told of alarms, silent gateways and gaps in the ledger."""


@webhook.command("add")
@click.argument("url")
@data_option
@catalog_option
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(EVENT_NAMES),
    help="What to tell; repeatable.  [default: all three]",
)
@click.option("--silent-after", default="15m", show_default=True, help="A gateway not heard of for so long is silent.")
@click.option("--allow-private", is_flag=True, help="The receiver is in a private network, or on this machine.")
@json_option
def add(
    url: str,
    data: Path,
    catalog: str | None,
    events: tuple[str, ...],
    silent_after: str,
    allow_private: bool,
    as_json: bool,
) -> None:
    """Tell URL from now on. Prints its id and, once, the secret that its receiver checks signatures with."""
    from cloud_sync.catalog.webhooks import Terms
    from cloud_sync.webhooks.post import checked_url, new_id, new_secret, silence_seconds

    with opened_catalog(data, catalog) as opened:
        wanted = tuple(name for name in EVENT_NAMES if name in (events or EVENT_NAMES))
        terms = Terms(checked_url(url, allow_private), wanted, silence_seconds(silent_after), allow_private)
        made, secret = new_id(), new_secret()
        opened.webhooks.add(made, secret, terms)
        if as_json:
            click.echo(json.dumps({"schema_version": 1, "id": made, "secret": secret}))
            return
        click.echo(f"{made}  {secret}")
        click.echo(f"try it: cloud-sync webhook test {made} --data {data}", err=True)


@webhook.command("list")
@data_option
@catalog_option
@json_option
def list_(data: Path, catalog: str | None, as_json: bool) -> None:
    """Show each with what waits for it, and the last error."""
    with opened_catalog(data, catalog) as opened:
        rows = [
            {
                "id": row.id,
                "url": row.terms.url,
                "events": ",".join(row.terms.events),
                "silent_after_s": row.terms.silent_after_s,
                "waiting": row.waiting,
                "failures": row.failures,
                "dropped": row.dropped,
                "last_taken": time_text(row.taken_us) if row.taken_us else "",
                "error": row.error,
            }
            for row in opened.webhooks.all()
        ]
        print_rows(rows, "webhooks", as_json, "none. Try: cloud-sync webhook add URL")


@webhook.command("remove")
@click.argument("webhook_id", metavar="ID")
@data_option
@catalog_option
def remove(webhook_id: str, data: Path, catalog: str | None) -> None:
    """Tell it nothing any more, also not what waits."""
    with opened_catalog(data, catalog) as opened:
        opened.webhooks.remove(webhook_id)
        click.echo(f"webhook {webhook_id} is removed")


@webhook.command("test")
@click.argument("webhook_id", metavar="ID")
@data_option
@catalog_option
def test(webhook_id: str, data: Path, catalog: str | None) -> None:
    """Send one signed event of type `test` now, from here. Exit 1 when the receiver does not take it."""
    import asyncio

    from cloud_sync.catalog.webhooks import greeting
    from cloud_sync.webhooks.post import NotTaken, post
    from wire.clock import SystemClock

    with opened_catalog(data, catalog) as opened:
        target, clock = opened.webhooks.target(webhook_id), SystemClock()
        event = greeting(opened.now_us())
        try:
            status = asyncio.run(post(target, event.id, event.body, clock))
        except NotTaken as error:
            click.echo(f"cloud-sync: {target.url} does not take it: {error}", err=True)
            raise SystemExit(1) from error
        click.echo(f"{target.url} answered {status}")
