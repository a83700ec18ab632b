"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path

import click

from edge_agent.commands.place import FILE, VARIABLE

file_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=FILE,
    show_default=True,
    envvar=VARIABLE,
    help="Configuration file; conf.d/*.toml beside it is read too.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; its fields are documented and stable.")
