"""Tables and times as commands print them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from wire.clock import US_PER_S


def time_text(at_us: int) -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(at_us // US_PER_S, UTC).isoformat().replace("+00:00", "Z")


def print_rows(rows: Sequence[dict[str, Any]], name: str, as_json: bool, none: str) -> None:
    """Rows under a head of their keys, or `{"schema_version": 1, name: rows}`; `none` where there are none."""
    if as_json:
        click.echo(json.dumps({"schema_version": 1, name: rows}, indent=1))
        return
    if not rows:
        click.echo(none)
        return
    lines = [[key.upper() for key in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={each}" for key, each in value.items())
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
