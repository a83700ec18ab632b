"""`edge-agent doctor`."""

from __future__ import annotations

import json
import os
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_agent import exits
from edge_agent.commands.options import file_option, json_option

if TYPE_CHECKING:
    from edge_agent.doctor.examination import Examination

SCHEMA_VERSION = 1


@click.command()
@click.option("--user", default="", help="Account that the agent runs as.  [default: the running or packaged agent's]")
@file_option
@json_option
def doctor(user: str, file: Path, as_json: bool) -> None:
    """Look for what is wrong here, and say which command helps. Changes nothing.

    Exit 0 nothing failed (warnings may be there), 1 something did.
    """
    from edge_agent.doctor.examination import examine
    from edge_agent.doctor.finding import Result
    from wire.clock import SystemClock

    try:
        found = examine(file, user, SystemClock())
    except KeyError as error:
        raise click.BadParameter(f'there is no user "{user}"', param_hint="--user") from error
    if as_json:
        print(json.dumps(as_document(found, file), indent=2))
    else:
        print(as_text(found, in_colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    raise SystemExit(exits.FAILED if found.result is Result.FAILED else exits.OK)


def as_document(found: Examination, file: Path) -> dict[str, Any]:
    """Fields as docs/operating/doctor.md describes them."""
    from dataclasses import asdict

    from edge_agent.version import VERSION

    return {
        "schema_version": SCHEMA_VERSION,
        "result": found.result,
        "counts": found.counts,
        "version": VERSION,
        "config": str(file),
        "account": found.account,
        "checks": [asdict(finding) for finding in found.findings],
    }


def as_text(found: Examination, in_colour: bool) -> str:
    """For people: groups, what helps under what is wrong, and the sum."""
    from edge_agent.commands.status import paint

    lines = []
    width = max(len(finding.id) for finding in found.findings)
    for group, findings in groupby(found.findings, key=lambda finding: finding.id.partition(".")[0]):
        lines.append(group)
        for finding in findings:
            word = finding.result if finding.result == "skipped" else paint(finding.result, finding.result, in_colour)
            about = f"{finding.subject}: " if finding.subject else ""
            lines.append(f"  {word}{' ' * (8 - len(finding.result))} {finding.id:{width}}  {about}{finding.text}")
            if finding.fix:
                lines.append(f"  {'':8} {'':{width}}  > {finding.fix}")
    counts = ", ".join(f"{count} {result}" for result, count in found.counts.items())
    who = f"; looked at for the user {found.account}" if found.account else ""
    return "\n".join([*lines, "", f"{counts}{who}"])
