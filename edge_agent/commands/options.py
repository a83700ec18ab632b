"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path

import click

FILE = Path("/etc/edge-agent/edge-agent.toml")

file_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=FILE,
    show_default=True,
    envvar="EDGE_AGENT_CONFIG",
    help="Configuration file; conf.d/*.toml beside it is read too.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; its fields are documented and stable.")
